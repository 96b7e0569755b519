"""Windows over a video, and how a window is shown to a model: sheets, single frames, or a video file."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from PIL import Image

from vtg.annotations.target import Span
from vtg.errors import SampleError
from vtg.inspect.contact_sheet import GAP, contact_sheet
from vtg.video.container import read_index
from vtg.video.episodes.chat_blocks import video_url_block
from vtg.video.episodes.frame_provider import Frames
from vtg.video.episodes.records import FilePart, VideoRecord
from vtg.video.episodes.shown import ShownFrames
from vtg.video.frame_sampling import even_frames

Show = Literal["sheets", "frames", "video"]

# Frames of a sheet, in a row of it, and pixels of a frame's width: those of LeRobot's annotation pipeline.
SHEET_FRAMES, SHEET_COLUMNS, FRAME_PIXELS = 20, 5, 224


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a camera's video, [start_s, end_s] in seconds of the video or episode.

    Attributes:
        times_s: (N,) float64 the times of all frames of the whole video or episode.
    """

    record: VideoRecord
    camera: str
    start_s: float
    end_s: float
    times_s: np.ndarray

    def frame_times(self, fps: float, max_frames: int) -> np.ndarray:
        """(M,) true times of frames in it, at even distances, about `fps` a second."""
        inside = self.times_s[(self.times_s >= self.start_s) & (self.times_s < self.end_s)]
        count = min(max(1, round(min((self.end_s - self.start_s) * fps, max_frames))), len(inside))
        return inside[even_frames(inside - self.start_s, count, duration_s=self.end_s - self.start_s)]

    def snapped(self, time_s: float) -> float:
        """The nearest time of a real frame; the end of the window stays its end."""
        if abs(time_s - self.end_s) < abs(self.times_s - time_s).min():
            return self.end_s
        return float(self.times_s[np.abs(self.times_s - time_s).argmin()])


def windows_of(record: VideoRecord, camera: str, *, window_s: float, spans: Sequence[Span] = ()) -> list[Window]:
    """The windows of a camera's video, or of each of its `spans`: of even length, none longer than `window_s`.

    Raises:
        DecodeError: the video cannot be read, or not to the episode's end.
    """
    part = record.part(camera)
    assert part is not None
    shown = ShownFrames.of(read_index(part.path), part)
    shown.check_whole(record.key)
    if shown.index.fault:
        raise SampleError(f"{part.path}: {shown.index.fault}")
    windows = []
    for first_s, last_s in spans or [(0.0, shown.duration_s)]:
        last_s = min(last_s, shown.duration_s)
        count = max(1, int(np.ceil((last_s - first_s) / window_s)))
        windows += pairwise(np.linspace(first_s, last_s, count + 1).tolist())
    return [
        Window(record, camera, start_s, end_s, shown.times_s)
        for start_s, end_s in windows
        # With few frames a window may have none of its own.
        if ((shown.times_s >= start_s) & (shown.times_s < end_s)).any()
    ]


def shown_as(
    window: Window, provider: Frames, show: Show, *, fps: float, max_frames: int
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """(content blocks of OpenAI's protocol, the times of the frames in it).

    Raises:
        SampleError: a frame cannot be decoded.
    """
    times_s = window.frame_times(fps, max_frames)
    if show == "video":
        part = window.record.part(window.camera)
        assert part is not None
        clip = FilePart(part.path, part.start_s + window.start_s, part.start_s + window.end_s)
        name = f"{window.record.key}-{window.start_s:.0f}"
        path = provider.episode_clip_path(VideoRecord({window.camera: clip}, name), window.camera)
        return [video_url_block(path, fps=fps)], times_s
    frames = provider.frames_at(window.record, times_s.tolist(), window.camera)
    if any(frame is None for frame in frames):
        raise SampleError(f"{window.record.key}: frames of it cannot be decoded; the log says why")
    pictures = [_narrowed(frame) for frame in frames if frame is not None]
    if show == "sheets":
        return list(_sheets(pictures, times_s)), times_s
    blocks = []
    for picture, time_s in zip(pictures, times_s.tolist(), strict=True):
        blocks += [{"type": "text", "text": f"<{time_s:.1f} seconds>"}, image_block(picture)]
    return blocks, times_s


def image_block(picture: np.ndarray | Image.Image) -> dict[str, Any]:
    """A picture, (3, H, W) uint8 or PIL's, as content of OpenAI's protocol."""
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0)))
    data = BytesIO()
    picture.save(data, "JPEG", quality=90)
    return {
        "type": "image_url",
        "image_url": {"url": f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"},
    }


def _sheets(pictures: Sequence[np.ndarray], times_s: np.ndarray) -> Iterator[dict[str, Any]]:
    for first in range(0, len(pictures), SHEET_FRAMES):
        part = np.stack(pictures[first : first + SHEET_FRAMES])
        times = times_s[first : first + SHEET_FRAMES]
        width = GAP + SHEET_COLUMNS * (FRAME_PIXELS + GAP)
        yield image_block(contact_sheet(part, times, columns=SHEET_COLUMNS, width=width))


def _narrowed(frame: np.ndarray) -> np.ndarray:
    """(3, H, W) of `FRAME_PIXELS` width."""
    height = max(1, round(frame.shape[1] * FRAME_PIXELS / frame.shape[2]))
    picture = Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0)))
    return np.asarray(picture.resize((FRAME_PIXELS, height), Image.Resampling.LANCZOS)).transpose(2, 0, 1)
