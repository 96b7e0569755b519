"""The size at which the frames of a clip are read, and what it costs in vision tokens and bytes. Opens no file."""

import math
from dataclasses import dataclass, replace

import numpy as np

from vtg.config.video_settings import VideoConfig
from vtg.errors import ConfigError
from vtg.video.frame_sampling import choose_frames, frame_cap, padding, policy_named, whole_patches


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
    room = limit // factor**2  # in patches
    if rows * columns > room:
        shrink = math.sqrt(height * width / limit)
        rows, columns = int(height / shrink / factor), int(width / shrink / factor)
    elif rows * columns * factor**2 < min_pixels:
        # Up, so that `min_pixels` is reached; down where that would break an upper limit.
        grow = math.sqrt(min_pixels / (height * width))
        rows, columns = math.ceil(height * grow / factor), math.ceil(width * grow / factor)
        if rows * columns > room:
            rows, columns = int(height * grow / factor), int(width * grow / factor)
    rows, columns = max(1, rows), max(1, columns)
    # A very long and narrow picture: the short side is one patch, the long side gets what is left.
    if rows * columns > room:
        rows, columns = (min(rows, room), 1) if rows > columns else (1, min(columns, room))
    return rows * factor, columns * factor


def fixed_size(config: VideoConfig, *, factor: int, side: int | None) -> tuple[int, int] | None:
    """(height, width) of every frame, where the model or the settings have one for all; None where it keeps its shape.

    Args:
        factor: pixels a side of a vision token.
        side: pixels a side of every frame that the model takes; None where it takes any.

    Raises:
        ConfigError: the settings want another size than the model.
    """
    wanted = config.fixed_size(factor)
    if side is None or wanted in (None, (side, side)):
        return wanted if side is None else (side, side)
    raise ConfigError(
        f"video.frame_size = {config.frame_size}: this model takes frames of {side}x{side} pixels and of no other "
        "size; set video.frame_size=0"
    )


def of_one_size(config: VideoConfig, *, factor: int, side: int | None) -> VideoConfig:
    """The settings where frames have one size: no more of them than `total_pixels` hold. Arguments as `fixed_size`.

    Raises:
        ConfigError: not one fits into the pixel limits, or the settings want another size than the model.
    """
    if (size := fixed_size(config, factor=factor, side=side)) is None:
        return config
    pixels = size[0] * size[1]
    if side is not None and pixels > min(config.max_pixels, config.total_pixels):
        raise ConfigError(
            f"video.max_pixels = {config.max_pixels}, video.total_pixels = {config.total_pixels}: this model takes "
            f"frames of {side}x{side} pixels and of no other size; set both to at least {side**2}"
        )
    if pixels > config.total_pixels:
        raise ConfigError(
            f"video.frame_size = {config.frame_size}: a frame of {size[0]}x{size[1]} pixels does not fit into "
            f"video.total_pixels = {config.total_pixels}; set it to at least {pixels}, or lower video.frame_size"
        )
    # Frames that keep their shape shrink to fit into it; these become fewer.
    return replace(config, max_frames=min(config.max_frames, config.total_pixels // pixels))


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
    frames: int,
    *,
    height: int,
    width: int,
    config: VideoConfig,
    factor: int,
    temporal_patch: int,
    side: int | None = None,
) -> ClipCost:
    """The cost of `frames` frames chosen out of a video of `height` x `width` pixels, upright.

    Args:
        side: pixels a side of every frame, whatever its shape; None where it keeps that.

    Raises:
        ConfigError: not even one patch a frame fits into the pixel limits.
    """
    # The size depends on what the model input holds, padding included; the bytes are those of real frames alone.
    pad = padding(frames, config, temporal_patch=temporal_patch)
    read = whole_patches(frames + pad, temporal_patch)
    height, width = _frame_size(height, width, frames=read, config=config, factor=factor, side=side)
    tokens = video_tokens(read, height, width, factor=factor, temporal_patch=temporal_patch)
    return ClipCost(frames, pad, height, width, tokens, 3 * frames * height * width)


def stills_cost(
    count: int,
    *,
    height: int,
    width: int,
    config: VideoConfig,
    factor: int,
    temporal_patch: int,
    side: int | None = None,
) -> ClipCost:
    """The cost of still pictures, each as much as a temporal patch, at the size of the first. Arguments as above.

    Raises:
        ConfigError: not even one patch a picture fits into the pixel limits.
    """
    # A picture is a temporal patch of its own, as if it were repeated to fill one.
    read = temporal_patch * count
    height, width = _frame_size(height, width, frames=read, config=config, factor=factor, side=side)
    tokens = video_tokens(read, height, width, factor=factor, temporal_patch=temporal_patch)
    return ClipCost(count, 0, height, width, tokens, 3 * count * height * width)


def _frame_size(
    height: int, width: int, *, frames: int, config: VideoConfig, factor: int, side: int | None
) -> tuple[int, int]:
    """(height, width) of each of the frames that the model reads, out of a picture of `height` x `width` pixels."""
    return fixed_size(config, factor=factor, side=side) or target_size(
        height,
        width,
        frames=frames,
        factor=factor,
        min_pixels=config.min_pixels,
        max_pixels=config.max_pixels,
        total_pixels=config.total_pixels,
    )


def clip_cost(
    duration_s: float,
    *,
    height: int,
    width: int,
    config: VideoConfig,
    factor: int,
    temporal_patch: int,
    side: int | None = None,
    rate: float = 30.0,
) -> ClipCost:
    """The cost of a clip from its metadata alone: `duration_s` of a video of `rate` frames a second, constant.

    Exactly what `choose_frames` makes of frames at 0, 1/rate, 2/rate … before `duration_s`, mostly in closed form (a
    few microseconds, for any length). Which frames are keyframes is not known here: for `keyframe` it is the most that
    the clip can cost.

    Args:
        height, width: pixels of the video, upright.
        side: as `frames_cost` takes it.

    Raises:
        ValueError: a duration or rate that is not positive. ConfigError: as `choose_frames` and `frames_cost`.
    """
    if not (0 < duration_s < math.inf and 0 < rate < math.inf):
        raise ValueError(
            f"duration_s = {duration_s}, rate = {rate}: must be positive and finite; check the video's metadata"
        )
    policy_named(config)
    config = of_one_size(config, factor=factor, side=side)
    # An end within a microsecond of a frame's time is that time, as when a file is trimmed.
    count = max(1, math.ceil((duration_s - 1e-6) * rate))
    limit = min(frame_cap(config, temporal_patch), count)
    # Only with few frames to a part may a part hold none; then the number has no closed form.
    if config.sampling == "random" and count <= 2 * limit:
        times_s = np.arange(count) / rate
        chosen = len(choose_frames(times_s, config, duration_s=duration_s, temporal_patch=temporal_patch))
    elif config.sampling in ("fps", "molmo2"):
        last = config.last_frame or config.sampling == "molmo2"
        chosen = min(_grid_frames(count, rate, fps=config.fps, duration_s=duration_s, last=last), limit)
        chosen = min(whole_patches(max(chosen, config.min_frames), temporal_patch), limit)
    else:
        chosen = limit
    return frames_cost(
        chosen, height=height, width=width, config=config, factor=factor, temporal_patch=temporal_patch, side=side
    )


def _grid_frames(count: int, rate: float, *, fps: float, duration_s: float, last: bool) -> int:
    """How many of `count` frames at 0, 1/rate, 2/rate … `fps_policy` takes before it looks at its limit."""
    # As there: with two or more grid points to every frame, all frames are taken.
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
    # The product is off by a rounding now and then; the divisions decide, because they give the frames' times.
    after = math.ceil(time_s * rate)
    while after > 0 and (after - 1) / rate >= time_s:
        after -= 1
    while after / rate < time_s:
        after += 1
    after = min(after, count - 1)
    before = max(after - 1, 0)
    return before if abs(time_s - before / rate) <= abs(after / rate - time_s) else after
