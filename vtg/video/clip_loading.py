"""From a file and an annotation's times to a Clip: the one place where a trim is resolved.

How the annotated times and the file are brought together (`resolve_window`):

- Without a trim the whole file is the clip. An annotated `duration` within max(1 s, 10 %) of the file's is taken as
  the clip's length (the spans were checked against it); beyond that row and file do not belong together: an error.
- A trim that lies inside the file is cut out.
- Else, a file about as long as the trimmed part (within max(1 s, 5 %)) is that part, already cut: all of it is the
  clip, as long as the trim says.
- Else, a trim that ends after the file by no more than that tolerance is cut out too.
- Else it is an error that states both readings.

Frames with start <= t < end are the clip's; their times are relative to the start.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vtg.config.video_settings import VideoConfig
from vtg.errors import ConfigError, SampleError
from vtg.storage.fork import lock_free_in_children
from vtg.video.clip import Clip, DecodeError
from vtg.video.clip_cost import frames_cost, of_one_size
from vtg.video.container import probe, read_index, read_part
from vtg.video.decoders import DECODERS
from vtg.video.files.address import is_picture
from vtg.video.frame_index import FrameIndex, VideoInfo
from vtg.video.frame_sampling import choose_frames
from vtg.video.still_loading import load_stills
from vtg.video.video_window import VideoWindow

logger = logging.getLogger(__name__)

# Shares of the annotated length, and seconds, by which file and row may differ; the larger of the two counts. Annotated
# and container durations differ a little in all real data. A trim is held to less: it decides whether a file is cut.
WHOLE_TOLERANCE = 0.10
TRIM_TOLERANCE = 0.05
TOLERANCE_S = 1.0

# Annotated and stored times may differ by this much and still be the same time: FFmpeg rounds starts to it.
ROUNDING_S = 1e-6

# A clip shorter than this share of its file is read by a seek. For longer ones the whole pass costs hardly more, and
# it finds damage that a seek passes over.
PART_SHARE = 0.5

# Decoders tried in turn under video.decoder = auto. PyAV is the fastest on every codec measured (benchmarks/decode.py).
# Not decord: on some damaged files it never returns.
AUTO = ("pyav", "torchcodec", "ffmpeg")

# Decoders that find frames by their times; the others count from the file's first frame, so need the whole index.
BY_TIME = ("pyav", "ffmpeg")

_fallbacks: Counter[str] = Counter()
_warned: set[str] = set()
_counting = lock_free_in_children()


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """What a clip will be, before anything is decoded.

    Attributes:
        start_s, end_s: the clip in seconds of its file.
        chosen: (T,) int64 increasing indices of its frames in the file's FrameIndex.
        timestamps_s: (T,) float64 their times, relative to `start_s`.
        size: (height, width) to which they are resized.
        tokens: vision tokens they cost, those of padding included.
        pad: how many repeats of the last frame the model input appends.
    """

    start_s: float
    end_s: float
    chosen: np.ndarray
    timestamps_s: np.ndarray
    size: tuple[int, int]
    tokens: int
    pad: int


def load_clip(
    window: VideoWindow,
    config: VideoConfig,
    *,
    factor: int = 32,
    temporal_patch: int = 2,
    side: int | None = None,
    seed: int | None = None,
) -> Clip:
    """Reads, trims, samples and resizes one clip. Safe to call from several threads at once.

    Args:
        factor: frame height and width become multiples of it.
        temporal_patch: the number of frames becomes a multiple of it where the clip has enough.
        side: pixels a side of every frame, whatever its shape; None where it keeps that.
        seed: of `video.sampling = random`.

    Raises:
        DecodeError: the file cannot be read, breaks off before the clip's end, or does not fit the annotated times.
        ConfigError: settings that cannot be.
    """
    if is_picture(window.path):
        return load_stills(window.path, config, factor=factor, temporal_patch=temporal_patch, side=side)
    index = clip_index(window)
    plan = plan_clip(index, window, config, factor=factor, temporal_patch=temporal_patch, side=side, seed=seed)
    return Clip(
        frames=decode_frames(
            index, plan.chosen, size=plan.size, decoder=config.decoder, exact=config.resize == "exact"
        ),
        timestamps_s=plan.timestamps_s,
        duration_s=plan.end_s - plan.start_s,
        path=window.path,
        start_s=plan.start_s,
        end_s=plan.end_s,
        pad=plan.pad,
    )


def clip_index(window: VideoWindow) -> FrameIndex:
    """The index of a file, or of the part of it that `load_clip` needs: 10 s of an hour do not cost an hour's reading.

    Raises:
        DecodeError: the file cannot be read.
    """
    if not window.is_trimmed:
        return read_index(window.path)
    try:
        info = probe(window.path)
        start_s, end_s = resolve_window(info, window)
    except SampleError:
        # A file that breaks off after the clip is still good, and what does not fit is told best from the whole file.
        return read_index(window.path)
    if end_s - start_s > PART_SHARE * info.duration_s:
        return read_index(window.path)
    return read_part(info, start_s - ROUNDING_S, end_s) or read_index(window.path)


def plan_clip(
    index: FrameIndex,
    window: VideoWindow,
    config: VideoConfig,
    *,
    factor: int = 32,
    temporal_patch: int = 2,
    side: int | None = None,
    seed: int | None = None,
) -> ClipPlan:
    """Which frames of a file a clip consists of, at which size; arguments and errors as in `load_clip`."""
    path, info, config = index.info.path, index.info, of_one_size(config, factor=factor, side=side)
    start_s, end_s = resolve_window(info, window, fault=index.fault)
    inside = np.flatnonzero((index.times_s >= start_s - ROUNDING_S) & (index.times_s < end_s - ROUNDING_S))
    if len(inside) == 0:
        before_s = index.times_s[index.times_s < start_s]
        nearest = f"the frame before is at {before_s[-1]:.3f} s" if len(before_s) else "the first frame is later"
        raise DecodeError(
            f"{path}: no frame is first shown between {start_s:.10g} and {end_s:.10g} s ({nearest}, the file is "
            f"{info.duration_s:.3f} s long); check video_start and video_end"
        )
    # A frame that is earlier than the start by rounding alone must not get a negative time.
    times_s = np.maximum(index.times_s[inside] - start_s, 0.0)
    taken = choose_frames(
        times_s,
        config,
        duration_s=end_s - start_s,
        is_key=index.is_key[inside],
        temporal_patch=temporal_patch,
        seed=seed,
    )
    cost = frames_cost(
        len(taken),
        height=info.height,
        width=info.width,
        config=config,
        factor=factor,
        temporal_patch=temporal_patch,
        side=side,
    )
    size = (cost.height, cost.width)
    return ClipPlan(start_s, end_s, inside[taken], times_s[taken], size, cost.tokens, cost.pad)


def resolve_window(info: VideoInfo, window: VideoWindow, *, fault: str | None = None) -> tuple[float, float]:
    """(start, end) of the clip in seconds of the file, by the rules at the top of this module.

    Raises:
        DecodeError: the annotated times and the file do not fit, or the file breaks off before the clip's end.
    """
    path, file_s = info.path, info.duration_s
    start_s, end_s = window.start_s or 0.0, window.stop_s
    if end_s is not None and end_s <= file_s:
        return start_s, end_s
    # Only here: a file that breaks off behind the clip is as good as a whole one.
    if fault:
        raise DecodeError(f"{path}: {fault}")
    if not window.is_trimmed:
        return 0.0, _whole_length_s(path, file_s, window.duration_s)
    if end_s is None:
        if start_s < file_s:
            return start_s, file_s
        raise DecodeError(f"{path}: video_start = {start_s:.10g}, but the file is {file_s:.2f} s long; check the row")
    trim_s = end_s - start_s
    tolerance_s = max(TOLERANCE_S, TRIM_TOLERANCE * trim_s)
    # Already cut comes first: data sets often publish the cut clips under the trims of the originals.
    if abs(file_s - trim_s) <= tolerance_s:
        return 0.0, trim_s
    if start_s < file_s and end_s <= file_s + tolerance_s:
        return start_s, end_s
    raise DecodeError(
        f"{path}: the file is {file_s:.2f} s long, which fits neither a file to be trimmed (it would have to reach "
        f"video_end = {end_s:.10g} s) nor one already cut (it would be {trim_s:.2f} s long, from video_start = "
        f"{start_s:.10g}); check video_start and video_end, and that this is the right file"
    )


def _whole_length_s(path: str, file_s: float, duration_s: float | None) -> float:
    # The annotated length where there is one: the row's spans were checked against it.
    if duration_s is None:
        return file_s
    tolerance_s = max(TOLERANCE_S, WHOLE_TOLERANCE * duration_s)
    if abs(file_s - duration_s) > tolerance_s:
        raise DecodeError(
            f"{path}: the file is {file_s:.2f} s long, but the annotation says duration = {duration_s:.10g} s (more "
            f"than {tolerance_s:.1f} s apart); check that this is the right file, or give video_start and video_end"
        )
    return duration_s


def decode_frames(
    index: FrameIndex, chosen: np.ndarray, *, size: tuple[int, int], decoder: str, exact: bool = True
) -> np.ndarray:
    """The frames (T, 3, height, width) uint8 of a file at indices `chosen` (T,), by the named decoder.

    `auto` is PyAV; what it cannot decode torchcodec tries and then the ffmpeg command, where they are installed. Each
    use of these two is counted (`take_fallbacks`), and the first one logged.

    Raises:
        DecodeError: no decoder gave the frames; the reason of each is stated.
        ConfigError: an unknown decoder. ImportError: the named one is not installed.
    """
    if decoder != "auto" and decoder not in DECODERS:
        raise ConfigError(f"video.decoder = {decoder!r}: must be one of auto, {', '.join(DECODERS)}")
    names = AUTO if decoder == "auto" else (decoder,)
    faults: list[str] = []
    for name in names:
        try:
            frames = DECODERS[name](*_index_for(name, index, chosen), size=size, exact=exact)
        except ImportError:
            # Optional packages: `auto` takes what there is, a decoder that was named has to be there.
            if decoder != "auto":
                raise
        except DecodeError as error:
            faults.append(str(error))
        else:
            if faults:
                with _counting:
                    _fallbacks[f"decoded by {name}"] += 1
                    is_first = name not in _warned
                    _warned.add(name)
                if is_first:
                    logger.warning("%s reads what pyav cannot (further files are only counted): %s", name, faults[0])
            return frames
    rest = "".join(f"; {fault.removeprefix(f'{index.info.path}: ')}" for fault in faults[1:])
    raise DecodeError(faults[0] + rest)


def add_fallbacks(counts: Mapping[str, int]) -> None:
    """Adds the counts of a child process to this one's."""
    with _counting:
        _fallbacks.update(counts)


def take_fallbacks() -> Counter[str]:
    """`decoded by NAME`: how often another decoder stood in for PyAV in this process since the last call."""
    with _counting:
        taken = _fallbacks.copy()
        _fallbacks.clear()
    return taken


def _index_for(decoder: str, index: FrameIndex, chosen: np.ndarray) -> tuple[FrameIndex, np.ndarray]:
    """The index a decoder needs, and the chosen frames' positions in it."""
    if index.is_whole or decoder in BY_TIME:
        return index, chosen
    whole = read_index(index.info.path)
    return whole, np.searchsorted(whole.pts, index.pts[chosen])
