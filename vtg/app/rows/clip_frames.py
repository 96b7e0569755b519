"""What a page needs of a row's clip: the time of every frame, and a strip of pictures to put the timeline on."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from vtg.annotations.sample import resolve_video
from vtg.app.rows.row_text import seconds_of, text_of
from vtg.errors import SampleError
from vtg.video.clip_loading import ROUNDING_S, clip_index, decode_frames, resolve_window
from vtg.video.files import address, video_files
from vtg.video.frame_index import FrameIndex
from vtg.video.time_limit import within
from vtg.video.video_window import VideoWindow

# Of one clip: a page must not wait for a drive that does not answer.
TIMEOUT_S = 30.0

CELL_HEIGHT, CELLS = 48, 12

# Times are written with so many decimals: finer than any frame, and no noise of binary fractions.
DECIMALS = 6


@dataclass(frozen=True)
class ClipFrames:
    """The frames of a row's clip.

    Attributes:
        path: of the file.
        start_s, end_s: the clip in seconds of the file.
        times_s: (T,) float64 of its frames, in seconds of the clip.
        fault: why the row's times do not fit the file, which is shown whole then; empty where they do.
    """

    path: str
    start_s: float
    end_s: float
    times_s: np.ndarray
    fault: str
    index: FrameIndex
    inside: np.ndarray

    @property
    def duration_s(self) -> float:
        """Of the clip, as a row of it says."""
        return round(self.end_s - self.start_s, DECIMALS)

    @property
    def strip_form(self) -> dict[str, Any]:
        """How `strip` is laid out, as the page's timeline takes it."""
        times_s, (height, width) = self.times_s[self._in_strip].tolist(), self._cell_size
        return {"count": CELLS, "columns": CELLS, "times_s": times_s, "width": width, "height": height}

    @property
    def _cell_size(self) -> tuple[int, int]:
        # Even: video codecs and their scalers like it.
        info = self.index.info
        return CELL_HEIGHT, max(2, round(CELL_HEIGHT * info.width / info.height / 2) * 2)

    @property
    def _in_strip(self) -> np.ndarray:
        """(CELLS,) places in `times_s` of the frames of the strip."""
        middles_s = (np.arange(CELLS) + 0.5) * self.duration_s / CELLS
        return np.abs(self.times_s[None, :] - middles_s[:, None]).argmin(axis=1)

    def strip(self) -> bytes:
        """`CELLS` frames from the whole clip side by side, as a WebP picture. Raises DecodeError."""
        from PIL import Image

        wanted, where = np.unique(self._in_strip, return_inverse=True)
        size = self._cell_size
        frames = within(
            TIMEOUT_S, decode_frames, self.index, self.inside[wanted], size=size, decoder="auto", exact=False
        )
        joined = np.ascontiguousarray(frames[where].transpose(2, 0, 3, 1)).reshape(CELL_HEIGHT, -1, 3)
        buffer = io.BytesIO()
        Image.fromarray(joined).save(buffer, format="WEBP", quality=60)
        return buffer.getvalue()


def clip_frames(row: Mapping[str, Any], video_dir: str | None) -> ClipFrames:
    """The frames of a row's clip.

    Raises:
        SampleError: the row names no video, or it cannot be read.
        OSError, TimeoutError: it cannot be reached.
    """
    if not (name := text_of(row, "video")):
        raise SampleError("this row names no video")
    path = resolve_video(name, video_dir)
    if fault := address.fault(path):
        raise SampleError(f"video {name}: {fault}")
    times_s = (seconds_of(row, key) for key in ("video_start", "video_end", "duration"))
    return _frames(path, video_files.stamp(path), *times_s)


@lru_cache(maxsize=32)
def _frames(
    path: str, stamp: tuple[int, int], start_s: float | None, end_s: float | None, duration_s: float | None
) -> ClipFrames:
    fault = ""
    try:
        window = VideoWindow(path, start_s=start_s, end_s=end_s, duration_s=duration_s)
        index = within(TIMEOUT_S, clip_index, window)
        first_s, last_s = resolve_window(index.info, window, fault=index.fault)
    except SampleError as error:
        # Times that are wrong are what somebody is here to correct: the whole file then, as far as it goes.
        fault, index = str(error), within(TIMEOUT_S, clip_index, VideoWindow(path))
        first_s, last_s = 0.0, index.info.duration_s
    inside = np.flatnonzero((index.times_s >= first_s - ROUNDING_S) & (index.times_s < last_s - ROUNDING_S))
    if not len(inside):
        raise SampleError(
            f"{path}: no frame is shown between {first_s:.10g} and {last_s:.10g} s; correct the row's times"
        )
    times_s = np.round(np.maximum(index.times_s[inside] - first_s, 0.0), DECIMALS)
    return ClipFrames(path, first_s, last_s, times_s, fault, index, inside)
