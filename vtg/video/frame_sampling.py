"""Which frames of a clip are taken. Pure functions of numbers: no decoder, no file.

A policy looks at the true times of the clip's frames and picks indices into them:

- `fps`: the frame nearest to each of 0, 1/fps, 2/fps … (`fps` = 0: every frame); with `last_frame`, the last one too.
- `uniform`: `max_frames` frames at even times from the first frame to the last.
- `random`: one frame drawn from each of `max_frames` equal parts of the clip's duration.
- `keyframe`: the frames that decode on their own.
- `molmo2`: Molmo2's rule (arXiv:2601.10611; there with `fps` = 2): the `fps` grid and always the last frame, so that
  the first and the last one are in (with `max_frames` = 1 only the first).

Then, for every policy, in this order:

1. No more than `max_frames` (rounded down to a multiple of `temporal_patch`): more than that are thinned evenly; an
   fps grid (of `fps` or `molmo2`) becomes `uniform`, keyframes stay keyframes.
2. At least `min_frames`, in a multiple of `temporal_patch`: while the clip has frames left, the frame nearest to the
   middle of the longest gap is added. A clip with fewer frames gives all it has; repeating the last frame to fill a
   temporal patch is left to the model input.
3. With `pad`, a clip that still has fewer than `min_frames` is to be padded with masked repeats of its last frame
   (`padding` says how many); the model input appends them.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from vtg.config.video_settings import VideoConfig
from vtg.errors import ConfigError


def choose_frames(
    times_s: np.ndarray,
    config: VideoConfig,
    *,
    duration_s: float,
    is_key: np.ndarray | None = None,
    temporal_patch: int = 1,
    seed: int | None = None,
) -> np.ndarray:
    """Indices (T,) int64, strictly increasing, of the frames to take; 1 <= T <= config.max_frames.

    Args:
        times_s: (N,) times of the clip's frames, strictly increasing, in [0, duration_s), N >= 1.
        is_key: (N,) bool, needed by the `keyframe` policy.
        temporal_patch: T becomes a multiple of it where the clip has enough frames and `max_frames` is not below it.
        seed: of the `random` policy; None counts as 0. Other policies ignore it.

    Raises:
        ValueError: an unknown policy (the valid ones are listed), or no frame to choose from.
    """
    policy = policy_named(config)
    count = len(times_s)
    if count == 0:
        raise ValueError("no frames to choose from: the clip has none; check its start and end")
    limit = min(frame_cap(config, temporal_patch), count)
    chosen = policy(times_s, config, duration_s=duration_s, is_key=is_key, limit=limit, seed=seed or 0)
    wanted = min(whole_patches(max(len(chosen), config.min_frames), temporal_patch), limit)
    return fill_gaps(chosen, times_s, wanted, duration_s=duration_s)


def padding(count: int, config: VideoConfig, *, temporal_patch: int = 1) -> int:
    """How many repeats of its last frame a clip of `count` frames is to be padded with: 0 unless `config.pad`.

    Padded it has `min_frames` frames, in whole temporal patches, but never more than `max_frames` allows.
    """
    if not config.pad:
        return 0
    return max(0, min(whole_patches(config.min_frames, temporal_patch), frame_cap(config, temporal_patch)) - count)


def fps_policy(times_s: np.ndarray, config: VideoConfig, *, duration_s: float, limit: int, **_: object) -> np.ndarray:
    count = len(times_s)
    chosen = np.arange(count)
    spacing_s = float(np.diff(times_s).min()) if count > 1 else math.inf
    # With two or more grid points to every frame each frame is the nearest to one of them.
    if config.fps > 0 and config.fps * spacing_s <= 2:
        # A clip of 10.0000001 s has the grid of one of 10 s: trims and containers round in the sixth decimal.
        points = math.ceil(duration_s * config.fps - 1e-6)
        chosen = nearest(times_s, np.arange(max(points, 1)) / config.fps)
        if config.last_frame and chosen[-1] != count - 1:
            chosen = np.append(chosen, count - 1)
    return chosen if len(chosen) <= limit else even_frames(times_s, limit, duration_s=duration_s)


def uniform_policy(
    times_s: np.ndarray, config: VideoConfig, *, duration_s: float, limit: int, **_: object
) -> np.ndarray:
    return even_frames(times_s, limit, duration_s=duration_s)


def random_policy(
    times_s: np.ndarray, config: VideoConfig, *, duration_s: float, limit: int, seed: int, **_: object
) -> np.ndarray:
    generator = np.random.default_rng(seed)
    edges = np.searchsorted(times_s, np.arange(limit + 1) * (duration_s / limit))
    edges[0], edges[-1] = 0, len(times_s)
    # One draw for each part, empty or not, so that a gap in one place does not change the rest.
    draws = generator.random(limit)
    first, stop = edges[:-1], edges[1:]
    return (first + (draws * (stop - first)).astype(np.int64))[stop > first]


def keyframe_policy(
    times_s: np.ndarray, config: VideoConfig, *, limit: int, is_key: np.ndarray | None, **_: object
) -> np.ndarray:
    if is_key is None:
        raise ValueError("video.sampling = 'keyframe': needs is_key, which of the frames are keyframes")
    keys = np.flatnonzero(is_key)
    # A trim, or an edit list of a stream copy, may hide the only keyframe.
    if len(keys) == 0:
        keys = np.zeros(1, dtype=np.int64)
    if len(keys) > limit:
        keys = keys[np.round(np.linspace(0, len(keys) - 1, limit)).astype(np.int64)]
    return keys


def molmo2_policy(times_s: np.ndarray, config: VideoConfig, **rest: Any) -> np.ndarray:
    return fps_policy(times_s, replace(config, last_frame=True), **rest)


POLICIES: dict[str, Callable[..., np.ndarray]] = {
    "fps": fps_policy,
    "uniform": uniform_policy,
    "random": random_policy,
    "keyframe": keyframe_policy,
    "molmo2": molmo2_policy,
}
"""Name → policy(times_s, config, *, duration_s, is_key, limit, seed) → at most `limit` increasing indices."""


def nearest(times_s: np.ndarray, wanted_s: np.ndarray) -> np.ndarray:
    """Indices of the frames nearest to the wanted times (at a tie the earlier one), increasing, each once."""
    after = np.searchsorted(times_s, wanted_s).clip(0, len(times_s) - 1)
    before = (after - 1).clip(0)
    is_before = np.abs(wanted_s - times_s[before]) <= np.abs(times_s[after] - wanted_s)
    return np.unique(np.where(is_before, before, after))


def even_frames(times_s: np.ndarray, number: int, *, duration_s: float) -> np.ndarray:
    """`number` <= N indices at even times from the first frame to the last."""
    # With a variable rate several times may share their nearest frame; the missing ones fill the longest gaps.
    chosen = nearest(times_s, np.linspace(times_s[0], times_s[-1], number))
    return fill_gaps(chosen, times_s, number, duration_s=duration_s)


def fill_gaps(chosen: np.ndarray, times_s: np.ndarray, number: int, *, duration_s: float) -> np.ndarray:
    """Adds frames until there are `number` <= N: each time the one nearest to the middle of the longest gap.

    The start and the end of the clip bound the first and the last gap.
    """
    picked = np.array(chosen, dtype=np.int64)
    while len(picked) < number:
        # -1 and N stand for the clip's start and end. A gap without a free frame in it counts as negative.
        marks = np.concatenate([[-1], picked, [len(times_s)]])
        marks_s = np.concatenate([[0.0], times_s[picked], [duration_s]])
        gaps_s = np.where(np.diff(marks) > 1, np.diff(marks_s), -1.0)
        at = int(gaps_s.argmax())
        middle_s = (marks_s[at] + marks_s[at + 1]) / 2
        free = np.arange(marks[at] + 1, marks[at + 1])
        picked = np.insert(picked, at, free[np.abs(times_s[free] - middle_s).argmin()])
    return picked


def policy_named(config: VideoConfig) -> Callable[..., np.ndarray]:
    if config.sampling not in POLICIES:
        raise ConfigError(f"video.sampling = {config.sampling!r}: must be one of {', '.join(POLICIES)}")
    return POLICIES[config.sampling]


def frame_cap(config: VideoConfig, temporal_patch: int) -> int:
    """The most frames a clip may have: `max_frames`, in whole temporal patches if it is more than one."""
    # Down, not up: `max_frames` is a promise about memory.
    cap = config.max_frames
    return cap - cap % temporal_patch if cap > temporal_patch else cap


def whole_patches(frames: int, temporal_patch: int) -> int:
    """`frames` rounded up to whole temporal patches."""
    return -(-frames // temporal_patch) * temporal_patch
