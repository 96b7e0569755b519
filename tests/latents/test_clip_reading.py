"""Clips of a fixed number of frames: true times at any rate, within the row's window, padded with a flag."""

import pickle

import numpy as np
import pytest

from vtg.config.clip_settings import ClipsConfig
from vtg.errors import ConfigError, SampleError
from vtg.latents.clip_reading import ClipReader
from vtg.video.video_window import VideoWindow

SIZE = (64, 64)


@pytest.fixture(scope="module")
def steady(write_mp4) -> str:
    """2.901 s at 10 a second: the last frame lasts a moment. Frame k is a grey of its own."""
    return write_mp4([100 * k for k in range(30)])


@pytest.fixture(scope="module")
def uneven(write_mp4) -> str:
    """5 s: 20 frames a second, a gap of 2 s, then 10 a second."""
    return write_mp4([50 * k for k in range(20)] + [3000 + 100 * k for k in range(20)])


def reader(**settings) -> ClipReader:
    return ClipReader(ClipsConfig(**settings), frame_size_px=SIZE)


def greys(clip) -> list[int]:
    """Which frames of the file a clip has, by their grey."""
    return np.round((clip.frames.mean(axis=(1, 2, 3)) - 20) / 4).astype(int).tolist()


def test_seconds_spread_the_frames_evenly(steady):
    clip = reader(n_frames=4, seconds=2.0).clip(VideoWindow(steady), start_s=0.5)
    assert clip.timestamps_s == pytest.approx([0.0, 0.5, 1.0, 1.5])
    assert (greys(clip), clip.pad, clip.start_s) == ([5, 10, 15, 20], 0, 0.5)


def test_a_stride_counts_the_frames_of_the_file(steady):
    clip = reader(n_frames=6, seconds=None, stride=3).clip(VideoWindow(steady))
    assert greys(clip) == [0, 3, 6, 9, 12, 15]


@pytest.mark.parametrize("start", ["middle", "random"])
def test_a_stride_counts_from_any_start(steady, start):
    one, window = reader(n_frames=6, seconds=None, stride=4, start=start), VideoWindow(steady)
    for seed in range(5):
        found = greys(one.clip(window, start_s=one.start_s(window, seed=seed)))
        assert np.diff(found).tolist() == [4] * 5


def test_a_clip_that_its_video_ends_keeps_its_rate_and_is_padded_with_the_flag(steady):
    clip = reader(n_frames=8, seconds=4.0).clip(VideoWindow(steady))
    assert clip.timestamps_s == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0, 2.5])
    assert (clip.pad, len(clip.padded()[0])) == (2, 8)


def test_frames_of_a_variable_rate_keep_their_true_times_and_none_is_taken_twice(uneven):
    clip = reader(n_frames=10, seconds=5.0).clip(VideoWindow(uneven))
    assert clip.timestamps_s == pytest.approx([0.0, 0.5, 0.95, 3.0, 3.5, 4.0, 4.5])
    assert clip.pad == 3


def test_a_clip_stays_within_the_rows_trim(steady):
    clip = reader(n_frames=4, seconds=2.0).clip(VideoWindow(steady, start_s=1.0, end_s=2.0))
    assert (greys(clip), clip.pad, clip.end_s) == ([10, 15], 2, 2.0)


def test_a_trim_of_a_file_that_is_cut_already_is_counted_from_the_files_start(steady):
    one = reader(n_frames=4, seconds=2.0)
    assert greys(one.clip(VideoWindow(steady, start_s=40.0, end_s=43.0), start_s=1.0)) == [10, 15, 20, 25]


def test_starts_lie_within_the_video_and_a_seed_draws_the_same_again(steady):
    window = VideoWindow(steady)
    assert reader(n_frames=4, seconds=2.0, start="middle").start_s(window) == pytest.approx(0.4505)
    drawn = [reader(n_frames=4, seconds=2.0, start="random").start_s(window, seed=seed) for seed in (1, 2, 3, 1)]
    assert len(set(drawn)) == 3 and drawn[0] == drawn[3] and 0 <= min(drawn) <= max(drawn) <= 1
    assert reader(n_frames=4, seconds=9.0, start="middle").start_s(window) == 0


def test_frames_come_as_they_are_stored_where_the_encoder_resizes_them(write_mp4):
    path = write_mp4([0, 500, 1000], size=(48, 80))
    assert ClipReader(ClipsConfig(), frame_size_px=None).clip(VideoWindow(path)).frames.shape == (3, 3, 48, 80)


def test_a_clip_beyond_the_row_and_a_picture_are_refused(steady):
    with pytest.raises(SampleError, match=r"begins 3 s after the row's start, but there are only 2\.901 s"):
        reader().clip(VideoWindow(steady), start_s=3.0)
    with pytest.raises(SampleError, match="a still picture has no frames after one another"):
        reader().clip(VideoWindow("a.png"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_frames": 0}, "clips.n_frames = 0: must be at least 1"),
        ({"stride": 2}, "clips.seconds = 8.0, clips.stride = 2: a clip is so many seconds long, or of"),
        ({"seconds": None}, "clips.seconds = None, clips.stride = None"),
        ({"seconds": None, "stride": 0}, "clips.stride = 0: must be more than 0"),
    ],
)
def test_settings_of_which_there_is_no_clip_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        reader(**settings)


def test_the_key_tells_what_latents_depend_on_apart_and_nothing_else(steady):
    def key(identity="a", start_s=0.0, **settings) -> str:
        return reader(**settings).key(VideoWindow(steady), start_s=start_s, identity=identity)

    others = [key(identity="b"), key(start_s=1.0), key(n_frames=8), key(seconds=None, stride=2)]
    assert len({key(), *others}) == 5
    assert key(timeout_s=1.0, decoder="pyav", start="middle") == key()


def test_a_reader_can_be_sent_to_a_data_worker(steady):
    sent = pickle.loads(pickle.dumps(reader(n_frames=4, seconds=2.0)))
    assert greys(sent.clip(VideoWindow(steady))) == [0, 5, 10, 15]
