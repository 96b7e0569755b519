"""A clip that goes by what a frozen vision tower makes of it: found in a folder, or to be put there under its key."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided

from vtg.video.clip import Clip

TICKET = "ticket"
"""Of features: which `SeenClip` they are of, (bytes,) uint8, as its `ticket`. It stays out of batches for the model."""

FACTS = tuple(field.name for field in fields(Clip) if field.name not in ("frames", "timestamps_s"))


@dataclass(frozen=True, repr=False, eq=False)
class SeenClip(Clip):
    """See the module.

    Attributes:
        key: the name of what the tower makes of it.
        inputs: that, in place of its pixels, under the names of what a model reads: then `frames` are all zero, and
            take no memory. None: nobody has kept it yet, and `frames` are its own.
    """

    key: str = ""
    inputs: Mapping[str, torch.Tensor] | None = None

    @classmethod
    def unseen(cls, clip: Clip, key: str) -> Self:
        return cls(clip.frames, clip.timestamps_s, **{name: getattr(clip, name) for name in FACTS}, key=key)

    @classmethod
    def from_ticket(cls, ticket: torch.Tensor, inputs: Mapping[str, torch.Tensor], *, path: str) -> Self:
        """The clip of a ticket without its frames; `path`: where it is now, as one entry may serve several links."""
        said = json.loads(bytes(ticket.numpy()))
        shape = said.pop("shape")
        frames = as_strided(np.zeros(1, np.uint8), shape, (0,) * len(shape))
        times_s = np.array(said.pop("timestamps_s"), dtype=np.float64)
        return cls(frames, times_s, **(said | {"path": path}), inputs=inputs)

    @property
    def ticket(self) -> torch.Tensor:
        """(bytes,) uint8: the key and all that a conversation about the clip needs of it beside pixels, as JSON."""
        said = {name: getattr(self, name) for name in (*FACTS, "key")}
        said |= {"shape": self.frames.shape, "timestamps_s": self.timestamps_s.tolist()}
        text = json.dumps(said, default=np.generic.item)
        return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def ticket_key(ticket: torch.Tensor) -> str:
    """The key of the clip that a ticket is of."""
    return json.loads(bytes(ticket.cpu().numpy()))["key"]


def without_video_processing(processor: Any, inputs: Mapping[str, torch.Tensor]) -> Any:
    """The processor, which writes conversations as ever, for a clip of which `inputs` are all that its video processor
    would make."""
    other = copy.copy(processor)
    other.video_processor = _Processed(processor.video_processor, inputs)
    return other


class _Processed:
    """In place of a video processor whose work is done."""

    def __init__(self, own: Any, inputs: Mapping[str, torch.Tensor]) -> None:
        self._own, self._inputs = own, inputs

    def __call__(self, videos: Any, *, video_metadata: Any, **options: Any) -> dict[str, Any]:
        return {**self._inputs, "video_metadata": video_metadata}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)
