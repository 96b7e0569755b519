"""What a checkpoint would read of a clip, told before it is asked: frames, their times, and the cost in tokens."""

import io
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image

from vtg.annotations.sample import Sample
from vtg.annotations.target import Spans
from vtg.config.rules import check_settings
from vtg.config.video_settings import VideoConfig
from vtg.data.encoding import frame_options
from vtg.doctor.times_read import ClipReading, read_clip
from vtg.errors import SampleError
from vtg.memory.parameters import empty_model
from vtg.models.checkpoint import Settings
from vtg.models.loading import load_processor, tokens_per_second
from vtg.tasks.span_task import SpanTask
from vtg.video.clip_loading import clip_index, decode_frames, plan_clip
from vtg.video.time_limit import within
from vtg.video.video_window import VideoWindow

T = TypeVar("T")

# Of a picture of frames: so many side by side, and so high; a screen has up to two pixels for one of the page.
COLUMNS, CELL_HEIGHT = 12, 96

# Frames of a clip that are shown, evenly where it has more.
MOST_SHOWN = 96

WEBP_QUALITY = 60

# Of one picture, or of one clip's index: somebody waits for it.
TIMEOUT_S = 60.0


class ClipReader:
    """The processor of a checkpoint. Safe under threads.

    Raises:
        ConfigError: a checkpoint whose processor cannot be loaded.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._processor = load_processor(settings.model.path)
        self._task = SpanTask(settings.task)
        self._tokens_per_second = tokens_per_second(empty_model(settings.model.path, torch.float32))
        self._encoding = threading.Lock()  # a tokenizer may not be told how to cut by two threads at once
        self._decoding = threading.Semaphore(2)

    def sampled(self, *, fps: float | None, max_frames: int | None, max_pixels: int | None) -> VideoConfig:
        """The checkpoint's sampling with what is given in its place.

        Raises:
            ConfigError: numbers that cannot be.
        """
        given = {"fps": fps, "max_frames": max_frames, "max_pixels": max_pixels}
        own = self.settings.video
        video = replace(own, **{name: value for name, value in given.items() if value is not None})
        # Other limits give way: whoever asks for fewer frames or smaller ones, or for larger ones, means it.
        all_frames = 0 if max_pixels is None else video.max_frames * max_pixels
        video = replace(
            video,
            min_frames=min(video.min_frames, video.max_frames),
            min_pixels=min(video.min_pixels, video.max_pixels),
            total_pixels=max(video.total_pixels, video.max_pixels, all_frames),
        )
        check_settings(replace(self.settings, video=video), prefix="")
        return video

    def read(self, window: VideoWindow, query: str, video: VideoConfig, *, duration_s: float) -> ClipReading:
        """The frames and tokens of one question, and the times that the model would read. Decodes nothing.

        Raises:
            SampleError: the video cannot be read, or the question not be asked.
        """
        # An answer is a part of the tokens: one that says the whole clip is as long as any.
        sample = Sample(window.path, duration_s, Spans(((0.0, duration_s),)), query, "", window.start_s, window.end_s)
        _limited(clip_index, window)  # a file that hangs its reader must not do so below, where others wait
        with self._encoding:
            return read_clip(
                sample,
                window.path,
                video=video,
                task=self._task,
                processor=self._processor,
                tokens_per_second=self._tokens_per_second,
                decodes=False,
            )

    def picture(self, window: VideoWindow, video: VideoConfig) -> bytes:
        """The shown ones of the frames that `read` tells of, as one WebP picture, `COLUMNS` side by side.

        Raises:
            SampleError: they cannot be decoded.
        """
        with self._decoding:
            return _limited(self._picture, window, video)

    def _picture(self, window: VideoWindow, video: VideoConfig) -> bytes:
        index = clip_index(window)
        plan = plan_clip(index, window, video, **frame_options(self._processor))
        size = cell_size(*plan.size)
        chosen = plan.chosen[shown(len(plan.chosen))]
        frames = decode_frames(index, chosen, size=size, decoder=video.decoder, exact=False)
        missing = -len(frames) % min(COLUMNS, len(frames))
        frames = np.concatenate([frames, np.zeros((missing, *frames.shape[1:]), np.uint8)])
        height, width = size
        rows = frames.reshape(-1, min(COLUMNS, len(frames)), 3, height, width).transpose(0, 3, 1, 4, 2)
        buffer = io.BytesIO()
        sheet = np.ascontiguousarray(rows).reshape(-1, rows.shape[2] * width, 3)
        Image.fromarray(sheet).save(buffer, format="WEBP", quality=WEBP_QUALITY)
        return buffer.getvalue()


def shown(count: int) -> np.ndarray:
    """Which of `count` frames are shown: (N,) int64, increasing."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_SHOWN)).round().astype(np.int64))


def cell_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) of a frame as it is shown; even, as codecs and their scalers like it."""
    return CELL_HEIGHT, min(4 * CELL_HEIGHT, max(2, round(CELL_HEIGHT * width / height / 2) * 2))


def _limited(function: Callable[..., T], *arguments: Any) -> T:
    try:
        return within(TIMEOUT_S, function, *arguments)
    except TimeoutError:
        raise SampleError(f"the video cannot be read within {TIMEOUT_S:.0f} s; it may be damaged") from None
