"""Which frames of a clip are taken, at which size, and what that costs. Pure functions of numbers: no decoder, no file.

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
   temporal patch is the model input's business.
3. With `pad`, a clip that still has fewer than `min_frames` is to be padded with masked repeats of its last frame
   (`padding` says how many); the model input appends them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
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
        seed: of the `random` policy; None counts as 0. Other policies take no notice of it.

    Raises:
        ValueError: an unknown policy (the valid ones are listed), or no frame to choose from.
    """
    policy = _policy(config)
    count = len(times_s)
    if count == 0:
        raise ValueError("no frames to choose from: the clip has none; check its start and end")
    limit = min(_cap(config, temporal_patch), count)
    chosen = policy(times_s, config, duration_s=duration_s, is_key=is_key, limit=limit, seed=seed or 0)
    wanted = min(_whole(max(len(chosen), config.min_frames), temporal_patch), limit)
    return fill_gaps(chosen, times_s, wanted, duration_s=duration_s)


def padding(count: int, config: VideoConfig, *, temporal_patch: int = 1) -> int:
    """How many repeats of its last frame a clip of `count` frames is to be padded with: 0 unless `config.pad`.

    Padded it has `min_frames` frames, in whole temporal patches, but never more than `max_frames` allows.
    """
    if not config.pad:
        return 0
    return max(0, min(_whole(config.min_frames, temporal_patch), _cap(config, temporal_patch)) - count)


def fps_policy(times_s: np.ndarray, config: VideoConfig, *, duration_s: float, limit: int, **_: object) -> np.ndarray:
    count = len(times_s)
    chosen = np.arange(count)
    spacing_s = float(np.diff(times_s).min()) if count > 1 else math.inf
    # With two or more grid points to every frame each frame is the nearest to one of them.
    if config.fps > 0 and config.fps * spacing_s <= 2:
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
    if len(keys) == 0:  # a stream copy may hide the only one
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
    """`number` <= N indices at even times from the first frame to the last; gaps of a variable rate are made up for."""
    chosen = nearest(times_s, np.linspace(times_s[0], times_s[-1], number))
    return fill_gaps(chosen, times_s, number, duration_s=duration_s)


def fill_gaps(chosen: np.ndarray, times_s: np.ndarray, number: int, *, duration_s: float) -> np.ndarray:
    """Adds frames until there are `number` <= N: each time the one nearest to the middle of the longest gap.

    The start and the end of the clip bound the first and the last gap.
    """
    picked = np.array(chosen, dtype=np.int64)
    while len(picked) < number:
        marks = np.concatenate([[-1], picked, [len(times_s)]])
        marks_s = np.concatenate([[0.0], times_s[picked], [duration_s]])
        gaps_s = np.where(np.diff(marks) > 1, np.diff(marks_s), -1.0)
        at = int(gaps_s.argmax())
        middle_s = (marks_s[at] + marks_s[at + 1]) / 2
        free = np.arange(marks[at] + 1, marks[at + 1])
        picked = np.insert(picked, at, free[np.abs(times_s[free] - middle_s).argmin()])
    return picked


def target_size(
    height: int,
    width: int,
    *,
    frames: int,
    factor: int,
    min_pixels: int,
    max_pixels: int,
    total_pixels: int,
) -> tuple[int, int]:
    """(height, width) in multiples of `factor` to which every frame of a clip is resized, aspect ratio kept.

    The size nearest to the frame's own with min_pixels <= height * width <= max_pixels and
    frames * height * width <= total_pixels. Where these contradict each other upper limits win over `min_pixels`:
    memory and tokens are never exceeded.

    Raises:
        ValueError: not even one patch a frame fits.
    """
    limit = min(max_pixels, total_pixels // frames)
    if limit < factor * factor:
        raise ConfigError(
            f"{frames} frames of at least {factor}x{factor} pixels do not fit into video.max_pixels = {max_pixels} and "
            f"video.total_pixels = {total_pixels}; lower video.max_frames to at most {total_pixels // factor**2}, "
            "or raise the limits"
        )
    rows, columns = max(1, round(height / factor)), max(1, round(width / factor))
    room = limit // factor**2
    if rows * columns > room:
        shrink = math.sqrt(height * width / limit)
        rows, columns = int(height / shrink / factor), int(width / shrink / factor)
    elif rows * columns * factor**2 < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        rows, columns = math.ceil(height * grow / factor), math.ceil(width * grow / factor)
        if rows * columns > room:
            rows, columns = int(height * grow / factor), int(width * grow / factor)
    rows, columns = max(1, rows), max(1, columns)
    # A very long and narrow picture: the short side is one patch, the long side gets what is left.
    if rows * columns > room:
        rows, columns = (min(rows, room), 1) if rows > columns else (1, min(columns, room))
    return rows * factor, columns * factor


def video_tokens(frames: int, height: int, width: int, *, factor: int, temporal_patch: int) -> int:
    """Vision tokens that a clip of `frames` frames of `height` x `width` (multiples of `factor`) costs."""
    return -(-frames // temporal_patch) * (height // factor) * (width // factor)


@dataclass(frozen=True, slots=True)
class ClipCost:
    """What a clip costs.

    Attributes:
        frames: T, the clip's own; decoded, it is (T, 3, height, width) uint8.
        pad: repeats of the last frame that the model input appends (`padding`).
        height, width: of every frame.
        tokens: vision tokens, those of padding included.
        bytes: of the decoded frames.
    """

    frames: int
    pad: int
    height: int
    width: int
    tokens: int
    bytes: int


def frames_cost(
    frames: int, *, height: int, width: int, config: VideoConfig, factor: int, temporal_patch: int
) -> ClipCost:
    """The cost of `frames` frames chosen out of a video of `height` x `width` pixels, upright.

    Raises:
        ConfigError: not even one patch a frame fits into the pixel limits.
    """
    pad = padding(frames, config, temporal_patch=temporal_patch)
    read = _whole(frames + pad, temporal_patch)
    height, width = target_size(
        height,
        width,
        frames=read,
        factor=factor,
        min_pixels=config.min_pixels,
        max_pixels=config.max_pixels,
        total_pixels=config.total_pixels,
    )
    tokens = video_tokens(read, height, width, factor=factor, temporal_patch=temporal_patch)
    return ClipCost(frames, pad, height, width, tokens, 3 * frames * height * width)


def clip_cost(
    duration_s: float,
    *,
    height: int,
    width: int,
    config: VideoConfig,
    factor: int,
    temporal_patch: int,
    rate: float = 30.0,
) -> ClipCost:
    """The cost of a clip from its metadata alone: `duration_s` of a video of `rate` frames a second, constant.

    Exactly what `choose_frames` makes of frames at 0, 1/rate, 2/rate … before `duration_s`, mostly in closed form (a
    few microseconds, for any length). Which frames are keyframes is not known here: for `keyframe` it is the most that
    the clip can cost.

    Args:
        height, width: pixels of the video, upright.

    Raises:
        ValueError: a duration or rate that is not positive. ConfigError: as `choose_frames` and `frames_cost`.
    """
    if not (0 < duration_s < math.inf and 0 < rate < math.inf):
        raise ValueError(
            f"duration_s = {duration_s}, rate = {rate}: must be positive and finite; check the video's metadata"
        )
    _policy(config)
    # An end within a microsecond of a frame's time is that time, as when a file is trimmed.
    count = max(1, math.ceil((duration_s - 1e-6) * rate))
    limit = min(_cap(config, temporal_patch), count)
    if config.sampling == "random" and count <= 2 * limit:  # some of its parts may hold no frame
        times_s = np.arange(count) / rate
        chosen = len(choose_frames(times_s, config, duration_s=duration_s, temporal_patch=temporal_patch))
    elif config.sampling in ("fps", "molmo2"):
        last = config.last_frame or config.sampling == "molmo2"
        chosen = min(_grid_frames(count, rate, fps=config.fps, duration_s=duration_s, last=last), limit)
        chosen = min(_whole(max(chosen, config.min_frames), temporal_patch), limit)
    else:
        chosen = limit
    return frames_cost(chosen, height=height, width=width, config=config, factor=factor, temporal_patch=temporal_patch)


def _grid_frames(count: int, rate: float, *, fps: float, duration_s: float, last: bool) -> int:
    """How many of `count` frames at 0, 1/rate, 2/rate … `fps_policy` takes before it looks at its limit."""
    if fps <= 0 or fps > 2 * rate:
        return count
    points = max(1, math.ceil(duration_s * fps - 1e-6))
    final = _nearest_frame((points - 1) / fps, count, rate)
    if fps >= rate:  # no frame up to the one nearest to the last grid point is passed over
        chosen = final + 1
    else:  # each grid point has a frame of its own; only after the last frame may two points meet in it
        chosen = points - (points > 1 and _nearest_frame((points - 2) / fps, count, rate) == count - 1)
    return chosen + (last and final != count - 1)


def _nearest_frame(time_s: float, count: int, rate: float) -> int:
    """`nearest` for one time and frames at 0, 1/rate, 2/rate …, in the same floating-point steps."""
    after = math.ceil(time_s * rate)
    while after > 0 and (after - 1) / rate >= time_s:
        after -= 1
    while after / rate < time_s:
        after += 1
    after = min(after, count - 1)
    before = max(after - 1, 0)
    return before if abs(time_s - before / rate) <= abs(after / rate - time_s) else after


def _policy(config: VideoConfig) -> Callable[..., np.ndarray]:
    if config.sampling not in POLICIES:
        raise ConfigError(f"video.sampling = {config.sampling!r}: must be one of {', '.join(POLICIES)}")
    return POLICIES[config.sampling]


def _cap(config: VideoConfig, temporal_patch: int) -> int:
    """The most frames a clip may have: `max_frames`, in whole temporal patches if it is more than one."""
    cap = config.max_frames
    return cap - cap % temporal_patch if cap > temporal_patch else cap


def _whole(frames: int, temporal_patch: int) -> int:
    """`frames` rounded up to whole temporal patches."""
    return -(-frames // temporal_patch) * temporal_patch
