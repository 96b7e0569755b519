"""Random changes of a training clip, under which its frames, their times and its moments stay together.

In this order: a crop in time, a shift, a change of speed, a change of colour. All act on the decoded clip, so that the
caches of clips go on serving, and none adds a frame or a digit to a time: a batch never outgrows what was planned.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torchvision.transforms.v2 import functional

from vtg.annotations.sample import Sample
from vtg.annotations.target import Span, Spans
from vtg.config.data_settings import AugmentationConfig
from vtg.config.schema import SFTConfig
from vtg.video.clip import Clip


class Augmentation:
    """Draws the changes of training clips.

    Args:
        pads: clips are padded to a number of frames (`video.pad`), which a crop must not change.
        temporal_patch: a cropped clip keeps a multiple of so many frames.
        seed: of the run. A draw depends on it, the epoch and the sample alone, whatever the worker, rank or resume.
    """

    def __init__(self, config: AugmentationConfig, *, pads: bool, temporal_patch: int, seed: int) -> None:
        self.config, self.pads, self.temporal_patch, self.seed = config, pads, temporal_patch, seed

    @classmethod
    def of(cls, config: SFTConfig, processor: Any) -> "Augmentation | None":
        """That of a training; None where nothing changes."""
        if not config.augmentation.is_on:
            return None
        patch = processor.video_processor.temporal_patch_size
        return cls(config.augmentation, pads=config.video.pad, temporal_patch=patch, seed=config.seed)

    def __call__(self, sample: Sample, clip: Clip, *, epoch: int) -> tuple[Sample, Clip]:
        """The sample and its clip, changed alike; both as they were where nothing is drawn.

        Samples of other tasks than spans change in colour alone. The sample's duration and spans are those of the
        changed clip; its `video_start_s` and `video_end_s` still say where in its file the clip as a whole lies.
        """
        config, of_row = self.config, self._rng(epoch, f"row:{sample.qid}")
        in_time = sample.target.task == Spans.task  # what other targets say of the clip would no longer be true
        if in_time and of_row.random() < config.crop:
            sample, clip = self._cropped(sample, clip, of_row)
        if in_time and of_row.random() < config.shift:
            sample, clip = _shifted(sample, clip, of_row)
        # By clip and not by row: rows that share their video in a batch must go on showing the same pixels and times.
        of_clip = self._rng(epoch, f"clip:{clip.path}:{clip.start_s}:{clip.end_s}")
        if in_time and config.speed > 1:
            sample, clip = _played_at(sample, clip, config.speed ** of_clip.uniform(-1, 1))
        if config.color:
            clip = replace(clip, frames=_recoloured(clip.frames, of_clip.uniform(-config.color, config.color, 3)))
        return sample, clip

    def _rng(self, epoch: int, key: str) -> np.random.Generator:
        # Not `hash`, which Python salts anew in every process.
        return np.random.default_rng([self.seed, epoch, crc32(key.encode())])

    def _cropped(self, sample: Sample, clip: Clip, rng: np.random.Generator) -> tuple[Sample, Clip]:
        """A part of the clip, at least `crop_min_share` of it, that holds all of the sample's moments."""
        duration_s = clip.duration_s
        first_s = min((start for start, _ in sample.spans), default=duration_s)
        last_s = max((end for _, end in sample.spans), default=0.0)
        length_s = rng.uniform(max(self.config.crop_min_share * duration_s, last_s - first_s), duration_s)
        start_s = rng.uniform(max(0.0, last_s - length_s), min(first_s, duration_s - length_s))
        inside = np.flatnonzero((clip.timestamps_s >= start_s) & (clip.timestamps_s < start_s + length_s))
        kept = inside[: len(inside) // self.temporal_patch * self.temporal_patch]
        if not len(kept):  # between two frames of a sparsely sampled clip there is nothing to see
            return sample, clip
        times_s = clip.timestamps_s[kept] - start_s
        cropped = replace(
            clip,
            frames=clip.frames[kept],
            timestamps_s=times_s,
            # A span may end with the clip, and rounding must not put it behind the end.
            duration_s=max(length_s, last_s - start_s),
            pad=clip.pad + len(clip.frames) - len(kept) if self.pads else 0,
        )
        moved = [(max(0.0, start - start_s), end - start_s) for start, end in sample.spans]
        return _with_times(sample, moved, cropped.duration_s), cropped


def _shifted(sample: Sample, clip: Clip, rng: np.random.Generator) -> tuple[Sample, Clip]:
    """The clip cut at a time outside all moments, its second part first: no prior over times survives.

    Moments that trade places with the rest of their video reduce what a model learns of times without looking (Hao et
    al., "Can Shuffling Video Benefit Temporal Bias Problem", ECCV 2022).
    """
    gaps = _gaps(sample.spans, clip.duration_s)
    lengths = [end - start for start, end in gaps]
    if not sum(lengths):  # the moments fill the clip
        return sample, clip
    start, end = gaps[rng.choice(len(gaps), p=np.divide(lengths, sum(lengths)))]
    cut_s, duration_s = rng.uniform(start, end), clip.duration_s
    later = clip.timestamps_s >= cut_s
    order = np.concatenate([np.flatnonzero(later), np.flatnonzero(~later)])
    times_s = np.where(later, clip.timestamps_s - cut_s, clip.timestamps_s + (duration_s - cut_s))[order]
    if not (np.diff(times_s) > 0).all() or times_s[-1] >= duration_s:  # a cut within rounding of a frame's time
        return sample, clip
    moved = sorted(
        (a - cut_s, b - cut_s) if a >= cut_s else (a + duration_s - cut_s, min(duration_s, b + duration_s - cut_s))
        for a, b in sample.spans
    )
    return _with_times(sample, moved, duration_s), replace(clip, frames=clip.frames[order], timestamps_s=times_s)


def _gaps(spans: Sequence[Span], duration_s: float) -> list[Span]:
    """What of [0, duration_s] no span covers, one part at least; parts may be empty."""
    gaps, covered_s = [], 0.0
    for start, end in sorted(spans):
        gaps.append((covered_s, max(covered_s, start)))
        covered_s = max(covered_s, end)
    return [*gaps, (covered_s, max(covered_s, duration_s))]


def _played_at(sample: Sample, clip: Clip, speed: float) -> tuple[Sample, Clip]:
    """The same frames in a shorter (`speed` over 1) or longer time."""
    # A clip slowed past a power of ten would need one more token in each of its times than its batch was planned with.
    limit_s = 10.0 ** max(1, math.floor(math.log10(clip.duration_s)) + 1)
    speed = max(speed, clip.duration_s / (limit_s - 0.1)) if clip.duration_s < limit_s - 0.1 else max(speed, 1.0)
    duration_s = clip.duration_s / speed
    moved = [(start / speed, min(end / speed, duration_s)) for start, end in sample.spans]
    played = replace(clip, timestamps_s=clip.timestamps_s / speed, duration_s=duration_s)
    return _with_times(sample, moved, duration_s), played


def _recoloured(frames: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """Frames (T, 3, H, W) uint8 with brightness, contrast and saturation times 1 + `changes` (3,), alike in all."""
    brightness, contrast, saturation = (1 + float(change) for change in changes)
    tensor = functional.adjust_brightness(torch.from_numpy(frames), brightness)
    return functional.adjust_saturation(functional.adjust_contrast(tensor, contrast), saturation).numpy()


def _with_times(sample: Sample, spans: Sequence[Span], duration_s: float) -> Sample:
    target = Spans(tuple(spans)) if spans else sample.target
    return replace(sample, target=target, duration_s=duration_s)
