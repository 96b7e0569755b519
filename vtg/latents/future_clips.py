"""A clip in two: what a predictor sees, and what it is to predict."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from vtg.errors import SampleError
from vtg.latents.clip_reading import ClipReader
from vtg.latents.encoders.encoder import Encoder
from vtg.latents.latent_cache import LatentCache
from vtg.latents.latents import Latents, joined
from vtg.video.clip import Clip
from vtg.video.video_window import VideoWindow


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
        # What a short video has not lies behind its last frame: all of it is missing in the target.
        return cls(replace(before, pad=0), after)

    @classmethod
    def blank(cls, encoder: Encoder) -> "FutureClip":
        """Black frames: for a process whose batch has no clip, but must run forward and backward as others do."""
        count = encoder.frames_per_latent
        frames = np.zeros((2 * count, 3, *(encoder.frame_size_px or encoder.processed_size)), np.uint8)
        clip = Clip(frames, np.arange(2.0 * count), 2.0 * count, "(black)", 0.0, 2.0 * count)
        return cls.of(clip, context_s=float(count), step_s=1.0)


@dataclass(frozen=True)
class FutureLatents:
    """Contexts and targets of B clips, as predictors read them."""

    context: Latents
    target: Latents

    @classmethod
    def encoded(cls, encoder: Encoder, clips: Sequence[FutureClip]) -> "FutureLatents":
        """The latents of clips, on the encoder's device."""
        return cls(encoder.encode([clip.context for clip in clips]), encoder.encode([clip.target for clip in clips]))

    @classmethod
    def joined(cls, parts: Sequence["FutureLatents"]) -> "FutureLatents":
        """Several as one batch."""
        return cls(joined([part.context for part in parts]), joined([part.target for part in parts]))

    def clips(self, at: slice) -> "FutureLatents":
        """Some of the B clips."""
        return FutureLatents(self.context.clips(at), self.target.clips(at))

    def to(self, device: torch.device) -> "FutureLatents":
        """The same on another device."""
        return FutureLatents(self.context.to(device), self.target.to(device))

    def unobserved(self) -> "FutureLatents":
        """The same, of whose targets nothing counts."""
        return replace(self, target=replace(self.target, observed=torch.zeros_like(self.target.observed)))


@dataclass(frozen=True, eq=False)
class FoundFuture:
    """A clip before it reaches the encoder: its latents where a cache has them, else its frames; never both.

    Attributes:
        key: of the latents in the cache; None without one.
        latents: a batch of one, on the CPU.
    """

    key: str | None
    clip: FutureClip | None
    latents: FutureLatents | None

    def observed(self, frames_per_latent: int) -> int:
        """How many latents of its target are observed, or will be."""
        # Without the encoder, which has not seen the clip yet: every rank has to know before the first of them runs.
        if self.latents is not None:
            return int(self.latents.target.observed.sum())
        assert self.clip is not None
        return -(-len(self.clip.target.frames) // frames_per_latent)


class FutureReader:
    """Finds the clips of rows' windows in the cache, or decodes them. Needs no encoder; can be pickled.

    Args:
        context_s: seconds that are seen.
        cache: None: there is none.
        identity: of the encoder.
    """

    def __init__(self, reader: ClipReader, cache: LatentCache | None, *, context_s: float, identity: str) -> None:
        self.reader, self.cache, self.context_s, self.identity = reader, cache, context_s, identity

    def find(self, window: VideoWindow, *, start_s: float) -> FoundFuture:
        """The clip that begins `start_s` after the start of a row's window.

        Raises:
            DecodeError, SampleError: see `ClipReader.clip`, `FutureClip.of`.
        """
        key = latents = None
        if self.cache is not None:
            whole = self.reader.key(window, start_s=start_s, identity=self.identity)
            # The same clip parted elsewhere is encoded otherwise, and so are other latents.
            key = hashlib.sha256(f"{whole} {self.context_s!r}".encode()).hexdigest()
            latents = self._cached(self.cache, key)
        if latents is not None:
            return FoundFuture(key, None, latents)
        clip = self.reader.clip(window, start_s=start_s)
        step_s = self.reader.span_s(window) / self.reader.settings.n_frames
        return FoundFuture(key, FutureClip.of(clip, context_s=self.context_s, step_s=step_s), None)

    def _cached(self, cache: LatentCache, key: str) -> FutureLatents | None:
        # Two entries, either of which may have been evicted: half of a clip is none.
        context, target = cache.find(f"{key} context"), cache.find(f"{key} target")
        return None if context is None or target is None else FutureLatents(context, target)

    def keep(self, key: str, latents: FutureLatents) -> None:
        """Stores the latents of one clip."""
        assert self.cache is not None
        self.cache.keep(f"{key} context", latents.context)
        self.cache.keep(f"{key} target", latents.target)
