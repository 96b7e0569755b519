"""Videos in tar files and in stores are the videos that they are as files."""

import gzip
import io
import multiprocessing
import os
import tarfile
import uuid
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtg.annotations.sample import resolve_video
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.data.grounding_dataset import GroundingDataset, make_provider
from vtg.data.skip_report import SkipReport
from vtg.data.splits import read_split
from vtg.errors import ConfigError
from vtg.tasks.span_task import SpanTask
from vtg.video.clip import DecodeError
from vtg.video.clip_loading import load_clip
from vtg.video.container import probe, read_index
from vtg.video.decoders import DECODERS
from vtg.video.files import stores, video_files
from vtg.video.files.fetched import FetchedVideos
from vtg.video.provider import ClipProvider
from vtg.video.video_window import VideoWindow

CONFIG = VideoConfig(min_pixels=4096, max_pixels=4096, fps=10.0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg"


@pytest.fixture
def video(write_mp4) -> str:
    return write_mp4([100 * at for at in range(20)], seed=1)


@pytest.fixture
def shard(tmp_path: Path, video) -> str:
    return write_tar(tmp_path / "shard 1.tar", {"./a.txt": b"x" * 700, "a.mp4": Path(video).read_bytes(), "e.mp4": b""})


@pytest.fixture
def store(video) -> str:
    """A folder of an object store that holds the video as a.mp4, and in b.tar."""
    folder = uuid.uuid4().hex
    system = fsspec.filesystem("memory")
    content = Path(video).read_bytes()
    system.pipe(f"/{folder}/a.mp4", content)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        info = tarfile.TarInfo("in/a.mp4")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    system.pipe(f"/{folder}/b.tar", file.getvalue())
    return f"memory://{folder}"


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> str:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return str(path)


@settings(max_examples=30)
@given(st.dictionaries(st.text(st.characters(codec="utf-8", exclude_characters="\0/."), min_size=1, max_size=120),
                       st.binary(max_size=1500), max_size=6))  # fmt: skip
def test_every_member_is_found_where_it_lies(tmp_path_factory, members):
    path = write_tar(tmp_path_factory.mktemp("tar") / "a.tar", members)
    whole = Path(path).read_bytes()
    for name, content in members.items():
        first, size = video_files.member_range(path, name)
        assert whole[first : first + size] == content
        assert video_files.stamp(f"{path}::{name}") == (len(content), Path(path).stat().st_mtime_ns)
    assert not video_files.exists(f"{path}::absent.mp4")


def test_of_several_members_with_one_name_the_last_counts(tmp_path):
    path = str(tmp_path / "a.tar")
    write_tar(tmp_path / "a.tar", {"a": b"old"})
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo("a")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"newer"))
    assert video_files.member_range(path, "a")[1] == 5


def test_the_members_of_a_large_tar_file_are_looked_up_once(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(video_files, "STORED_MEMBERS", 1)
    path = write_tar(tmp_path / "a.tar", {"a": b"abc", "b": b"de"})
    expected = video_files.member_range(path, "b")
    assert len(list((cache / "vtg" / "tars").glob("*.npy"))) == 1
    video_files._member_table.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(video_files, "members", lambda holder: pytest.fail("looked through again"))
        assert video_files.member_range(path, "b") == expected


@pytest.mark.parametrize("decoder", list(DECODERS))
def test_every_decoder_reads_a_member_in_place(shard, video, decoder):
    config, name = replace(CONFIG, decoder=decoder), f"{shard}::a.mp4"
    try:
        expected = load_clip(VideoWindow(video), config)
    except ImportError as error:
        pytest.skip(str(error))
    found = load_clip(VideoWindow(name), config)
    assert np.array_equal(found.frames, expected.frames) and found.path == name
    assert found.timestamps_s.tolist() == expected.timestamps_s.tolist()


def test_a_part_of_a_member_is_a_part_of_the_file(shard, video):
    names = (f"{shard}::a.mp4", video)
    found, expected = (load_clip(VideoWindow(name, start_s=0.5, end_s=1.2), CONFIG) for name in names)
    assert np.array_equal(found.frames, expected.frames)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{shard}::b.mp4", r"::b\.mp4: there is no such member in the tar file"),
        ("{shard}::e.mp4", r"::e\.mp4: not a readable video .*0 bytes"),
        ("{shard}::a.txt", r"::a\.txt: not a readable video .*700 bytes"),
        ("{folder}/gone.tar::a.mp4", r"gone\.tar: no such file"),
        ("{folder}/gone.mp4", r"gone\.mp4: no such file; check the path"),
        ("{folder}/packed.tar::a.mp4", r"packed\.tar: not a whole, uncompressed tar file .*unpack a \.tar\.gz"),
        ("{store}/gone.mp4", r"gone\.mp4: no such object in the store"),
        ("{store}/b.tar::gone.mp4", r"gone\.mp4: there is no such member"),
        ("nobody://a/b.mp4", r"'nobody://a/b\.mp4' is not opened: give a path, or an address with file://, "),
    ],
)
def test_what_is_not_there_is_named(tmp_path, shard, store, name, message):
    (tmp_path / "packed.tar").write_bytes(gzip.compress(Path(shard).read_bytes()))
    name = name.format(shard=shard, store=store, folder=tmp_path)
    provider = ClipProvider(replace(CONFIG, fetch_dir=str(tmp_path / "fetched")), factor=32)
    for read in (lambda path: provider.clip(VideoWindow(path)), probe):
        with pytest.raises(DecodeError, match=message):
            read(name)
    assert not list(tmp_path.glob("fetched/vtg-videos/*"))


def test_a_damaged_object_is_named_by_its_address(tmp_path, store):
    fsspec.filesystem("memory").pipe(f"/{store.removeprefix('memory://')}/bad.mp4", b"<html>404</html>")
    provider = ClipProvider(replace(CONFIG, fetch_dir=str(tmp_path / "fetched")), factor=32)
    with pytest.raises(DecodeError, match=rf"^{store}/bad\.mp4: not a readable video"):
        provider.clip(VideoWindow(f"{store}/bad.mp4"))


@pytest.mark.parametrize("member", ["a.mp4", "b.tar::in/a.mp4"])
def test_an_object_is_fetched_once_and_is_the_file(tmp_path, store, video, member):
    provider = ClipProvider(replace(CONFIG, fetch_dir=str(tmp_path / "fetched")), factor=32, cache_bytes=0)
    expected, name = load_clip(VideoWindow(video), CONFIG), f"{store}/{member}"
    for first in (True, False):
        found = provider.clip(VideoWindow(name))
        assert np.array_equal(found.frames, expected.frames) and found.path == name
        (kept,) = (tmp_path / "fetched" / "vtg-videos").iterdir()
        assert kept.read_bytes() == Path(video).read_bytes()
        if first:
            fsspec.filesystem("memory").rm(f"/{store.removeprefix('memory://')}", recursive=True)


def test_the_clip_cache_knows_objects_by_name_and_members_by_their_tar_file(tmp_path, store, shard, video):
    config = replace(CONFIG, fetch_dir=str(tmp_path / "fetched"), cache_dir=str(tmp_path / "clips"), cache_format="raw")
    for name in (f"{store}/a.mp4", f"{shard}::a.mp4"):
        first = ClipProvider(config, factor=32)
        clip = first.clip(VideoWindow(name))
        second = ClipProvider(config, factor=32)
        again = second.clip(VideoWindow(name))
        assert np.array_equal(again.frames, clip.frames) and again.path == name
        assert first.take_counts()["decoded"] == 1 and second.take_counts()["disk"] == 1


@pytest.mark.parametrize("member", ["a.mp4", "b.tar::in/a.mp4"])
def test_facts_are_read_where_an_object_is(tmp_path, cache, store, video, member):
    assert replace(probe(f"{store}/{member}"), path="") == replace(probe(video), path="")
    assert read_index(f"{store}/{member}").times_s.tolist() == read_index(video).times_s.tolist()
    assert not list(cache.glob("vtg/videos/*"))


def test_file_addresses_are_paths(tmp_path, video):
    (tmp_path / "a b.mp4").write_bytes(Path(video).read_bytes())
    name = f"file://{tmp_path}/a%20b.mp4"
    assert video_files.exists(name) and not video_files.exists(f"file://{tmp_path}/c.mp4")
    provider = ClipProvider(replace(CONFIG, fetch_dir=str(tmp_path / "fetched")), factor=32)
    assert len(provider.clip(VideoWindow(name)).frames) == 20 and not (tmp_path / "fetched").exists()


def test_names_are_resolved_below_folders_and_addresses(tmp_path, shard):
    folder, name = str(Path(shard).parent), Path(shard).name
    assert resolve_video(f"{name}::a.mp4", folder) == f"{shard}::a.mp4"
    assert resolve_video("a/b.mp4", "s3://bucket/videos/") == "s3://bucket/videos/a/b.mp4"
    assert resolve_video("s3://other/b.mp4", "s3://bucket/videos") == "s3://other/b.mp4"
    assert resolve_video(f"{shard}::a.mp4", "elsewhere") == f"{shard}::a.mp4"


def test_a_package_that_is_missing_is_named():
    try:
        import s3fs  # noqa: F401  # pyright: ignore
    except ImportError:
        with pytest.raises(ConfigError, match=r"s3://bucket/a\.mp4: addresses with s3:// .*or s3fs alone"):
            stores.file_system("s3://bucket/a.mp4")


def test_a_store_that_cannot_be_reached_is_told_before_training(tmp_path):
    try:
        import s3fs  # noqa: F401  # pyright: ignore
    except ImportError:
        rows = tmp_path / "rows.jsonl"
        rows.write_text('{"video": "a.mp4", "duration": 2.0, "timestamp": [0, 1], "sentence": "x"}\n')
        report = SkipReport(tmp_path / "skipped.jsonl", max_bad_share=0)
        with pytest.raises(ConfigError, match=r"s3://bucket/a\.mp4: .*or s3fs alone"):
            read_split(str(rows), video_dir="s3://bucket", report=report)


def test_an_object_that_is_gone_costs_its_row_and_not_the_run(tmp_path, store, qwen3_vl):
    rows = tmp_path / "rows.jsonl"
    row = '{{"video": "{}", "duration": 2.0, "timestamp": [0.5, 1], "sentence": "it changes"}}\n'
    rows.write_text(row.format("gone.mp4") + row.format("a.mp4"))
    report = SkipReport(tmp_path / "skipped.jsonl", max_bad_share=0.5)
    samples = read_split(str(rows), video_dir=store, report=report)
    dataset = GroundingDataset(
        samples,
        task=SpanTask(TaskConfig()),
        processor=qwen3_vl.processor,
        provider=make_provider(replace(CONFIG, fps=2.0, fetch_dir=str(tmp_path / "fetched")), qwen3_vl.processor),
        video_dir=store,
        max_length=4096,
        tokens_per_second=2.0,
        training=True,
    )
    skipped = dataset[0].skipped
    assert skipped.place == f"{rows}:1" and skipped.video == "gone.mp4"
    assert skipped.reason.startswith(f"video: {store}/gone.mp4: no such object in the store")
    assert dataset[1].skipped is None


def fill(system, store: str, count: int, size: int) -> dict[str, bytes]:
    contents = {f"{store}/{at}.bin": bytes([at]) * size for at in range(count)}
    for name, content in contents.items():
        system.pipe(name.removeprefix("memory:/"), content)
    return contents


def test_the_least_recently_used_go_first_and_what_is_read_stays(tmp_path, store):
    contents = fill(fsspec.filesystem("memory"), store, 6, 1000)
    fetched, names = FetchedVideos(str(tmp_path / "f"), max_bytes=3500), list(contents)
    with fetched.local(names[0]) as held:
        for name in names[1:4]:
            with fetched.local(name):
                pass
        assert Path(held).read_bytes() == contents[names[0]]
        assert len(list((tmp_path / "f" / "vtg-videos").iterdir())) == 3
    with fetched.local(names[2]), fetched.local(names[4]), fetched.local(names[5]):
        kept = {path.read_bytes()[0] for path in (tmp_path / "f" / "vtg-videos").iterdir()}
    assert {2, 4, 5} <= kept and len(kept) == 3


def test_a_folder_of_the_users_keeps_all_that_is_the_users(tmp_path, store):
    contents = fill(fsspec.filesystem("memory"), store, 4, 1000)
    own = [tmp_path / name for name in ("thesis.txt", "a.mp4", "0" * 40 + ".mp4", "old.tmp")]
    own += [tmp_path / "vtg-videos" / name for name in ("notes.txt", "a.mp4", ".a.tmp", "0" * 41)]
    (tmp_path / "vtg-videos").mkdir()
    for path in own:
        path.write_bytes(b"mine" * 1000)
        os.utime(path, (0, 0))
    fetched = FetchedVideos(str(tmp_path), max_bytes=1500)
    for name in contents:
        with fetched.local(name):
            pass
    assert all(path.read_bytes() == b"mine" * 1000 for path in own)
    assert len(list((tmp_path / "vtg-videos").iterdir())) == 4 + 1


def read_all(folder: str, contents: dict[str, bytes], seed: int) -> int:
    fetched, right = FetchedVideos(folder, max_bytes=2500), 0
    for at in np.random.default_rng(seed).integers(len(contents), size=60).tolist():
        name = list(contents)[at]
        with fetched.local(name) as path:
            right += Path(path).read_bytes() == contents[name]
    return right


def test_processes_share_a_folder_that_is_too_small_for_them(tmp_path, store):
    contents = fill(fsspec.filesystem("memory"), store, 8, 1000)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        right = pool.starmap(read_all, [(str(tmp_path / "f"), contents, seed) for seed in range(4)])
    assert right == [60] * 4
    assert sum(path.stat().st_size for path in (tmp_path / "f" / "vtg-videos").iterdir()) <= 2500


def test_a_video_that_is_fetched_twice_keeps_the_file_that_is_read(tmp_path, store):
    """Another process that began to fetch it before ends later."""
    (name,) = fill(fsspec.filesystem("memory"), store, 1, 1000)
    fetched = FetchedVideos(str(tmp_path), max_bytes=1000)
    with fetched.local(name) as path:
        before = os.stat(path).st_ino
        fetched._fetch(name, path)
        assert os.stat(path).st_ino == before
        assert [file.name for file in (tmp_path / "vtg-videos").iterdir()] == [Path(path).name]


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, store):
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigError, match=r"video\.fetch_dir = '.*file': cannot be written to .*video\.fetch_gb"),
        FetchedVideos(str(tmp_path / "file"), max_bytes=1000).local(f"{store}/a.mp4"),
    ):
        pass
