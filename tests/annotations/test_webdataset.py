"""Shards as a source of rows, and their videos read where they lie."""

import io
import json
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest

from vtg.annotations.formats.webdataset import read_shards, shard_names
from vtg.annotations.sample import Problem, Sample
from vtg.annotations.table_cache import read_table
from vtg.config.data_settings import DataConfig
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.data.grounding_dataset import GroundingDataset, make_provider
from vtg.data.skip_report import SkipReport
from vtg.data.splits import read_split, read_splits
from vtg.errors import ConfigError
from vtg.tasks.span_task import SpanTask
from vtg.video.video_window import VideoWindow

ROW = {"duration": 1.0, "timestamp": [0.2, 0.6], "sentence": "it gets brighter"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg"


def write_tar(path: Path, members: dict[str, bytes]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return str(path)


@pytest.fixture
def videos(write_mp4) -> list[bytes]:
    return [Path(write_mp4([100 * at for at in range(10)], seed=seed)).read_bytes() for seed in range(3)]


def shard(path: Path, videos: list[bytes], first: int, **more) -> str:
    members: dict[str, bytes] = {}
    for at, video in enumerate(videos, start=first):
        members |= {f"clip_{at}.json": json.dumps(ROW | more).encode(), f"clip_{at}.mp4": video}
    return write_tar(path, members)


def test_a_pattern_names_its_shards_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("s/008.tar", "s/009.tar", "s/010.tar", "s/a-1.tar", "s/b-1.tar"):
        write_tar(tmp_path / name, {})
    assert shard_names("s/{008..010}.tar") == ["s/008.tar", "s/009.tar", "s/010.tar"]
    assert shard_names("s/{b,a}-{1..1}.tar") == ["s/b-1.tar", "s/a-1.tar"]
    assert shard_names("s/0*.tar") == ["s/008.tar", "s/009.tar", "s/010.tar"]
    assert shard_names("memory://s/{00..02}.tar") == [f"memory://s/0{at}.tar" for at in range(3)]
    with pytest.raises(ConfigError, match=r"s/\{008..012\}\.tar: 2 of its 5 shards are not there \(s/011\.tar\)"):
        shard_names("s/{008..012}.tar")
    with pytest.raises(ConfigError, match=r"s/x\*\.tar: no such shards .*data\.annotation_file"):
        shard_names("s/x*.tar")


def test_sidecars_are_rows_of_the_videos_beside_them(tmp_path, videos):
    members = {
        "one.json": json.dumps(ROW | {"video": "elsewhere.mp4", "source": "made"}).encode(),
        "one.mp4": videos[0],
        "folder/two.mp4": videos[1],
        "folder/two.json": json.dumps([ROW, ROW | {"qid": "own", "timestamp": [[0, 0.5], [0.6, 0.9]]}]).encode(),
        "three.json": json.dumps(ROW).encode(),
        "four.mp4": videos[2],
        "four.json": b"{broken",
        "five.mp4": videos[2],
        "five.json": json.dumps([ROW | {"duration": -1}, 5]).encode(),
        "readme.txt": b"no row",
    }
    path = write_tar(tmp_path / "a.tar", members)
    found = list(read_shards(path))
    samples = [one for one in found if isinstance(one, Sample)]
    assert [one.video for one in samples] == [f"{path}::one.mp4", *[f"{path}::folder/two.mp4"] * 2]
    assert [one.place for one in samples] == [
        f"{path}::one.json:1", f"{path}::folder/two.json:1", f"{path}::folder/two.json:2"
    ]  # fmt: skip
    assert samples[0].metadata == {"source": "made"} and samples[2].qid == "own" and len(samples[2].spans) == 2
    assert len({one.qid for one in samples}) == 3
    problems = [str(one) for one in found if isinstance(one, Problem)]
    assert len(problems) == 4
    for part in (
        "three.json:1: video: no video three.mp4",
        "four.json:1: row: is not",
        "five.json:1: duration: must be",
    ):
        assert any(part in problem for problem in problems), part
    assert any("five.json:2: row: must be a JSON object" in problem for problem in problems)


def test_a_shard_that_breaks_off_is_a_problem_and_the_others_are_read(tmp_path, videos):
    whole, broken = shard(tmp_path / "0.tar", videos, 0), shard(tmp_path / "1.tar", videos, 3)
    content = Path(broken).read_bytes()
    Path(broken).write_bytes(content[: len(content) // 2])
    (tmp_path / "2.tar").write_bytes(b"<html>404</html>" * 100)
    found = list(read_shards(str(tmp_path / "*.tar")))
    assert sum(isinstance(one, Sample) and whole in one.video for one in found) == 3
    faults = [str(one) for one in found if isinstance(one, Problem)]
    assert any("2.tar: not a whole, uncompressed tar file" in fault for fault in faults)


@pytest.mark.parametrize("remote", [False, True])
def test_shards_train_like_files(tmp_path, videos, qwen3_vl, remote):
    for number in range(2):
        shard(tmp_path / "shards" / f"{number:03d}.tar", videos, 3 * number, source="made")
    pattern = f"{tmp_path}/shards/{{000..001}}.tar"
    if remote:
        store = fsspec.filesystem("memory")
        for number in range(2):
            store.pipe(f"/wds/{number:03d}.tar", (tmp_path / "shards" / f"{number:03d}.tar").read_bytes())
        pattern = "memory://wds/*.tar"
    for at, content in enumerate(videos):
        (tmp_path / f"{at}.mp4").write_bytes(content)
    report = SkipReport(tmp_path / "skipped.jsonl", max_bad_share=0)
    splits = read_splits(DataConfig(annotation_file=pattern, val_share=0.4), seed=0, report=report)
    assert len(splits.train) == 4 and len(splits.val) == 2 and report.total == 6
    video = VideoConfig(min_pixels=4096, max_pixels=4096, fetch_dir=str(tmp_path / "fetched"))
    dataset = GroundingDataset(
        read_split(pattern, video_dir=None, report=report),
        task=SpanTask(TaskConfig()),
        processor=qwen3_vl.processor,
        provider=make_provider(video, qwen3_vl.processor),
        video_dir=None,
        max_length=4096,
        tokens_per_second=2.0,
        training=True,
    )
    for at in range(6):
        item = dataset[at]
        own = dataset.provider.clip(VideoWindow(str(tmp_path / f"{at % 3}.mp4"), duration_s=1.0))
        assert item.skipped is None
        assert np.array_equal(dataset.clip(dataset.samples[at]).frames, own.frames)
    assert (tmp_path / "fetched").exists() == remote


def rows_of(pattern: str) -> list[Sample]:
    return [one for one in read_shards(pattern) if isinstance(one, Sample)]


def test_rows_of_one_name_in_several_shards_and_folders_have_qids_of_their_own(tmp_path, videos):
    for folder in ("a/train", "a/val"):
        for number in range(2):
            shard(tmp_path / folder / f"{number}.tar", videos, 0)
            with tarfile.open(tmp_path / folder / f"{number}.tar", "a") as tar:
                add_pair(tar, "in/000", videos[0])
    first = rows_of(f"{tmp_path}/a/{{train,val}}/*.tar")
    qids = [one.qid for one in first]
    assert len(set(qids)) == len(qids) == 16 and "train/0.tar::in/000:1" in qids and "val/1.tar::in/000:1" in qids
    (tmp_path / "a").rename(tmp_path / "b")
    assert [one.qid for one in rows_of(f"{tmp_path}/b/{{train,val}}/*.tar")] == qids
    table, _ = read_table(f"{tmp_path}/b/{{train,val}}/*.tar")
    assert list(table.qids()) == qids


def add_pair(tar: tarfile.TarFile, key: str, video: bytes) -> None:
    row = {"duration": 1.0, "timestamp": [0.2, 0.5], "sentence": "it changes"}
    for name, content in ((f"{key}.mp4", video), (f"{key}.json", json.dumps(row).encode())):
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))


def test_a_second_file_of_rows_for_one_video_is_a_problem(tmp_path, videos):
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for _ in range(2):
            add_pair(tar, "a", videos[0])
    sample, problem = read_shards(str(tmp_path / "0.tar"))
    assert isinstance(sample, Sample) and isinstance(problem, Problem)
    assert "0.tar::a.json:1: file: is a second file of rows for a; keep one" in str(problem)


def test_shards_that_are_not_in_the_store_end_the_run_before_it_begins(tmp_path):
    report = SkipReport(tmp_path / "skipped.jsonl", max_bad_share=0)
    for pattern, message in (
        ("memory://none/{0..1}.tar", "no such object in the store"),
        ("memory://none/*.tar", "no such"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_split(pattern, video_dir=None, report=report)
