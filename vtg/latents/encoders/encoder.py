"""What all encoders have in common: clips in, latents and the time of each of them out."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from vtg.errors import ConfigError
from vtg.latents.latents import Latents, joined
from vtg.video.clip import Clip


class Encoder(nn.Module, ABC):
    """A model that makes a grid of features of the frames of a clip. Frozen, but for what `train_modules` names.

    Attributes:
        model: the Hugging Face module; names of modules and parameters are its own.
        identity: of the weights as they were loaded, and all else that latents depend on; a name for files.
        frames_per_latent: frames that one latent spans.
        frame_size_px: (height, width) that frames of clips must have; None where any are resized as the encoder's
            processor says.
        processed_size: (height, width) of the frames that the model reads.
        dim, grid: D, and (H, W), of its latents.
    """

    frames_per_latent: int
    frame_size_px: tuple[int, int] | None
    processed_size: tuple[int, int]
    dim: int
    grid: tuple[int, int]

    def __init__(self, model: nn.Module, *, identity: str) -> None:
        super().__init__()
        self.model, self.identity = model, identity
        # First frozen as a whole, so that what is trained has to be named.
        self.requires_grad_(False)
        self.eval()

    @abstractmethod
    def features(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, frames, 3, height, width) uint8, of whole latents, → (B, D, T, H, W)."""

    def encode(self, clips: Sequence[Clip]) -> Latents:
        """The latents of clips, in their order; without gradients unless a part of the encoder is trained.

        The latents of a clip do not depend on what clips are beside it: those of other sizes or lengths are encoded
        apart, and latents filled up with unobserved ones. Padding (`clip.pad`, and what is missing to whole latents)
        is read by the model as repeats of the last frame.

        Raises:
            ConfigError: frames of another size than the encoder reads.
        """
        if not clips:
            raise ValueError("no clips to encode")
        with torch.set_grad_enabled(self.is_trained and torch.is_grad_enabled()):
            encoded = self._encoded(clips)
        return joined(encoded)

    def _encoded(self, clips: Sequence[Clip]) -> list[Latents]:
        """The latents of each clip, as batches of one."""
        alike: dict[tuple[int, ...], list[int]] = {}
        read = [self._padded(clip) for clip in clips]
        for at, (frames, _, _) in enumerate(read):
            alike.setdefault(frames.shape, []).append(at)
        encoded: list[Latents | None] = [None] * len(clips)
        for batch in alike.values():
            # In one batch of their own size: padded to others, what the model sees of a clip would depend on them.
            values = self.features(torch.from_numpy(np.stack([read[at][0] for at in batch])))
            for row, at in enumerate(batch):
                times_s, observed = (torch.from_numpy(part)[None].to(values.device) for part in read[at][1:])
                encoded[at] = Latents(values[row : row + 1], times_s, observed)
        return [latents for latents in encoded if latents is not None]

    def _padded(self, clip: Clip) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Frames of whole latents, (T,) the time of each latent, and (T,) whether it was made of a real frame."""
        wanted = self.frame_size_px
        if wanted is not None and clip.frames.shape[2:] != wanted:
            given = "x".join(map(str, clip.frames.shape[2:]))
            raise ConfigError(
                f"{clip.path}: its frames are {given} pixels (height x width), but the encoder reads "
                f"{wanted[0]}x{wanted[1]}; read clips in that size, or set encoder.frame_size to theirs"
            )
        frames, frame_times_s, is_real = clip.padded()
        missing = -len(frames) % self.frames_per_latent
        at = np.minimum(np.arange(len(frames) + missing), len(frames) - 1)
        is_real = np.concatenate([is_real, np.zeros(missing, dtype=bool)])
        times_s, observed = latent_times(frame_times_s[at], is_real, self.frames_per_latent)
        return frames[at] if missing else frames, times_s, observed

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    @property
    def is_trained(self) -> bool:
        """Whether any of its parameters is."""
        return any(parameter.requires_grad for parameter in self.parameters())

    def train(self, mode: bool = True) -> "Encoder":
        """As of any module; what is frozen as a whole stays in evaluation mode."""
        return super().train(mode and self.is_trained)


def latent_times(
    frame_times_s: np.ndarray, is_real: np.ndarray, frames_per_latent: int
) -> tuple[np.ndarray, np.ndarray]:
    """(T,) float64 the mean time of the real frames of each latent, and (T,) bool whether there are any.

    Args:
        frame_times_s: (frames,) float64, whole latents of them; those of padding are the last real frame's.
        is_real: (frames,) bool.
    """
    times_s = frame_times_s.reshape(-1, frames_per_latent)
    weights = is_real.reshape(-1, frames_per_latent)
    observed = np.asarray(weights.any(axis=1))
    # Of padding alone the mean would be of nothing: its frames stand at the last real one's time.
    weights = weights | ~observed[:, None]
    return (times_s * weights).sum(axis=1) / weights.sum(axis=1), observed


def identity_of(name: str, model: nn.Module, settings: dict[str, object]) -> str:
    """`NAME-` and a digest of the kind, every weight and buffer to the bit, and `settings` (JSON values).

    Content rather than a path: one checkpoint has one identity on every machine, and another after more training.
    """
    digest = hashlib.sha256(json.dumps([name, settings], sort_keys=True, default=str).encode())
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return f"{name}-{digest.hexdigest()[:32]}"
