"""What a clip costs in tokens, by the model's family: of its frames, and of the text that tells their times."""

from dataclasses import dataclass
from typing import Protocol


class ClipLimits(Protocol):
    """Settings that bound a clip: `vtg.config.video_settings.VideoConfig` has them."""

    max_frames: int
    max_pixels: int
    total_pixels: int

    def fixed_size(self, factor: int) -> tuple[int, int] | None:
        """(height, width) of every frame, where the settings name one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCost:
    """How a family makes tokens of frames.

    Attributes:
        factor: pixels a side of one vision token.
        temporal_patch: frames that one vision token spans.
        side: pixels a side of every frame, which is a square; None where frames keep their shape.
        stamp_tokens: at most so many tokens of text around one temporal patch, for clips shorter than 100,000 s.
    """

    factor: int
    temporal_patch: int
    side: int | None
    stamp_tokens: int

    @property
    def token_pixels(self) -> int:
        """Pixels, over all its frames, of one vision token."""
        return self.temporal_patch * self.factor**2

    def fixed_size(self, limits: ClipLimits) -> tuple[int, int] | None:
        """(height, width) of every frame, where the model or the settings have one for all."""
        return limits.fixed_size(self.factor) if self.side is None else (self.side, self.side)

    def longest_patches(self, limits: ClipLimits) -> int:
        """Temporal patches of the clip with the most frames that these limits allow."""
        frames = limits.max_frames
        if (size := self.fixed_size(limits)) is not None:  # frames cannot shrink into total_pixels: they become fewer
            frames = min(frames, limits.total_pixels // (size[0] * size[1]))
        # A single frame is repeated to fill its patch; more of them are cut to whole patches.
        return max(1, frames // self.temporal_patch)

    def longest_vision(self, limits: ClipLimits) -> int:
        """The most vision tokens that a clip can have under these limits."""
        patches = self.longest_patches(limits)
        if (size := self.fixed_size(limits)) is not None:
            return patches * (size[0] // self.factor) * (size[1] // self.factor)
        pixels = min(limits.total_pixels, patches * self.temporal_patch * limits.max_pixels)
        return pixels // self.token_pixels

    def longest_stamps(self, limits: ClipLimits) -> int:
        """Tokens of all the text that tells the times of that clip."""
        return self.stamp_tokens * self.longest_patches(limits)
