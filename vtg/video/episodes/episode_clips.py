"""Recorded episodes as video files of their own: H.264 in MP4, made once for all threads and processes."""

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vtg.storage.atomic import written_beside
from vtg.storage.file_stamp import file_stamp
from vtg.storage.locks import one_at_a_time
from vtg.video.clip_loading import decode_frames
from vtg.video.episodes.records import FilePart
from vtg.video.episodes.shown import ShownFrames

logger = logging.getLogger(__name__)

# Ticks a second of the clips written: the clock of MPEG-TS. Times of finer ones move by 6 microseconds at most.
CLIP_TICKS = 90_000

# libx264. crf 18: close to the source. bf=0: decoding order is presentation order, so no edit list is needed. g=30: a
# seek decodes 30 frames at most. mbtree=0: it reads memory that nothing wrote, and the file would differ each time.
CLIP_ENCODING = {"crf": "18", "preset": "veryfast", "bf": "0", "g": "30", "mbtree": "0"}

# FFmpeg's numbers for BT.601 and for luma from 16 to 235.
SMPTE_170M, MPEG_RANGE = 6, 1

# Decoded frames held at a time while a clip is encoded: an episode may be minutes long.
BATCH_BYTES = 192 * 2**20


def episode_clip(
    part: FilePart, read: Callable[[], ShownFrames], *, folder: str | os.PathLike[str], name: str, decoder: str
) -> str:
    """The path of the clip of `part` in `folder`: the same frames at the same times (to 1/90000 s), upright.

    It is made where it is not there, and again when the source file or the part changes; the outdated clip is then
    removed. A reader never sees half a clip. Odd heights and widths lose a pixel. A part that starts between two frames
    shows its first frame from 0 on, since a file's time starts with its first frame.

    Args:
        read: gives the frames of `part`, at least one; called only where the clip is not there.
        name: what the file's name begins with; other characters than those of words, `.` and `-` are replaced.
        decoder: as in `video.decoder`.

    Raises:
        DecodeError: a frame cannot be decoded.
        ConfigError: an unknown decoder.
        OSError: `folder` cannot be written.
    """
    folder = Path(folder)
    name = re.sub(r"[^\w.-]+", "_", name)[:80].lstrip(".")
    stem = f"{name}-{_digest(os.path.abspath(part.path), part.start_s, part.end_s)}-"
    path = folder / f"{stem}{_digest(*file_stamp(part.path), CLIP_ENCODING)}.mp4"
    if path.exists() and os.path.exists(part.path):
        return str(path)
    shown = read()
    folder.mkdir(parents=True, exist_ok=True)
    # Removing the lock file is safe: who waits for it finds the clip made, who comes later never asks for it.
    lock_file = folder / f".{path.name}.lock"
    with one_at_a_time(lock_file, remove=True) as error:
        if error is not None:
            logger.warning("%s: cannot be locked (%s); several processes may make the same clip", lock_file, error)
        if not path.exists():
            with written_beside(path) as beside:
                _encode(beside, shown, decoder=decoder)
            for outdated in folder.glob(f"{stem}*.mp4"):
                if outdated != path:
                    outdated.unlink(missing_ok=True)
    return str(path)


def _digest(*values: object) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:12]


def _encode(path: Path, shown: ShownFrames, *, decoder: str) -> None:
    """Writes the frames as H.264 in MP4, with their times."""
    info = shown.index.info
    ticks, end = _ticks(shown)
    lengths = dict(zip(ticks, np.diff(ticks, append=end).tolist(), strict=True))
    # An odd side loses its last pixel; a side of one pixel is doubled.
    height, width = (max(2, side // 2 * 2) for side in (info.height, info.width))
    rows, columns = np.arange(height).clip(max=info.height - 1), np.arange(width).clip(max=info.width - 1)
    is_odd = (height, width) != (info.height, info.width)
    rate = Fraction(len(ticks) * CLIP_TICKS, end).limit_denominator(1001)
    try:
        with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=max(rate, Fraction(1, 1001)), options=dict(CLIP_ENCODING))
            assert isinstance(stream, VideoStream)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            stream.codec_context.time_base = stream.time_base = Fraction(1, CLIP_TICKS)
            # FFmpeg converts RGB by BT.601; unless it is stated, players guess BT.709 for large pictures.
            stream.codec_context.colorspace, stream.codec_context.color_range = SMPTE_170M, MPEG_RANGE

            def mux(packets: Iterable[Packet]) -> None:
                for packet in packets:
                    assert packet.pts is not None
                    packet.duration = lengths[packet.pts]
                    container.mux(packet)

            for tick, picture in zip(ticks, _pictures(shown, decoder), strict=True):
                even = picture[:, rows][:, :, columns] if is_odd else picture
                frame = VideoFrame.from_ndarray(np.ascontiguousarray(even.transpose(1, 2, 0)), format="rgb24")
                frame.pts, frame.time_base = tick, Fraction(1, CLIP_TICKS)
                mux(stream.encode(frame))
            mux(stream.encode(None))
    except FFmpegError as error:
        reason = f"the episode clip cannot be written ({error.strerror or error}); check the folder and its room"
        raise OSError(error.errno, reason, str(path)) from error


def _ticks(shown: ShownFrames) -> tuple[list[int], int]:
    """When each frame starts, the first one at 0, and when the last one ends; in ticks."""
    ticks = np.round(shown.times_s * CLIP_TICKS).astype(np.int64)
    ticks[0] = 0
    order = np.arange(len(ticks))
    # Times closer than a tick are moved apart: MP4 needs increasing ones.
    ticks = np.maximum.accumulate(ticks - order) + order
    end = max(round(shown.duration_s * CLIP_TICKS), int(ticks[-1]) + 1)
    return ticks.tolist(), end


def _pictures(shown: ShownFrames, decoder: str) -> Iterator[np.ndarray]:
    size = (shown.index.info.height, shown.index.info.width)
    batch = max(1, BATCH_BYTES // (3 * size[0] * size[1]))
    for at in range(0, len(shown.numbers), batch):
        yield from decode_frames(shown.index, shown.numbers[at : at + batch], size=size, decoder=decoder)
