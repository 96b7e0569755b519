"""What a frozen vision tower makes of clips, kept on disk: a clip that is there is neither decoded nor seen again.

    cache = TowerCache("/data/towers", max_bytes=…, tower=tower_identity(model))
    clip = cache.clip(provider, window)      # in data workers: without frames, where it is there
    features = encode(processor, messages, clip)
    encoded_video(model, features, cache)    # beside the model: found in the features, or made and kept

What is kept is exactly what the tower made, in its type, so that a run with the cache trains on the same numbers from
its first step to its last. Keys name the file, the sampling, the weights of tower and projector, and how they compute.
"""

import hashlib
import json
from collections import Counter

import torch

from vtg.data.seen_clip import TICKET, SeenClip, ticket_key
from vtg.data.tensor_folder import FORMAT, TensorFolder
from vtg.video.clip import Clip
from vtg.video.files.address import is_picture
from vtg.video.provider import ClipProvider
from vtg.video.video_window import VideoWindow


class TowerCache:
    """See the module. Can be pickled; counts start at zero then.

    Args:
        tower: what tells one tower, and how it computes, from another.

    Raises:
        ConfigError: see `TensorFolder`.
    """

    def __init__(self, folder: str, *, max_bytes: int, tower: str) -> None:
        self.tower = tower
        otherwise = "go through the vision tower each time"
        self._folder = TensorFolder(folder, max_bytes=max_bytes, setting="video.tower_cache", otherwise=otherwise)

    def clip(self, provider: ClipProvider, window: VideoWindow, *, seed: int = 0) -> Clip:
        """The clip of a window: without its frames where the tower has seen it, else the provider's.

        Raises:
            DecodeError: the file is not there, or cannot be read.
        """
        # Pictures are told no time, and are processed otherwise.
        if is_picture(window.path):
            return provider.clip(window, seed=seed)
        key = self._key(provider, window)
        entry = self._folder.read(key)
        if entry is None:
            return SeenClip.unseen(provider.clip(window, seed=seed), key)
        return SeenClip.from_ticket(entry.pop(TICKET), entry, path=window.path)

    def find(self, features: dict[str, torch.Tensor], *, pixels: str) -> torch.Tensor | None:
        """What the tower made of the clip of these features, which were encoded before it was there; on the CPU."""
        entry = self._folder.read(ticket_key(features[TICKET]))
        return None if entry is None else entry[pixels]

    def keep(self, features: dict[str, torch.Tensor], encoded: torch.Tensor, *, inputs: tuple[str, ...]) -> None:
        """Stores what the tower made of the clip of these features, where there is room.

        Args:
            inputs: the family's names of what a model reads of a clip; pixels, for which `encoded` stands, first.
        """
        ticket = features[TICKET]
        tensors = {name: features[name] for name in inputs[1:]} | {inputs[0]: encoded, TICKET: ticket}
        self._folder.write(ticket_key(ticket), tensors, what=f"a clip of {len(encoded)} vision tokens")

    def take_counts(self) -> Counter[str]:
        """`seen`: clips that were found since the last call, in this process."""
        return +Counter(seen=self._folder.take_counts()["hits"])

    def _key(self, provider: ClipProvider, window: VideoWindow) -> str:
        # The cache of clips may keep other pixels than the decoder gives (video.cache_format=compact).
        said = [FORMAT, provider.key(window), provider.config.cache_dir is not None, self.tower]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:40]
