"""A clip in two: what a predictor sees, and what it is to predict."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from vtg.errors import SampleError
from vtg.latents.encoders.encoder import Encoder
from vtg.latents.latents import Latents
from vtg.video.clip import Clip


@dataclass(frozen=True)
class FutureClip:
    """Context and target of one clip. The times of both are those of the whole clip."""

    context: Clip
    target: Clip

    @classmethod
    def of(cls, clip: Clip, *, context_s: float, step_s: float) -> "FutureClip":
        """The two parts of a clip, whose frames are `step_s` apart.

        Encoders are shown each part alone: one that attends over time would tell the context what comes after it.

        Raises:
            SampleError: the video ends before anything is left to predict.
        """
        # Half a step before: frames are those nearest to even steps, and so as often before their step as behind.
        seen = int(np.searchsorted(clip.timestamps_s, context_s - step_s / 2))
        if not 0 < seen < len(clip.frames):
            raise SampleError(
                f"{clip.path}: its clip of {len(clip.frames)} frames from {clip.timestamps_s[0]:.10g} to "
                f"{clip.timestamps_s[-1]:.10g} s has nothing to predict after a context of {context_s:.10g} s"
            )
        before, after = (
            replace(clip, frames=clip.frames[part], timestamps_s=clip.timestamps_s[part])
            for part in (slice(seen), slice(seen, None))
        )
        return cls(replace(before, pad=0), after)


@dataclass(frozen=True)
class FutureLatents:
    """Contexts and targets of B clips, as predictors read them."""

    context: Latents
    target: Latents

    @classmethod
    def encoded(cls, encoder: Encoder, clips: list[FutureClip]) -> "FutureLatents":
        """The latents of clips, on the encoder's device."""
        return cls(encoder.encode([clip.context for clip in clips]), encoder.encode([clip.target for clip in clips]))


def observed_steps(clip: FutureClip, frames_per_latent: int) -> int:
    """How many of the target's latents will be observed."""
    return -(-len(clip.target.frames) // frames_per_latent)


def blank_clip(encoder: Encoder) -> FutureClip:
    """A clip of black frames, for a process whose batch has none: it must run forward and backward as others do."""
    count = encoder.frames_per_latent
    frames = np.zeros((2 * count, 3, *(encoder.frame_size_px or encoder.processed_size)), np.uint8)
    clip = Clip(frames, np.arange(2.0 * count), 2.0 * count, "(black)", 0.0, 2.0 * count)
    return FutureClip.of(clip, context_s=float(count), step_s=1.0)


def unobserved(latents: Latents) -> Latents:
    """The same, none of which counts."""
    return replace(latents, observed=torch.zeros_like(latents.observed))
