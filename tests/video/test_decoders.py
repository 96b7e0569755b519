"""The optional decoders against PyAV: the same frames at the same times, or a refusal."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from vtg.config.video_settings import VideoConfig
from vtg.video.clip import DecodeError
from vtg.video.clip_loading import load_clip
from vtg.video.container import read_index
from vtg.video.decoders import DECODERS
from vtg.video.decoders.picture import resized
from vtg.video.video_window import VideoWindow

OTHERS = ["torchcodec", "decord"]
UNREADABLE = {"decord__corrupted.mp4", "derived__truncated_mdat_sample_demo_1.mp4"}
# Their times or frames are wrong in these, by their own account or by the container's.
REFUSED = {
    "torchcodec": {"mediabunny__0.ts", "mediabunny__hevc.ts", "mmaction2__test.avi"},
    "decord": {
        "derived__streamcopy_trim11_OHOFG.mp4",
        "mediabunny__0.ts",
        "mediabunny__annex-b-avc.mkv",
        "mediabunny__hevc.ts",
        "mmaction2__test.avi",
        "moviepy__pigs_in_a_polka.gif",
        "moviepy__test_video.mp4",
        "torchcodec__av1_video.mkv",
        "torchcodec__nasa_13013.mp4",
    },
}


@pytest.fixture(params=OTHERS)
def other(request) -> str:
    """An optional decoder that works here."""
    name = request.param
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    if name == "torchcodec":
        try:
            import torchcodec.decoders  # noqa: F401
        except (ImportError, RuntimeError, OSError):
            pytest.skip("torchcodec finds no FFmpeg libraries")
    return name


def test_decoders_agree_on_every_shared_video_or_refuse_it(other, shared_videos: Path):
    agreed, refused = 0, set()
    for path in sorted(path for path in shared_videos.iterdir() if path.is_file()):
        settings = {"fps": 1.0, "max_frames": 8, "max_pixels": 128 * 128}
        try:
            mine = load_clip(VideoWindow(str(path)), VideoConfig(decoder="pyav", **settings))
        except DecodeError:
            continue
        try:
            theirs = load_clip(VideoWindow(str(path)), VideoConfig(decoder=other, **settings))
        except DecodeError as error:
            assert path.name in str(error)
            refused.add(path.name)
            continue
        assert np.array_equal(mine.timestamps_s, theirs.timestamps_s)
        # Colour conversion differs a little between FFmpeg versions.
        difference = np.abs(mine.frames.astype(int) - theirs.frames).mean(axis=(1, 2, 3))
        assert difference.max() < 6, (path.name, difference)
        agreed += 1
    assert agreed >= 20
    assert refused <= REFUSED[other]


def test_decoders_take_the_very_frames(other, make_video, frame_numbers):
    times_ms = [0, 40, 80, 300, 320, 900, 1000, 1040, 2000, 2040, 2080, 2500, 2540, 2580]
    path = make_video(times_ms)
    index = read_index(path)
    chosen = np.array([1, 3, 4, 8, 12, 13])
    frames = DECODERS[other](index, chosen, size=(48, 64))
    assert frames.shape == (6, 3, 48, 64) and frames.dtype == np.uint8
    assert frame_numbers(frames) == chosen.tolist()


def test_avi_frames_are_taken_in_the_order_of_their_times(make_video, frame_numbers):
    # H.264 with B-frames in AVI: the format stores no presentation times, and FFmpeg's guesses are out of order.
    index = read_index(make_video([40 * at for at in range(30)], name="video.avi", rate=25))
    frames = DECODERS["pyav"](index, np.arange(len(index.pts)), size=(48, 64))
    assert frame_numbers(frames) == list(range(30))


def test_resizing_is_bicubic_with_antialiasing():
    checkered = np.kron(np.indices((32, 32)).sum(0) % 2, np.ones((4, 4)))[..., None].repeat(3, 2)
    picture = (checkered * 255).astype(np.uint8)
    small = resized(picture[None], (8, 8))[0]
    assert small.shape == (3, 8, 8)
    assert np.abs(small.astype(int) - 128).max() < 12
    assert np.array_equal(resized(picture[None], (128, 128))[0], picture.transpose(2, 0, 1))
