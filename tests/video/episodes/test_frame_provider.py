import logging
import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from vtg.config.video_settings import VideoConfig
from vtg.errors import ConfigError
from vtg.video.clip import DecodeError
from vtg.video.clip_loading import load_clip
from vtg.video.episodes import frame_provider
from vtg.video.episodes.frame_provider import FrameProvider, Frames, NullFrameProvider
from vtg.video.episodes.frame_providers import make_frame_provider
from vtg.video.episodes.records import FilePart, VideoRecord
from vtg.video.video_window import VideoWindow

IRREGULAR_MS = [0, 10, 30, 500, 501, 1900, 2000, 4000, 4700]
STEADY_MS = [100 * at for at in range(50)]


def record_of(path: str, start_s: float = 0.0, end_s: float | None = None) -> VideoRecord:
    return VideoRecord({"top": FilePart(path, start_s, end_s)}, key="episode_000000")


def seen(frames, frame_numbers) -> list[int | None]:
    return [None if frame is None else frame_numbers(frame[None])[0] for frame in frames]


@pytest.fixture
def three_episodes(make_video) -> list[VideoRecord]:
    """Frames 0-14, 15-29 and 30-44 of one file: 1.5 s each."""
    path = make_video([100 * at for at in range(45)])
    return [record_of(path, 1.5 * at, 1.5 * (at + 1)) for at in range(3)]


def test_the_frame_at_a_time_is_the_one_on_the_screen(make_video, frame_numbers):
    provider, record = FrameProvider(), record_of(make_video(IRREGULAR_MS))
    times_s = [0.0, 0.009, 0.01, 0.4, 0.5, 0.50095, 1.8, 1.9, 3.99, 4.0, 5.0]
    assert seen(provider.frames_at(record, times_s), frame_numbers) == [0, 0, 1, 2, 3, 4, 4, 5, 6, 7, 8]
    (frame,) = provider.frames_at(record, [4.0])
    assert frame is not None and frame.shape == (3, 48, 64) and frame.dtype == np.uint8
    assert provider.camera_keys(record) == ["top"]


def test_a_time_that_was_rounded_down_still_gets_its_own_frame(make_video, frame_numbers):
    provider, record = FrameProvider(), record_of(make_video(STEADY_MS))
    rounded = [float(np.float32(0.1 * at)) - 3e-5 for at in range(50)]
    assert seen(provider.frames_at(record, rounded), frame_numbers) == list(range(50))


def test_results_stay_aligned_with_any_request(make_video, frame_numbers):
    provider, record = FrameProvider(), record_of(make_video(STEADY_MS))
    times_s = [4.95, -1.0, 0.0, 99.0, 2.5, 2.5, float("nan"), 0.0, 5.0]
    for _ in range(2):  # decoded, and from the cache
        assert seen(provider.frames_at(record, times_s), frame_numbers) == [49, None, 0, None, 25, 25, None, 0, None]
    assert provider.frames_at(record, []) == []


def test_no_frame_is_ever_of_a_neighbouring_episode(three_episodes, frame_numbers):
    provider = FrameProvider()
    times_s = np.arange(-0.5, 2.0, 0.01)
    for number, record in enumerate(three_episodes):
        got = seen(provider.frames_at(record, times_s.tolist()), frame_numbers)
        for time_s, frame in zip(times_s, got, strict=True):
            inside = -1e-4 < time_s < 1.5 - 1e-4
            assert frame == (15 * number + int(time_s * 10 + 1e-3) if inside else None), time_s


def test_a_record_that_starts_between_two_frames_shows_nothing_until_its_first(make_video, frame_numbers):
    record = record_of(make_video(STEADY_MS), 1.05, 2.05)
    got = FrameProvider().frames_at(record, [0.0, 0.04, 0.05, 0.149, 0.15, 0.99, 1.0])
    assert seen(got, frame_numbers) == [None, None, 11, 11, 12, 20, None]


def test_a_size_of_ones_own_is_kept_apart_from_the_stored_one(make_video):
    provider, record = FrameProvider(), record_of(make_video(STEADY_MS))
    small, large = provider.frames_at(record, [0.0], size=(24, 32)), provider.frames_at(record, [0.0])
    assert small[0] is not None and large[0] is not None
    assert small[0].shape == (3, 24, 32) and large[0].shape == (3, 48, 64)


def test_frames_are_upright(make_video):
    (frame,) = FrameProvider().frames_at(record_of(make_video(STEADY_MS[:5], rotation=90)), [0.0])
    assert frame is not None and frame.shape == (3, 64, 48)


def test_files_that_cannot_be_read_give_none_and_say_why(tmp_path, caplog):
    provider, gone = FrameProvider(), record_of(str(tmp_path / "gone.mp4"))
    with caplog.at_level(logging.WARNING):
        assert provider.frames_at(gone, [0.0, 1.0]) == [None, None]
        assert provider.frames_at(gone, [2.0]) == [None]
    assert "no such file" in provider.faults[str(tmp_path / "gone.mp4")]
    assert len(caplog.records) == 1
    with pytest.raises(DecodeError, match="no such file"):
        provider.video_for_episode(gone, 4)


def test_damaged_frames_are_none_and_the_others_are_given(make_video, frame_numbers):
    path = Path(make_video(STEADY_MS[:20], name="video.mkv", options={"g": "1", "bf": "0"}))
    stored = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    for at in (7, 13):
        place = stored.index(packets[at])
        stored[place : place + len(packets[at])] = bytes(len(packets[at]))
    path.write_bytes(stored)
    provider = FrameProvider(decoder="pyav")
    got = seen(provider.frames_at(record_of(str(path)), [0.1 * at for at in range(20)]), frame_numbers)
    assert got == [None if at in (7, 13) else at for at in range(20)]
    assert "cannot be decoded" in provider.faults[str(path)]


def test_a_file_that_breaks_off_gives_the_frames_it_has(make_video, frame_numbers):
    path = Path(make_video(STEADY_MS, name="video.mkv", options={"g": "5"}))
    stored = path.read_bytes()
    path.write_bytes(stored[: len(stored) * 3 // 5])
    provider, record = FrameProvider(), record_of(str(path), 0.0, 5.0)
    got = seen(provider.frames_at(record, [0.1 * at for at in range(50)]), frame_numbers)
    given = [at for at, frame in enumerate(got) if frame is not None]
    assert 15 < len(given) < 45 and given == list(range(len(given))) == got[: len(given)]
    with pytest.raises(DecodeError, match="breaks off"):
        provider.video_for_episode(record, 4)


def test_unknown_cameras_and_too_few_frames_are_named(make_video):
    record = record_of(make_video(STEADY_MS))
    with pytest.raises(ConfigError, match=r"'wrist': episode 'episode_000000' has no such camera; it has top"):
        FrameProvider().frames_at(record, [0.0], "wrist")
    with pytest.raises(ConfigError, match="max_frames = 0"):
        FrameProvider().video_for_episode(record, 0)


def test_each_camera_has_a_part_of_its_own(make_video, frame_numbers):
    paths = [make_video(STEADY_MS, name=f"{name}.mp4") for name in ("top", "wrist")]
    record = VideoRecord({"top": FilePart(paths[0], 1.0, 2.0), "wrist": FilePart(paths[1], 3.0, 4.0)}, key="3")
    provider = FrameProvider()
    assert provider.camera_keys(record) == ["top", "wrist"]
    assert seen(provider.frames_at(record, [0.5]), frame_numbers) == [15]
    assert seen(provider.frames_at(record, [0.5], "wrist"), frame_numbers) == [35]


def test_one_call_decodes_in_one_pass_and_the_next_call_not_at_all(make_video, monkeypatch):
    passes = []
    decode = frame_provider.decode_frames
    monkeypatch.setattr(frame_provider, "decode_frames", lambda *a, **k: passes.append(len(a[1])) or decode(*a, **k))
    provider, record = FrameProvider(), record_of(make_video(STEADY_MS))
    provider.frames_at(record, [3.0, 0.0, 3.0, 0.05])
    provider.frames_at(record, [0.0, 3.0, 4.0])
    assert passes == [2, 1]


def test_memory_stays_within_its_bound(make_video):
    frame_bytes = 3 * 48 * 64
    provider, record = FrameProvider(cache_bytes=6 * frame_bytes), record_of(make_video(STEADY_MS))
    got = provider.frames_at(record, [0.1 * at for at in range(50)])
    assert all(frame is not None and frame.base is None and not frame.flags.writeable for frame in got)
    held = sum(frame_provider._bytes(value) for value in provider.memory.values())
    assert 0 < held == provider.memory.held_bytes <= 6 * frame_bytes


def test_an_episode_as_a_video_is_even_and_its_times_are_true(three_episodes, frame_numbers):
    clip = FrameProvider().video_for_episode(three_episodes[1], 4)
    assert frame_numbers(clip.frames) == [15, 20, 24, 29]
    assert clip.timestamps_s == pytest.approx([0.0, 0.5, 0.9, 1.4])
    assert (clip.start_s, clip.end_s) == (1.5, 3.0) and clip.duration_s == pytest.approx(1.5)
    every = FrameProvider().video_for_episode(three_episodes[1], 100)
    loaded = load_clip(
        VideoWindow(clip.path, start_s=1.5, end_s=3.0), VideoConfig(fps=0.0, min_pixels=1), factor=16, temporal_patch=1
    )
    assert every.timestamps_s == pytest.approx(loaded.timestamps_s)
    assert np.array_equal(every.frames, loaded.frames)


def test_a_record_that_its_file_does_not_reach_is_no_video(make_video):
    path = make_video(STEADY_MS)
    for part, words in (((4.0, 9.0), "ends at 9.000 s, but the file is 5.000 s"), ((7.0, None), "no frame is first")):
        with pytest.raises(DecodeError, match=words):
            FrameProvider().video_for_episode(record_of(path, *part), 4)
    nearly = record_of(path, 4.0, 5.4)
    assert FrameProvider().video_for_episode(nearly, 4).duration_s == pytest.approx(1.4)
    assert FrameProvider().frames_at(nearly, [1.3])[0] is not None


def test_sixteen_threads_get_the_right_frames(three_episodes, frame_numbers, tmp_path):
    provider = FrameProvider(cache_bytes=12 * 3 * 48 * 64, clip_dir=tmp_path / "clips")
    start = threading.Barrier(16)

    def ask(worker: int) -> set[str]:
        rng = np.random.default_rng(worker)
        start.wait()
        for _ in range(6):
            number = int(rng.integers(3))
            times_s = rng.uniform(-0.2, 1.7, 8).round(2)
            got = seen(provider.frames_at(three_episodes[number], times_s.tolist()), frame_numbers)
            for time_s, frame in zip(times_s, got, strict=True):
                inside = -1e-6 < time_s < 1.5 - 1e-6
                assert frame == (15 * number + int(time_s * 10 + 1e-3) if inside else None)
        return {provider.episode_clip_path(record) for record in three_episodes}

    with ThreadPoolExecutor(16) as pool:
        paths = set.union(*pool.map(ask, range(16)))
    assert len(paths) == 3 and len(os.listdir(tmp_path / "clips")) == 3


def test_threads_that_want_the_same_frames_decode_them_once(make_video, monkeypatch):
    passes, decode = [], frame_provider.decode_frames
    start = threading.Barrier(8)

    def slow(index, chosen, **settings):
        passes.append(chosen.tolist())
        return decode(index, chosen, **settings)

    monkeypatch.setattr(frame_provider, "decode_frames", slow)
    provider, record = FrameProvider(), record_of(make_video(STEADY_MS))

    def ask(_: int):
        start.wait()
        return provider.frames_at(record, [0.0, 2.0])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert passes == [[0, 20]]
    assert all(frame is not None for answer in answers for frame in answer)


def _ask_in_worker(provider, record, answers):
    answers.put(
        [int(np.asarray(frame).mean()) for frame in provider.frames_at(record, [0.0, 2.0])]
        + [provider.episode_clip_path(record)]
    )


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_start_clean_though_the_lock_was_held(make_video, tmp_path, method):
    provider, record = FrameProvider(clip_dir=tmp_path / "clips"), record_of(make_video(STEADY_MS))
    expected = [int(np.asarray(frame).mean()) for frame in provider.frames_at(record, [0.0, 2.0])]
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    processes = [context.Process(target=_ask_in_worker, args=(provider, record, answers)) for _ in range(2)]
    with provider.memory._lock:
        for process in processes:
            process.start()
    got = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(10)
    assert got[0] == got[1] and got[0][:2] == expected
    assert len(os.listdir(tmp_path / "clips")) == 1


def test_a_provider_is_pickled_without_what_it_holds(make_video):
    provider = FrameProvider(cache_bytes=123456, decoder="pyav")
    provider.frames_at(record_of(make_video(STEADY_MS)), [0.0])
    copy = pickle.loads(pickle.dumps(provider))
    assert (copy.cache_bytes, copy.decoder, copy.clip_dir) == (123456, "pyav", None)
    assert not copy.memory.values()


def test_no_video_is_told_by_the_same_methods(make_video):
    record, empty = record_of(make_video(STEADY_MS)), VideoRecord({}, key="7")
    providers: list[tuple[Frames, VideoRecord]] = [(NullFrameProvider(), record), (FrameProvider(clip_dir="."), empty)]
    for provider, asked in providers:
        assert provider.camera_keys(asked) == []
        assert provider.frames_at(asked, [0.0, 1.0]) == [None, None]
        with pytest.raises(DecodeError, match="has no video"):
            provider.video_for_episode(asked, 4)
        with pytest.raises(DecodeError, match="has no video"):
            provider.episode_clip_path(asked)


def test_a_provider_has_a_camera_of_its_own_and_shows_a_first_frame_early(make_video, frame_numbers, tmp_path: Path):
    path = make_video(STEADY_MS)
    record = VideoRecord({"top": FilePart(path), "wrist": FilePart(path, 1.05, 2.0)}, "episode_000000")
    for kept in (FrameProvider(camera_key="wrist"), FrameProvider(camera_key="wrist", tolerance_s=0.06)):
        provider = pickle.loads(pickle.dumps(kept))
        early = [None, None] if kept.tolerance_s == 0 else [11, 11]  # the part starts between the frames 10 and 11
        assert seen(provider.frames_at(record, [0.0, 0.04, 0.06, -0.1]), frame_numbers) == [*early, 11, None]
        assert seen(provider.frames_at(record, [0.0], "top"), frame_numbers) == [0]
        assert provider.video_for_episode(record, 1).start_s == 1.05


def test_the_provider_suits_the_records(make_video):
    record = record_of(make_video(STEADY_MS))
    made = make_frame_provider([VideoRecord({}), record], camera_key="top", tolerance_s=0.1)
    assert isinstance(made, FrameProvider) and (made.camera_key, made.tolerance_s) == ("top", 0.1)
    assert isinstance(make_frame_provider([VideoRecord({})]), NullFrameProvider)
    with pytest.raises(ConfigError, match="camera_key = 'wrist': no such camera; there are top"):
        make_frame_provider([record], camera_key="wrist")
