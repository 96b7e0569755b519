"""What an encoder makes of clips: features on a grid of space and time, and the time of each of them."""

from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True, repr=False, eq=False)
class Latents:
    """Features of B clips.

    Attributes:
        values: (B, D, T, H, W), float32 or the encoder's type.
        times_s: (B, T) float64, seconds in the clip: the mean of the true presentation times of the frames that a
            latent was made of, padding aside.
        observed: (B, T) bool: False where a latent was made of padding frames alone, or stands for no frame at all.
            Its time is that of the clip's last frame.
    """

    # Channels before places, as convolutions and normalisation by channel take them.
    values: torch.Tensor
    times_s: torch.Tensor
    observed: torch.Tensor

    def __post_init__(self) -> None:
        values, times_s, observed = self.values, self.times_s, self.observed
        if values.ndim != 5 or not values.is_floating_point():
            raise ValueError(f"values must be (B, D, T, H, W) of floats, not {tuple(values.shape)} {values.dtype}")
        steps = (values.shape[0], values.shape[2])
        if times_s.shape != steps or times_s.dtype != torch.float64:
            raise ValueError(f"times_s must be {steps} float64, not {tuple(times_s.shape)} {times_s.dtype}")
        if observed.shape != steps or observed.dtype != torch.bool:
            raise ValueError(f"observed must be {steps} bool, not {tuple(observed.shape)} {observed.dtype}")

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Latents":
        """The same on another device; `dtype`: of the values alone, since half precision has no room for seconds."""
        return Latents(self.values.to(device, dtype), self.times_s.to(device), self.observed.to(device))

    def steps(self, at: slice) -> "Latents":
        """A part of the T steps of every clip, such as those before a moment."""
        return replace(self, values=self.values[:, :, at], times_s=self.times_s[:, at], observed=self.observed[:, at])

    def clips(self, at: slice) -> "Latents":
        """Some of the B clips."""
        return Latents(self.values[at], self.times_s[at], self.observed[at])

    def __repr__(self) -> str:
        size = "x".join(map(str, self.values.shape))
        return f"Latents({size} {self.values.dtype}, {int(self.observed.sum())} of {self.observed.numel()} observed)"


def joined(parts: list[Latents]) -> Latents:
    """Clips of several `Latents` as one batch, those of fewer steps filled up with zeros that are not observed."""
    longest = max(part.values.shape[2] for part in parts)
    filled = [_filled(part, longest) for part in parts]
    return Latents(*(torch.cat([getattr(part, name) for part in filled]) for name in ("values", "times_s", "observed")))


def _filled(part: Latents, steps: int) -> Latents:
    missing = steps - part.values.shape[2]
    if not missing:
        return part
    return Latents(
        torch.nn.functional.pad(part.values, (0, 0, 0, 0, 0, missing)),
        torch.cat([part.times_s, part.times_s[:, -1:].expand(-1, missing)], dim=1),
        torch.nn.functional.pad(part.observed, (0, missing)),
    )
