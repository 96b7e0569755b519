"""How wrong a predictor is along a video: each latent is predicted from those just before it.

People part what they see into events where their predictions fail (Zacks et al., Event perception: a mind-brain
perspective, 2007).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch

from vtg.latents.clip_reading import ClipReader
from vtg.latents.encoders.encoder import Encoder
from vtg.latents.future_clips import FutureClip, FutureLatents
from vtg.latents.predictors.baselines import copy_last
from vtg.latents.predictors.future_predictor import FuturePredictor
from vtg.latents.predictors.prediction_errors import l2
from vtg.video.clip import Clip
from vtg.video.video_window import VideoWindow

# Frames decoded at a time: an hour of video would not fit into memory, and one clip at a time is a seek each.
BLOCK_FRAMES = 512

BATCH = 16


@dataclass(frozen=True)
class Surprise:
    """Errors of prediction along a video.

    Attributes:
        times_s: (N,) float64, increasing: when the first frame of each predicted latent is shown, in seconds of the
            row's window.
        errors: (N,) float64, mean squared errors over the latent's channels and places.
        duration_s: of the window.
    """

    times_s: np.ndarray
    errors: np.ndarray
    duration_s: float

    @property
    def scores(self) -> np.ndarray:
        """(N,), in units of the video's mean error: videos differ in how much of them moves. 0 where nothing does."""
        mean = self.errors.mean() if len(self.errors) else 0.0
        return self.errors / mean if mean > 0 else np.zeros_like(self.errors)


class SurpriseReader:
    """Reads videos as a predictor was trained to: contexts of `context_s`, targets of the rest of a clip.

    Args:
        reader: of the clips that the predictor was trained on.
        predictor: None for the change since the last latent, which needs no training.
    """

    def __init__(
        self, encoder: Encoder, reader: ClipReader, *, context_s: float, predictor: FuturePredictor | None = None
    ) -> None:
        self.encoder, self.reader, self.predictor, self.context_s = encoder, reader, predictor, context_s
        settings, count = reader.settings, BLOCK_FRAMES
        seconds = None if settings.seconds is None else settings.seconds * count / settings.n_frames
        # Frames of a block are those that clips would have: both are the nearest to the same even steps.
        self._blocks = ClipReader(
            replace(settings, n_frames=count, seconds=seconds, start="first"), frame_size_px=reader.frame_size_px
        )

    def read(self, window: VideoWindow, *, told: Callable[[int], None] = lambda count: None) -> Surprise:
        """The errors along a row's window.

        Args:
            told: is given how many more latents have been predicted, again and again.

        Raises:
            DecodeError, SampleError: see `ClipReader.clip`.
        """
        times_s: list[float] = []
        errors: list[float] = []
        # Of what a flow draws: the same video has the same errors.
        generator = torch.Generator().manual_seed(0)
        clips = self._clips(window)
        while batch := list(islice(clips, BATCH)):
            errors += self._errors([clip for _, clip in batch], generator)
            times_s += [time_s for time_s, _ in batch]
            told(len(batch))
        return Surprise(np.array(times_s), np.array(errors), self.reader.length_s(window))

    @torch.no_grad()
    def _errors(self, clips: list[FutureClip], generator: torch.Generator) -> list[float]:
        latents = FutureLatents.encoded(self.encoder, clips)
        true = latents.target.values
        if self.predictor is None:
            errors = l2(copy_last(latents.context, latents.target.times_s), true.float())
        else:
            normalizer = self.predictor.normalizer
            said = self.predictor.predict(latents.context, latents.target.times_s, generator)
            errors = l2(normalizer(said), normalizer(true))
        # The next latent alone: what follows it is predicted by later contexts, which have seen more.
        return errors[:, 0].mean(dim=(1, 2)).double().tolist()

    def _clips(self, window: VideoWindow) -> Iterator[tuple[float, FutureClip]]:
        """When the first frame of each latent but the first is shown, and the clip that predicts it."""
        step_s = self.reader.span_s(window) / self.reader.settings.n_frames
        target_s = self.reader.span_s(window) - self.context_s
        unit = self.encoder.frames_per_latent
        held: Clip | None = None
        at = unit
        for block, is_last in self._frames(window):
            held = block if held is None else _followed(held, block)
            times_s = held.timestamps_s
            while at < len(times_s) and (is_last or times_s[-1] >= times_s[at] + target_s):
                first, end = reach(
                    times_s, at, context_s=self.context_s, target_s=target_s, unit=unit, slack_s=step_s / 2
                )
                missing = max(0, round(target_s / step_s) - (end - at))
                yield (
                    float(times_s[at]),
                    FutureClip(_part(held, first, at, first), replace(_part(held, at, end, first), pad=missing)),
                )
                at += unit
            if at < len(times_s):  # what later contexts do not reach is let go
                first, _ = reach(times_s, at, context_s=self.context_s, target_s=0, unit=unit, slack_s=step_s / 2)
                held, at = _rest(held, first), at - first

    def _frames(self, window: VideoWindow) -> Iterator[tuple[Clip, bool]]:
        """The window's frames in blocks, times relative to its start, and whether a block is the last."""
        block_s = self._blocks.span_s(window)
        shown_s = self.reader.times_s(window)
        # A block may be shorter than its last frame is shown, and have none of its own.
        starts = np.unique((shown_s // block_s).astype(int)) * block_s
        for start_s in starts.tolist():
            clip = self._blocks.clip(window, start_s=start_s)
            times_s, end_s = clip.timestamps_s + start_s, start_s + clip.duration_s
            yield replace(clip, timestamps_s=times_s, duration_s=end_s, pad=0), start_s == starts[-1]


def reach(
    times_s: np.ndarray, at: int, *, context_s: float, target_s: float, unit: int, slack_s: float
) -> tuple[int, int]:
    """The first frame of the context of the latent that begins with frame `at`, and the one after its target's last.

    Args:
        times_s: (N,) of the frames; `at` is `unit` or more.
        unit: frames of a latent; contexts are of whole ones, and at least one.
        slack_s: half the step between frames: they are as often before their step as behind.
    """
    first = int(np.searchsorted(times_s, times_s[at] - context_s - slack_s))
    latents = max(1, (at - first) // unit)
    end = int(np.searchsorted(times_s, times_s[at] + target_s - slack_s))
    return at - latents * unit, max(end, at + 1)


def _followed(one: Clip, other: Clip) -> Clip:
    frames = np.concatenate([one.frames, other.frames])
    times_s = np.concatenate([one.timestamps_s, other.timestamps_s])
    return replace(one, frames=frames, timestamps_s=times_s, duration_s=other.duration_s, end_s=other.end_s)


def _rest(clip: Clip, first: int) -> Clip:
    return replace(clip, frames=clip.frames[first:], timestamps_s=clip.timestamps_s[first:])


def _part(clip: Clip, first: int, end: int, zero: int) -> Clip:
    """Some of a clip's frames, times relative to the frame `zero`."""
    zero_s = float(clip.timestamps_s[zero])
    times_s = clip.timestamps_s[first:end] - zero_s
    return replace(clip, frames=clip.frames[first:end], timestamps_s=times_s, duration_s=clip.duration_s - zero_s)
