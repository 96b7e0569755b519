"""Frames, clips and video files as content of Qwen-VL chat messages."""

import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import numpy as np
from PIL import Image

from vtg.errors import ConfigError
from vtg.video.clip import Clip


def image_blocks(frames: Sequence[np.ndarray | None], timestamps_s: Sequence[float]) -> list[dict[str, Any]]:
    """Chat content: before each image its time, in the words of Qwen3-VL. For transformers and qwen-vl-utils alike.

    Args:
        frames: (3, H, W) uint8 each; entries that are None are left out with their time.
        timestamps_s: one for each frame.
    """
    blocks: list[dict[str, Any]] = []
    for frame, time_s in zip(frames, timestamps_s, strict=True):
        if frame is not None:
            # The very text that Qwen3-VL's processor puts before the frames of a video.
            blocks.append({"type": "text", "text": f"<{time_s:.1f} seconds>"})
            blocks.append({"type": "image", "image": _picture(frame)})
    return blocks


def video_block(clip: Clip) -> dict[str, Any]:
    """Chat content: a clip as a video of frames.

    transformers takes the frames from it, and their times from `video_settings(clip)`. qwen-vl-utils takes times from
    `sample_fps`: it knows only an even spacing, so those are the clip's own to the extent that its frames are even.
    """
    # qwen-vl-utils has one rate for all frames: the mean spacing is right for even frames alone.
    spacing_s = clip.duration_s
    if len(clip.timestamps_s) > 1:
        spacing_s = float(clip.timestamps_s[-1] - clip.timestamps_s[0]) / (len(clip.timestamps_s) - 1)
    fps = 1 / spacing_s
    return {"type": "video", "video": [_picture(frame) for frame in clip.frames], "sample_fps": fps, "raw_fps": fps}


def video_settings(*clips: Clip) -> dict[str, Any]:
    """`processor_kwargs` of `apply_chat_template(…, tokenize=True)` for the `video_block`s of a conversation, in order:
    the true time of every frame, in milliseconds, and that no frames be sampled from these."""
    # As frame numbers of a video of 1,000 a second: processors take no times, only numbers and a rate.
    metadata = [
        {
            "total_num_frames": max(1, round(clip.duration_s * 1000)),
            "fps": 1000.0,
            "frames_indices": [round(time_s * 1000) for time_s in clip.timestamps_s.tolist()],
            "duration": clip.duration_s,
        }
        for clip in clips
    ]
    # The frames are chosen already; sampling again would drop some and shift the rest.
    return {"do_sample_frames": False, "video_metadata": metadata}


def video_file_block(path: str, *, fps: float) -> dict[str, Any]:
    """Chat content: a video file that the processor reads itself, `fps` frames a second.

    A local file stands in it as a plain absolute path, which transformers and qwen-vl-utils both read (transformers
    refuses file:// URLs); an http(s) URL stays one. qwen-vl-utils takes `fps` from the block, transformers only from
    `processor_kwargs={"fps": fps}`.
    """
    return {"type": "video", "video": _local(path) or path, "fps": _checked(fps)}


def video_url_block(path: str, *, fps: float) -> dict[str, Any]:
    """Chat content for a server with OpenAI's interface (vLLM): a file:// or http(s) URL, and `fps`."""
    local = _local(path)
    return {
        "type": "video_url",
        "video_url": {"url": f"file://{quote(local)}" if local else path},
        "fps": _checked(fps),
    }


def _local(path: str) -> str | None:
    """The absolute path of a file or a file:// URL; None for other URLs."""
    url = urlsplit(path)
    if url.scheme == "file":
        return unquote(url.path)
    return None if "://" in path else os.path.abspath(path)


def _checked(fps: float) -> float:
    if not (np.isfinite(fps) and fps > 0):
        raise ConfigError(f"fps = {fps}: must be above 0 frames a second")
    return fps


def _picture(frame: np.ndarray) -> Image.Image:
    return Image.fromarray(frame.transpose(1, 2, 0))
