import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import numpy as np
import pytest

from vtg.config.video_settings import VIDEO_MEANS, VideoConfig
from vtg.video.clip import Clip, DecodeError
from vtg.video.clip_cache import clip_key
from vtg.video.clip_loading import load_clip
from vtg.video.provider import ClipProvider
from vtg.video.video_window import VideoWindow

CONFIG = VideoConfig(fps=0.0, min_frames=1, min_pixels=4096, max_pixels=4096)
CLIP_BYTES = 10 * 3 * 64 * 64
"""Of a clip of ten frames."""


@pytest.fixture(scope="module")
def videos(write_mp4) -> list[str]:
    return [write_mp4([100 * k for k in range(10)], seed=seed) for seed in range(4)]


def test_a_clip_that_comes_again_is_the_same_object_and_what_load_clip_gives(videos):
    provider = ClipProvider(CONFIG, factor=32)
    clip, loaded = provider.clip(VideoWindow(videos[0])), load_clip(VideoWindow(videos[0]), CONFIG, factor=32)
    assert provider.clip(VideoWindow(videos[0])) is clip
    assert np.array_equal(clip.frames, loaded.frames) and clip.frames.nbytes == CLIP_BYTES
    assert np.array_equal(clip.timestamps_s, loaded.timestamps_s)


def test_another_trim_or_duration_is_another_clip(videos):
    provider = ClipProvider(CONFIG, factor=32)
    clips = [
        provider.clip(VideoWindow(videos[0])),
        provider.clip(VideoWindow(videos[0], duration_s=1.05)),
        provider.clip(VideoWindow(videos[0], start_s=0.2, end_s=0.6)),
        provider.clip(VideoWindow(videos[0], start_s=0.2, end_s=0.7)),
        provider.clip(VideoWindow(videos[1])),
    ]
    assert len({id(clip) for clip in clips}) == 5
    assert [len(clip.frames) for clip in clips] == [10, 10, 4, 5, 10]


def test_the_seed_matters_for_random_sampling_alone(videos):
    steady = ClipProvider(CONFIG, factor=32)
    assert steady.clip(VideoWindow(videos[0]), seed=1) is steady.clip(VideoWindow(videos[0]), seed=2)
    drawn = ClipProvider(replace(CONFIG, sampling="random", max_frames=2), factor=32)
    assert drawn.clip(VideoWindow(videos[0]), seed=1) is drawn.clip(VideoWindow(videos[0]), seed=1)
    times = {tuple(drawn.clip(VideoWindow(videos[0]), seed=seed).timestamps_s) for seed in range(8)}
    assert len(times) > 1


def test_the_least_recently_used_clip_leaves_first_and_the_bytes_stay_bounded(videos):
    provider = ClipProvider(CONFIG, factor=32, cache_bytes=2 * CLIP_BYTES)
    first, second = provider.clip(VideoWindow(videos[0])), provider.clip(VideoWindow(videos[1]))
    assert provider.clip(VideoWindow(videos[0])) is first
    provider.clip(VideoWindow(videos[2]))
    assert provider.clip(VideoWindow(videos[0])) is first
    assert provider.clip(VideoWindow(videos[1])) is not second
    for path in videos * 3:
        provider.clip(VideoWindow(path))
        kept = provider.memory.values()
        assert sum(clip.frames.nbytes for clip in kept) == provider.memory.held_bytes <= 2 * CLIP_BYTES


def test_a_clip_larger_than_the_cache_is_given_and_not_kept(videos):
    provider = ClipProvider(CONFIG, factor=32, cache_bytes=CLIP_BYTES - 1)
    clip = provider.clip(VideoWindow(videos[0]))
    assert len(clip.frames) == 10 and provider.clip(VideoWindow(videos[0])) is not clip
    assert provider.memory.held_bytes == 0


def test_a_worker_gets_the_settings_and_an_empty_cache(videos):
    provider = ClipProvider(CONFIG, factor=32, cache_bytes=3 * CLIP_BYTES)
    clip = provider.clip(VideoWindow(videos[0]))
    written = pickle.dumps(provider)
    assert len(written) < CLIP_BYTES
    worker = pickle.loads(written)
    assert (worker.config, worker.factor, worker.cache_bytes) == (CONFIG, 32, 3 * CLIP_BYTES)
    again = worker.clip(VideoWindow(videos[0]))
    assert again is not clip and np.array_equal(again.frames, clip.frames)


def test_threads_get_whole_clips_and_the_count_stays_right(videos):
    provider = ClipProvider(CONFIG, factor=32, cache_bytes=2 * CLIP_BYTES)
    expected = {path: load_clip(VideoWindow(path), CONFIG, factor=32).frames for path in videos}
    start = threading.Barrier(8)

    def work(offset: int) -> bool:
        start.wait()
        order = [videos[(offset + at) % len(videos)] for at in range(8)]
        return all(np.array_equal(provider.clip(VideoWindow(path)).frames, expected[path]) for path in order)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    kept = provider.memory.values()
    assert provider.memory.held_bytes == sum(clip.frames.nbytes for clip in kept) <= 2 * CLIP_BYTES


def test_threads_that_want_one_clip_decode_it_once(videos):
    provider, start = ClipProvider(CONFIG, factor=32), threading.Barrier(8)

    def ask(_: int) -> Clip:
        start.wait()
        return provider.clip(VideoWindow(videos[0]))

    with ThreadPoolExecutor(8) as pool:
        clips = list(pool.map(ask, range(8)))
    assert all(clip is clips[0] for clip in clips)
    assert provider.take_counts() == {"decoded": 1, "memory": 7}


def test_every_thread_is_told_that_a_file_cannot_be_read(videos, tmp_path):
    provider, start, path = ClipProvider(CONFIG, factor=32), threading.Barrier(8), tmp_path / "late.mp4"

    def ask(_: int) -> None:
        start.wait()
        with pytest.raises(DecodeError, match=r"late\.mp4"):
            provider.clip(VideoWindow(str(path)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
    path.symlink_to(videos[0])
    assert len(provider.clip(VideoWindow(str(path))).frames) == 10
    assert provider.take_counts() == {"decoded": 1}


def test_clips_on_disk_outlive_the_process_and_are_counted(videos, tmp_path):
    config = replace(CONFIG, cache_dir=str(tmp_path), cache_format="raw")
    first = ClipProvider(config, factor=32)
    clips = [first.clip(VideoWindow(path)) for path in (videos[0], videos[1], videos[0])]
    counts = first.take_counts()
    written = counts.pop("disk bytes_written")
    assert written >= 2 * CLIP_BYTES and counts.pop("disk bytes_read") == written  # handed out as stored
    assert counts == {"decoded": 2, "memory": 1} and first.take_counts() == {}
    later = ClipProvider(config, factor=32)
    for path, clip in zip(videos[:2], clips[:2], strict=True):
        again = later.clip(VideoWindow(path))
        assert np.array_equal(again.frames, clip.frames) and np.array_equal(again.timestamps_s, clip.timestamps_s)
        assert (again.path, again.duration_s, again.end_s) == (clip.path, clip.duration_s, clip.end_s)
    assert later.take_counts() == {"disk": 2, "disk bytes_read": written}
    later.clip(VideoWindow(videos[2]))
    other = ClipProvider(replace(config, fps=5.0), factor=32)
    other.clip(VideoWindow(videos[0]))
    assert later.take_counts()["decoded"] == other.take_counts()["decoded"] == 1


def test_a_compact_cache_shows_the_first_epoch_what_later_ones_see(videos, tmp_path):
    config = replace(CONFIG, cache_dir=str(tmp_path))
    decoded, stored = (ClipProvider(config, factor=32).clip(VideoWindow(videos[0])).frames for _ in range(2))
    assert np.array_equal(decoded, stored)
    exact = load_clip(VideoWindow(videos[0]), CONFIG, factor=32).frames
    assert np.abs(exact.astype(int) - stored).mean() < 2


def test_a_size_of_frames_makes_other_clips_and_none_leaves_the_old_ones_where_they_are(videos, tmp_path):
    window = VideoWindow(videos[0])
    config = VideoConfig(max_frames=4, cache_dir=str(tmp_path))
    plain = ClipProvider(config, factor=32)
    square = ClipProvider(replace(config, frame_size=96), factor=32)
    assert plain.clip(window).frames.shape[2:] != square.clip(window).frames.shape[2:] == (96, 96)
    settings = {key: value for key, value in asdict(config).items() if key not in (*VIDEO_MEANS, "frame_size")}
    key = clip_key(window, **settings, cache_format="compact", factor=32)  # as before there was such a setting
    assert [path.stem for path in tmp_path.rglob("*.safetensors") if path.stem == key] == [key]


def test_random_draws_are_not_kept_on_disk(videos, tmp_path):
    config = replace(CONFIG, sampling="random", max_frames=2, cache_dir=str(tmp_path / "cache"))
    ClipProvider(config, factor=32).clip(VideoWindow(videos[0]), seed=1)
    assert not (tmp_path / "cache").exists()


def test_decoding_in_a_child_gives_the_same_clip(videos, tmp_path):
    config = replace(CONFIG, isolate=True, cache_dir=str(tmp_path), cache_format="raw")
    provider = ClipProvider(config, factor=32)
    clip = provider.clip(VideoWindow(videos[0], start_s=0.2, end_s=0.6))
    expected = load_clip(VideoWindow(videos[0], start_s=0.2, end_s=0.6), CONFIG, factor=32)
    assert np.array_equal(clip.frames, expected.frames) and np.array_equal(clip.timestamps_s, expected.timestamps_s)
    with pytest.raises(DecodeError, match=r"gone\.mp4"):
        provider.clip(VideoWindow(str(tmp_path / "gone.mp4")))
    assert provider.take_counts()["decoded"] == 1


def test_a_file_that_cannot_be_read_is_an_error_every_time(tmp_path):
    provider = ClipProvider(CONFIG, factor=32)
    for _ in range(2):
        with pytest.raises(DecodeError, match=r"gone\.mp4"):
            provider.clip(VideoWindow(str(tmp_path / "gone.mp4")))
