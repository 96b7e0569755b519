import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vtg.config.video_settings import VideoConfig
from vtg.errors import SampleError
from vtg.serving.given_frames import GivenFrames

CONFIG = VideoConfig(fps=1.0, max_frames=6, min_frames=4, min_pixels=1024, max_pixels=4096)


def picture(grey: int, size: tuple[int, int] = (64, 64), kind: str = "PNG") -> bytes:
    made = io.BytesIO()
    Image.new("RGB", size, (grey, grey, grey)).save(made, kind)
    return made.getvalue()


def that_claims(width: int, height: int) -> bytes:
    """A small PNG whose head names a size."""
    made, head = picture(1), struct.pack(">4sII", b"IHDR", width, height) + bytes([8, 2, 0, 0, 0])
    return made[:12] + head + struct.pack(">I", zlib.crc32(head)) + made[33:]


def test_all_frames_are_read_at_their_own_times() -> None:
    times_s = [0.0, 0.3, 1.7, 9.0]
    pictures = [picture(0), picture(80, kind="JPEG"), picture(160, kind="WEBP"), picture(240)]
    frames = GivenFrames(pictures, times_s, 10.0)
    clip = frames.clip(CONFIG, factor=32)
    assert clip.timestamps_s.tolist() == times_s and clip.duration_s == 10.0
    assert clip.frames.shape == (4, 3, 64, 64)
    assert np.abs(clip.frames.mean(axis=(1, 2, 3)) - [0, 80, 160, 240]).max() < 3


def test_more_frames_than_a_clip_has_are_thinned_evenly() -> None:
    clip = GivenFrames([picture(at) for at in range(20)], list(range(20)), 20.0).clip(CONFIG, factor=32)
    assert len(clip.timestamps_s) == 6 and clip.timestamps_s[[0, -1]].tolist() == [0, 19]
    assert (clip.frames[:, 0, 0, 0] == clip.timestamps_s).all()


@pytest.mark.parametrize(
    ("pictures", "times_s", "duration_s", "said"),
    [
        ([picture(1)], [0.0, 1.0], 2.0, "1 frames with 2 times"),
        ([], [], 2.0, "0 frames with 0 times"),
        ([picture(1)] * 2, [1.0, 1.0], 2.0, "must rise from 0 s on"),
        ([picture(1)] * 2, [-1.0, 1.0], 2.0, "must rise from 0 s on"),
        ([picture(1)] * 2, [0.0, float("nan")], 2.0, "must rise from 0 s on"),
        ([picture(1)] * 2, [0.0, 1.0], 1.0, "must be after the last frame, at 1 s"),
        ([picture(1), b"no picture"], [0.0, 1.0], 2.0, "frame 1: no readable picture"),
        ([picture(1), picture(1)[:60]], [0.0, 1.0], 2.0, "frame 1: no readable picture"),
        ([picture(1), picture(1, kind="GIF")], [0.0, 1.0], 2.0, "frame 1: no readable picture"),
        ([picture(1), picture(1, (32, 64))], [0.0, 1.0], 2.0, "frame 1: is "),
        ([that_claims(9000, 4000)], [0.0], 2.0, "frame 0: 9000x4000 pixels, at most"),
        ([that_claims(20000, 20000)], [0.0], 2.0, "frame 0: no readable picture"),
    ],
)
def test_frames_that_are_none_are_refused(pictures: list, times_s: list, duration_s: float, said: str) -> None:
    with pytest.raises(SampleError, match=said):
        GivenFrames(pictures, times_s, duration_s).clip(CONFIG, factor=32)
