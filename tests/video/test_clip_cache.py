import json
import logging
import multiprocessing
import os
import pickle
import resource
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtg.errors import ConfigError
from vtg.storage.bounded_folder import TOUCH_S
from vtg.storage.lru_folder import STALE_S
from vtg.video.clip import Clip, DecodeError
from vtg.video.clip_cache import ClipCache, clip_key
from vtg.video.video_window import VideoWindow

ROOM = 10**9
FORK = multiprocessing.get_context("fork")


SCALARS = [field.name for field in fields(Clip) if field.name not in ("frames", "timestamps_s")]


def clip_of(frames: np.ndarray, *, path: str = "a.mp4", times_s: list[float] | None = None, pad: int = 3) -> Clip:
    found_s = np.array(times_s if times_s else [0.5 * at for at in range(len(frames))])
    end_s = float(found_s[-1]) + 0.1
    return Clip(frames, found_s, duration_s=end_s, path=path, start_s=1 / 3, end_s=1 / 3 + end_s, pad=pad)


def noise(seed: int = 0, shape: tuple[int, int, int, int] = (2, 3, 32, 64)) -> Clip:
    return clip_of(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


def waves(count: int, height: int, width: int) -> np.ndarray:
    """(count, 3, height, width) uint8: smooth coloured waves that move."""
    t, c, y, x = np.ogrid[:count, :3, :height, :width]
    level = np.sin(x / 9 + t / 2 + c) + np.cos(y / 7 - t / 3 + 2 * c)
    return (128 + 60 * level).astype(np.uint8)


def key_of(number: int) -> str:
    return f"{number * 2654435761 % 2**32:08x}{number:032x}"


def decibels(one: np.ndarray, other: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(1e-9, np.square(one.astype(np.float32) - other).mean()))


def entries(folder: Path) -> list[Path]:
    return list(folder.glob("??/*.safetensors"))


def held(folder: Path) -> int:
    """Bytes of all entries."""
    total = 0
    for path in entries(folder):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def stored(cache: ClipCache, clip: Clip, key: str = "ab" * 20) -> Clip:
    cache.put(key, clip)
    found = cache.get(key)
    assert found is not None
    return found


def same_but_frames(one: Clip, other: Clip) -> bool:
    return (
        one.timestamps_s.tobytes() == other.timestamps_s.tobytes()
        and [getattr(one, name) for name in SCALARS] == [getattr(other, name) for name in SCALARS]
        and one.frames.shape == other.frames.shape
        and one.frames.dtype == other.frames.dtype
    )


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, n) for n in (4, 40, 40)]),
    gaps_s=st.lists(st.floats(1e-6, 1e4), min_size=4, max_size=4),
    seed=st.integers(0, 99),
    path=st.text(st.characters(codec="utf-8"), max_size=9) | st.just(os.fsdecode(b"no utf-8 \xff\xfe.mp4")),
)
def test_raw_gives_back_the_very_clip(tmp_path_factory, shape, gaps_s, seed, path):
    count, height, width = shape
    frames = np.random.default_rng(seed).integers(0, 256, (count, 3, height, width), np.uint8)
    clip = clip_of(frames, path=path, times_s=np.cumsum(gaps_s)[:count].tolist())
    found = stored(ClipCache(str(tmp_path_factory.mktemp("cache")), max_bytes=ROOM, cache_format="raw"), clip)
    assert same_but_frames(found, clip) and np.array_equal(found.frames, clip.frames)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (17, 33), (64, 96), (255, 130)])
@pytest.mark.parametrize("count", [1, 2, 41])
def test_compact_gives_back_every_frame_in_order_and_nearly_the_pixels(tmp_path, count, size):
    clip = clip_of(waves(count, *size), times_s=np.cumsum(np.full(count, 1 / 7)).tolist())
    found = stored(ClipCache(str(tmp_path), max_bytes=ROOM), clip)
    assert same_but_frames(found, clip)
    assert min(decibels(one, other) for one, other in zip(found.frames, clip.frames, strict=True)) > (
        40 if min(size) > 16 else 36
    )


def test_compact_keeps_a_cut_in_each_frame_apart_and_saturated_colours(tmp_path):
    levels = np.array([[r, g, b] for r in (0, 255) for g in (0, 255) for b in (0, 255)] * 8, np.uint8)
    frames = np.ascontiguousarray(np.broadcast_to(levels[:, :, None, None], (64, 3, 32, 32)))
    found = stored(ClipCache(str(tmp_path), max_bytes=ROOM), clip_of(frames))
    assert np.abs(found.frames.astype(int) - frames).max() <= 6


@pytest.mark.parametrize("name", ["videollama2__sample_demo_1.mp4", "timesuite__yoga.mp4"])
def test_compact_is_small_and_close_on_real_videos(tmp_path, name):
    path = Path(__file__).parents[2].parent / "shared" / "data" / "videos" / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    with av.open(str(path)) as video:
        pictures = [frame.to_image(width=448, height=256) for frame in islice(video.decode(video=0), 0, None, 15)]
    clip = clip_of(np.stack(pictures).transpose(0, 3, 1, 2))
    cache = ClipCache(str(tmp_path), max_bytes=ROOM)
    found = stored(cache, clip)
    assert same_but_frames(found, clip)
    assert decibels(found.frames, clip.frames) > 40.5
    assert np.abs(found.frames.astype(int) - clip.frames).max() <= 40
    assert cache.counts["bytes_written"] < clip.frames.nbytes / 14


def test_the_same_clip_is_stored_the_same_each_time(tmp_path):
    cache = ClipCache(str(tmp_path), max_bytes=ROOM)
    one, other = (stored(cache, clip_of(waves(9, 64, 64)), key_of(number)) for number in range(2))
    assert np.array_equal(one.frames, other.frames)


def test_hits_misses_and_bytes_are_counted(tmp_path):
    cache = ClipCache(str(tmp_path), max_bytes=ROOM)
    assert cache.get(key_of(0)) is None
    stored(cache, noise(), key_of(0))
    (entry,) = entries(tmp_path)
    assert entry == tmp_path / key_of(0)[:2] / f"{key_of(0)}.safetensors"
    size = entry.stat().st_size
    assert +cache.counts == {"misses": 1, "hits": 1, "stored": 1, "bytes_read": size, "bytes_written": size}


def zeros_after_a_power_cut(content: bytes) -> bytes:
    return content[: len(content) // 2] + bytes(len(content) - len(content) // 2)


def one_bit(content: bytes) -> bytes:
    return content[:-99] + bytes([content[-99] ^ 1]) + content[-98:]


DAMAGE = {
    "cut short": lambda content: content[:-1],
    "half": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "zeros": zeros_after_a_power_cut,
    "one bit": one_bit,
    "another duration": lambda content: content.replace(b'"duration_s":"0.6"', b'"duration_s":"0.7"'),
    "another version": lambda content: content.replace(b'"format":"1 ', b'"format":"0 '),
    "garbage": lambda content: b"<html>not found</html>" * 99,
    "huge header": lambda content: b"\xff" * 8 + content[8:],
}


@pytest.mark.parametrize("cache_format", ["raw", "compact"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_a_miss_and_removed(tmp_path, cache_format, damage):
    cache = ClipCache(str(tmp_path), max_bytes=ROOM, cache_format=cache_format)
    stored(cache, noise(), key_of(0))
    (path,) = entries(tmp_path)
    content = path.read_bytes()
    path.write_bytes(DAMAGE[damage](content))
    assert path.read_bytes() != content
    assert cache.get(key_of(0)) is None and not path.exists()
    assert (cache.counts["misses"], cache.counts["unreadable"]) == (1, 1)
    assert stored(cache, noise(), key_of(0)) is not None


def test_an_entry_of_the_other_format_is_a_miss(tmp_path):
    ClipCache(str(tmp_path), max_bytes=ROOM).put(key_of(0), noise())
    cache = ClipCache(str(tmp_path), max_bytes=ROOM, cache_format="raw")
    assert cache.get(key_of(0)) is None
    assert np.array_equal(stored(cache, noise(), key_of(0)).frames, noise().frames)


def test_the_least_recently_used_entries_go_first(tmp_path):
    probe = ClipCache(str(tmp_path / "one"), max_bytes=ROOM, cache_format="raw")
    probe.put(key_of(0), noise())
    size = probe.counts["bytes_written"]
    cache = ClipCache(str(tmp_path / "two"), max_bytes=10 * size + 9, cache_format="raw")
    for number in range(10):
        cache.put(key_of(number), noise(number))
        path = tmp_path / "two" / key_of(number)[:2] / f"{key_of(number)}.safetensors"
        # Written a while ago, one after the other.
        os.utime(path, (0, time.time() - 2 * TOUCH_S - 10 + number))
    assert len(entries(tmp_path / "two")) == 10 and not cache.counts["evicted"]
    assert cache.get(key_of(0)) is not None
    cache.put(key_of(10), noise(10))
    assert cache.counts["evicted"] == 1
    assert cache.get(key_of(1)) is None
    kept = [number for number in range(11) if cache.get(key_of(number)) is not None]
    assert kept == [0, *range(2, 11)]


def test_the_folder_stays_within_its_bound_and_holds_the_newest(tmp_path):
    cache = ClipCache(str(tmp_path), max_bytes=100_000, cache_format="raw")
    for number in range(60):
        cache.put(key_of(number), noise(number))
        assert held(tmp_path) <= 100_000
        assert cache.get(key_of(number)) is not None
    assert held(tmp_path) > 80_000 and cache.counts["stored"] == 60
    assert cache.counts["evicted"] == 60 - len(entries(tmp_path))


def test_a_folder_filled_by_earlier_runs_is_counted(tmp_path):
    for number in range(8):
        ClipCache(str(tmp_path), max_bytes=ROOM, cache_format="raw").put(key_of(number), noise(number))
    (tmp_path / ".size").write_text("who knows")
    cache = ClipCache(str(tmp_path), max_bytes=30_000, cache_format="raw")
    cache.put(key_of(9), noise(9))
    assert held(tmp_path) <= 30_000 and cache.get(key_of(9)) is not None


def test_a_clip_larger_than_the_cache_is_not_stored(tmp_path):
    cache = ClipCache(str(tmp_path), max_bytes=1000)
    cache.put(key_of(0), noise())
    assert not entries(tmp_path) and +cache.counts == {"skipped": 1}


def test_stale_temporary_files_go_and_others_stay(tmp_path):
    cache = ClipCache(str(tmp_path), max_bytes=30_000, cache_format="raw")
    cache.put(key_of(0), noise())
    folder = entries(tmp_path)[0].parent
    stale, fresh = (folder / f".{entries(tmp_path)[0].stem}.{pid}.{'0' * 32}.tmp" for pid in (1, 2))
    foreign = [
        folder / "notes.txt",
        folder / "model.safetensors",
        folder / ".notes.tmp",
        folder / "abcdef0123.safetensors",
    ]
    for path in (stale, fresh, *foreign):
        path.write_bytes(b"x" * 10)
        os.utime(path, (0, time.time() - (60 if path is fresh else 2 * STALE_S)))
    for number in range(1, 9):
        cache.put(key_of(number), noise(number))
    assert cache.counts["evicted"] and not stale.exists() and fresh.exists() and all(path.exists() for path in foreign)


def fill(cache: ClipCache, first: int, count: int) -> None:
    for number in range(first, first + count):
        cache.put(key_of(number % 80), noise(number % 80))
        found = cache.get(key_of((number * 7) % 80))
        assert found is None or np.array_equal(found.frames, noise((number * 7) % 80).frames)


def test_four_processes_writing_at_once_keep_the_bound(tmp_path):
    cache = ClipCache(str(tmp_path), max_bytes=200_000, cache_format="raw")
    writers = [FORK.Process(target=fill, args=(cache, 37 * at, 150)) for at in range(4)]
    for writer in writers:
        writer.start()
    seen: list[int] = []
    while any(writer.is_alive() for writer in writers):
        # Held still: a listing made while entries come and go has both those that left and those that took their room.
        for act in (signal.SIGSTOP, signal.SIGCONT):
            for writer in writers:
                with suppress(ProcessLookupError):
                    os.kill(writer.pid or 0, act)
            if act == signal.SIGSTOP:
                time.sleep(0.002)
                seen.append(held(tmp_path))
        time.sleep(0.003)
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert len(seen) > 20 and 150_000 < max(seen) <= 200_000 and held(tmp_path) <= 200_000
    assert not list(tmp_path.glob("??/.*.tmp"))


def write_for_ever(cache: ClipCache) -> None:
    for number in range(10**9):
        cache.put(key_of(number % 40), noise(number % 40, (4, 3, 128, 128)))


@pytest.mark.parametrize("cache_format", ["raw", "compact"])
def test_a_writer_killed_at_any_time_leaves_only_whole_entries(tmp_path, cache_format):
    cache = ClipCache(str(tmp_path), max_bytes=3_000_000, cache_format=cache_format)
    for round_ in range(8):
        writer = FORK.Process(target=write_for_ever, args=(cache,))
        writer.start()
        time.sleep(0.1 + 0.013 * round_)
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join()
        assert held(tmp_path) <= 3_000_000
    found = entries(tmp_path)
    assert found and all(cache.get(path.stem) is not None for path in found)
    cache.put(key_of(99), noise(99))
    assert cache.get(key_of(99)) is not None


@pytest.mark.parametrize("cache_format", ["raw", "compact"])
def test_sixteen_threads_get_and_put(tmp_path, cache_format):
    cache = ClipCache(str(tmp_path), max_bytes=150_000, cache_format=cache_format)
    clips = [clip_of(waves(3, 32, 32 + 2 * at), path=str(at)) for at in range(24)]

    def work(seed: int) -> int:
        for number in np.random.default_rng(seed).integers(0, len(clips), 30).tolist():
            found = cache.get(key_of(number))
            if found is None:
                cache.put(key_of(number), clips[number])
            else:
                assert same_but_frames(found, clips[number]) and decibels(found.frames, clips[number].frames) > 40
        return 30

    with ThreadPoolExecutor(16) as pool:
        asked = sum(pool.map(work, range(16)))
    counts = cache.counts
    assert counts["hits"] + counts["misses"] == asked
    assert counts["stored"] + counts["skipped"] == counts["misses"] and not counts["failed"]
    assert counts["hits"] and not counts["unreadable"] and held(tmp_path) <= 150_000


def put_with_small_files(cache: ClipCache, queue) -> None:
    logged: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())
    logging.getLogger("vtg.video.clip_cache").addHandler(handler)
    # The kernel refuses to write on, as it does where a disk is full.
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
    for number in range(3):
        cache.put(key_of(number), noise(number))
    queue.put((dict(+cache.counts), logged))


def test_a_full_disk_is_counted_and_logged_once(tmp_path):
    cache = ClipCache(str(tmp_path), max_bytes=ROOM, cache_format="raw")
    queue = FORK.SimpleQueue()
    writer = FORK.Process(target=put_with_small_files, args=(cache, queue))
    writer.start()
    counts, logged = queue.get()
    writer.join()
    assert counts == {"failed": 3}
    assert len(logged) == 1 and f"video.cache_dir = {tmp_path}: a clip could not be stored" in logged[0]
    assert "check the free space" in logged[0]
    assert not [path for path in tmp_path.glob("??/*") if path.is_file()]


def test_a_folder_that_cannot_be_written_is_a_wrong_setting(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigError) as caught:
        ClipCache(str(tmp_path / "file" / "cache"), max_bytes=ROOM)
    assert f"video.cache_dir = {str(tmp_path / 'file' / 'cache')!r}" in str(caught.value)
    assert "name a folder of yours" in str(caught.value)


def test_other_wrong_settings_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"video.cache_format = 'zip': must be one of compact, raw"):
        ClipCache(str(tmp_path), max_bytes=ROOM, cache_format="zip")
    with pytest.raises(ConfigError, match=r"video.cache_gb: 0 bytes hold nothing"):
        ClipCache(str(tmp_path), max_bytes=0)


def test_a_folder_that_went_away_comes_back_with_the_next_clip(tmp_path):
    cache = ClipCache(str(tmp_path / "cache"), max_bytes=ROOM)
    (tmp_path / "cache" / ".size").unlink()
    (tmp_path / "cache" / ".lock").unlink()
    (tmp_path / "cache").rmdir()
    assert cache.get(key_of(0)) is None
    assert stored(cache, noise(), key_of(0)) is not None


def test_a_pickled_cache_is_the_same_folder_with_counts_of_its_own(tmp_path):
    cache = ClipCache(str(tmp_path), max_bytes=ROOM, cache_format="raw")
    stored(cache, noise(), key_of(0))
    other = pickle.loads(pickle.dumps(cache))
    assert not other.counts and other.max_bytes == ROOM and other.cache_format == "raw"
    assert np.array_equal(other.get(key_of(0)).frames, noise().frames)


def test_a_file_that_is_evicted_while_it_is_used_does_no_harm(tmp_path):
    cache = ClipCache(str(tmp_path), max_bytes=ROOM, cache_format="raw")
    found = stored(cache, noise(), key_of(0))
    for path in entries(tmp_path):
        path.unlink()
    assert np.array_equal(found.frames, noise().frames) and cache.get(key_of(0)) is None


def test_the_key_changes_with_the_file_and_with_every_setting(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"video")
    os.utime(path, ns=(0, 10**18))
    chosen = {"fps": 2.0, "max_pixels": 4096, "cache_format": "raw"}
    window = VideoWindow(str(path))
    key = clip_key(window, **chosen)
    assert int(key, 16) and key == clip_key(window, **dict(reversed(chosen.items())))
    (tmp_path / "link.mp4").symlink_to(path)
    assert clip_key(VideoWindow(str(tmp_path / "link.mp4")), **chosen) == key
    others = [clip_key(window, **(chosen | change)) for change in ({"fps": 1.0}, {"n": 1})]
    others += [clip_key(replace(window, **{name: 1.0}), **chosen) for name in ("start_s", "end_s", "duration_s")]
    os.utime(path, ns=(0, 10**18 + 1))
    others.append(clip_key(window, **chosen))
    path.write_bytes(b"longer video")
    os.utime(path, ns=(0, 10**18))
    others.append(clip_key(window, **chosen))
    (tmp_path / "b.mp4").write_bytes(b"video")
    os.utime(tmp_path / "b.mp4", ns=(0, 10**18))
    others.append(clip_key(VideoWindow(str(tmp_path / "b.mp4")), **chosen))
    assert len({key, *others}) == 9


def test_the_key_of_a_clip_stays_so_that_caches_stay_full():
    whole = VideoWindow("s3://bucket/a.mp4")
    part = replace(whole, start_s=1.5, end_s=4.0, duration_s=2.5)
    assert clip_key(whole, fps=2.0) == "098a0a520cf4062617cf87e2dd61266ada9c99a0"
    assert clip_key(part, fps=2.0) == "4c525707174a3a3f85d8426e4d588a87acad946b"


def test_the_key_of_no_file_says_what_to_check(tmp_path):
    with pytest.raises(DecodeError, match=r"gone.mp4: no such file .*check the path and the video folder"):
        clip_key(VideoWindow(str(tmp_path / "gone.mp4")))


def test_an_entry_is_a_plain_safetensors_file(tmp_path):
    cache = ClipCache(str(tmp_path), max_bytes=ROOM)
    stored(cache, noise(), key_of(0))
    content = entries(tmp_path)[0].read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert set(header) == {"__metadata__", "packets", "sizes", "timestamps_s"}
    assert {"path", "duration_s", "start_s", "end_s", "format", "height", "width"} < set(header["__metadata__"])
