"""Film strips: frames that the model saw of a clip, as one small picture inside the page, on the clip's time axis.

Imports no torch: frames are resized by FFmpeg.
"""

import base64
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from vtg.annotations.sample import resolve_video
from vtg.config.video_settings import VideoConfig
from vtg.errors import ConfigError, SampleError
from vtg.report.run_reader import JsonRow, is_number
from vtg.video.clip_loading import clip_index, decode_frames, plan_clip
from vtg.video.files.video_files import exists, is_remote
from vtg.video.time_limit import within
from vtg.video.video_window import VideoWindow

# Pixels: a strip is shown about 40 high, and a display has up to two pixels for one of the page.
CELL_HEIGHT = 64

# A timeline is about twelve times as wide as a strip is high: so many square frames fill it, and fewer wide ones.
SQUARE_CELLS, FEWEST_CELLS, MOST_CELLS = 12, 4, 20

WEBP_QUALITY = 55

# Of all strips of a page: it must still be one that can be sent by mail.
BUDGET_BYTES = 1_500_000

# Of one clip: a page must not wait for a drive that does not answer.
TIMEOUT_S = 20.0


@dataclass(frozen=True)
class FilmStrip:
    """Frames of a clip, left to right in equal cells of its time axis; each is the seen frame nearest to its cell.

    Attributes:
        picture: the strip as a data URI.
        times_s: of the frame in each cell, in seconds of the clip.
        seen: frames that the model saw of the clip.
        video: the file's address relative to the page; empty where a browser cannot reach it.
        offset_s: where the clip begins in the file.
    """

    picture: str
    times_s: tuple[float, ...]
    seen: int
    video: str
    offset_s: float


@dataclass(frozen=True)
class FilmCells:
    """The frames of a strip before they are one picture.

    Attributes:
        frames: (C, 3, H, W) uint8, one for each of the C cells.
        times_s: (C,) when each is shown, in seconds of the clip.
        seen: frames that the model sees of the clip.
        offset_s: where the clip begins in the file.
    """

    frames: np.ndarray
    times_s: np.ndarray
    seen: int
    offset_s: float


def film_cells(
    window: VideoWindow, video: VideoConfig, *, duration_s: float, height: int = CELL_HEIGHT, square: int = SQUARE_CELLS
) -> FilmCells:
    """The seen frame nearest to each cell of a strip of a clip, `height` pixels high and about `square` times as wide.

    Raises:
        SampleError: the video cannot be read.
    """
    index = clip_index(window)
    plan = plan_clip(index, window, video)
    seen_height, seen_width = plan.size
    cells = int(np.clip(round(square * seen_height / seen_width), FEWEST_CELLS, MOST_CELLS))
    middles_s = (np.arange(cells) + 0.5) * duration_s / cells
    nearest = np.abs(plan.timestamps_s[None, :] - middles_s[:, None]).argmin(axis=1)
    # Even: video codecs and their scalers like it.
    size = (height, max(2, round(height * seen_width / seen_height / 2) * 2))
    wanted, where = np.unique(nearest, return_inverse=True)
    frames = decode_frames(index, plan.chosen[wanted], size=size, decoder=video.decoder, exact=False)
    return FilmCells(frames[where], plan.timestamps_s[nearest], seen=len(plan.chosen), offset_s=plan.start_s)


def side_by_side(frames: np.ndarray) -> np.ndarray:
    """Frames (T, 3, H, W) uint8, left to right, as one picture (H, T * W, 3)."""
    return np.ascontiguousarray(frames.transpose(2, 0, 3, 1)).reshape(frames.shape[2], -1, 3)


class FilmStrips:
    """Makes strips for the samples of a page, within a budget of bytes.

    A clip that cannot be read costs its strip alone: `note` counts such clips and names the first.
    """

    def __init__(
        self, config: Mapping[str, Any], *, page_folder: Path | None, budget_bytes: int = BUDGET_BYTES
    ) -> None:
        """`config`: a run's settings (config.yaml); of `video` and `data.video_dir` depends what the model saw.

        `page_folder`: where the page will lie; None where it is no file, and so beside no videos.
        """
        self.config = config
        data = config.get("data")
        folder = data.get("video_dir") if isinstance(data, Mapping) else None
        self.video_dir = folder if isinstance(folder, str) else None
        self.video = _video_config(config.get("video"))
        self.page_folder = page_folder
        self.budget_bytes = self.bytes_left = budget_bytes
        self._faults: dict[str, str] = {}
        self._left_out = 0
        self._strip = lru_cache(maxsize=64)(self._made)  # the same clip in several groups is decoded once

    def next_page(self) -> None:
        """The budget anew, for a page that shows some of the strips again."""
        self.bytes_left, self._left_out = self.budget_bytes, 0

    @property
    def note(self) -> str:
        """What is missing and why; empty where nothing is."""
        if self._faults:
            return f"no film strip of {len(self._faults)} clips: {next(iter(self._faults.values()))}"
        return f"no film strip of {self._left_out} samples: the others fill this page" if self._left_out else ""

    def of(self, row: JsonRow) -> FilmStrip | None:
        """The strip of a sample's clip; None where there is none to be had."""
        if not isinstance(name := row.get("video"), str) or self.video is None:
            return None
        path = resolve_video(name, self.video_dir)
        if path in self._faults:
            return None
        start_s, end_s = (float(row[key]) if is_number(row.get(key)) else None for key in ("video_start", "video_end"))
        try:
            strip = self._strip(path, start_s, end_s, float(row["duration"]))
        except (ConfigError, SampleError, OSError, TimeoutError) as error:
            self._faults[path] = str(error)
            return None
        if strip is None:
            return None
        if len(strip.picture) > self.bytes_left:
            self._left_out += 1
            return None
        self.bytes_left -= len(strip.picture)
        return strip

    def _made(self, path: str, start_s: float | None, end_s: float | None, duration_s: float) -> FilmStrip | None:
        # A page is made often, also of a run that has its videos in a store: it fetches nothing.
        if is_remote(path) or not exists(path):
            raise FileNotFoundError(f"{path} is not on this machine")
        window = VideoWindow(path, start_s=start_s, end_s=end_s, duration_s=duration_s)
        return within(TIMEOUT_S, self._decoded, window, duration_s)

    def _decoded(self, window: VideoWindow, duration_s: float) -> FilmStrip:
        assert self.video is not None
        cells = film_cells(window, self.video, duration_s=duration_s)
        return FilmStrip(
            picture=_data_uri(cells.frames),
            times_s=tuple(cells.times_s.tolist()),
            seen=cells.seen,
            video=self._address(window.path),
            offset_s=cells.offset_s,
        )

    def _address(self, path: str) -> str:
        """A file's address relative to the page; empty for a member of an archive, or of no file."""
        if self.page_folder is None or not os.path.isfile(path):
            return ""
        return quote(os.path.relpath(os.path.abspath(path), os.path.abspath(self.page_folder)).replace(os.sep, "/"))


def _video_config(values: object) -> VideoConfig | None:
    """The `video` settings of a run; None where they are missing or those of another version."""
    if not isinstance(values, Mapping):
        return None
    known = {field.name: values[field.name] for field in fields(VideoConfig) if field.name in values}
    return VideoConfig(**known)


def _data_uri(frames: np.ndarray) -> str:
    """Frames (T, 3, H, W) uint8, side by side, as a WebP picture inside an address."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(side_by_side(frames)).save(buffer, format="WEBP", quality=WEBP_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
