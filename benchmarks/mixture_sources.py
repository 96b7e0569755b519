"""The five sources of mixture.py: the gym's worlds, whose truth is exact, each laid out as others publish theirs."""

import csv
import io
import json
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vtg.storage.json_files import read_jsonl, write_json, write_jsonl

Row = dict[str, Any]

# Of LeRobot's frame tables: a moment that begins between two frames is told to half of this.
FPS = 25
CAMERA = "observation.images.front"


@dataclass(frozen=True)
class Source:
    """One source: its form on disk, the tasks of its rows, its weight, and its settings below data.sources.NAME."""

    layout: str
    tasks: tuple[str, ...]
    weight: float
    settings: dict[str, str]


def write_sources(gym: Path, out: Path, *, test_rows: int) -> dict[str, Source]:
    """Lays the gym's videos and rows out as five sources in `out`.

    Args:
        gym: a folder of `ensure_gym`, of worlds that are not crowded.
        test_rows: rows of each task that are asked at most.
    """
    makers = {"robot": _lerobot, "points": _molmo2, "shards": _webdataset, "webvid": _webvid, "tracks": _jsonl}
    return {name: make(_Gym(gym, test_rows), out / name) for name, make in makers.items()}


@dataclass(frozen=True)
class _Gym:
    folder: Path
    test_rows: int

    def rows(self, split: str, task: str) -> list[Row]:
        rows = read_jsonl(self.folder / f"{split}_{task}.jsonl")
        return rows[: self.test_rows] if split == "test" else rows

    def link(self, row: Row, place: Path) -> None:
        """The row's video at a place of the layout, without a copy where the disk can."""
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            os.link(self.folder / row["video"], place)


def _lerobot(gym: _Gym, root: Path) -> Source:
    """Spans: LeRobot's v3 layout, an episode a video, its subtasks what is to be seen. Worlds in which two things are
    seen at once are left out: a frame has one subtask.
    """
    for split in ("train", "test"):
        rows = [row for row in gym.rows(split, "dense_caption") if not _overlaps(row)]
        _write_episodes(gym, rows, root / split)
    return Source(
        "LeRobot v3",
        ("span",),
        1.0,
        {"preset": "lerobot", "root": f"{root}/train"} | {"test_file": f"lerobot:{root}/test"},
    )


def _overlaps(row: Row) -> bool:
    spans = sorted(one["timestamp"] for one in row["captions"])
    return any(later[0] < earlier[1] + 1 / FPS for earlier, later in pairwise(spans))


def _write_episodes(gym: _Gym, rows: Sequence[Row], root: Path) -> None:
    texts = sorted({one["caption"] for row in rows for one in row["captions"]})
    write_json(
        root / "meta" / "info.json",
        {
            "codebase_version": "v3.0",
            "fps": FPS,
            "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "features": {CAMERA: {"dtype": "video", "shape": [64, 64, 3], "names": ["height", "width", "channels"]}},
        },
    )
    frames = {name: [] for name in ("episode_index", "frame_index", "timestamp", "task_index", "subtask_index")}
    lengths = [int(row["duration"] * FPS) for row in rows]
    for at, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        gym.link(row, root / "videos" / CAMERA / "chunk-000" / f"file-{at:03d}.mp4")
        of_frame = [-1] * length
        for one in row["captions"]:
            first, last = (round(time_s * FPS) for time_s in one["timestamp"])
            of_frame[first:last] = [texts.index(one["caption"])] * (min(last, length) - first)
        frames["episode_index"] += [at] * length
        frames["frame_index"] += range(length)
        frames["timestamp"] += [frame / FPS for frame in range(length)]
        frames["task_index"] += [0] * length
        frames["subtask_index"] += of_frame
    starts = [sum(lengths[:at]) for at in range(len(rows))]
    numbers, zeros = list(range(len(rows))), [0] * len(rows)
    _write_table(
        root / "meta" / "episodes" / "chunk-000" / "file-000.parquet",
        {
            "episode_index": numbers,
            "tasks": [["watch"]] * len(rows),
            "length": lengths,
            "data/chunk_index": zeros,
            "data/file_index": zeros,
            "dataset_from_index": starts,
            "dataset_to_index": [start + length for start, length in zip(starts, lengths, strict=True)],
            f"videos/{CAMERA}/chunk_index": zeros,
            f"videos/{CAMERA}/file_index": numbers,
            f"videos/{CAMERA}/from_timestamp": [0.0] * len(rows),
            f"videos/{CAMERA}/to_timestamp": [length / FPS for length in lengths],
        },
    )
    _write_table(root / "meta" / "tasks.parquet", {"task_index": [0], "task": ["watch"]})
    _write_table(root / "meta" / "subtasks.parquet", {"subtask_index": list(range(len(texts))), "subtask": texts})
    _write_table(root / "data" / "chunk-000" / "file-000.parquet", frames)


def _molmo2(gym: _Gym, root: Path) -> Source:
    """Points: a table of Molmo2-VideoPoint, x and y in percent."""
    for split in ("train", "test"):
        rows = gym.rows(split, "points")
        for row in rows:
            gym.link(row, root / row["video"])
        _write_table(
            root / f"{split}.parquet",
            {
                "video_id": [Path(row["video"]).stem for row in rows],
                "video_duration": [row["duration"] for row in rows],
                "label": [row["sentence"].removeprefix("Point to ").removesuffix(".") for row in rows],
                "count": [len(row["points"]) for row in rows],
                "two_fps_timestamps": [[row["points"][0]["timestamp"]] for row in rows],
                "points": [[[{"x": 100 * one["x"], "y": 100 * one["y"]} for one in row["points"]]] for row in rows],
            },
        )
    settings = {"preset": "molmo2", "root": str(root), "val_share": "0", "test_file": f"molmo2:{root}/test.parquet"}
    return Source("Parquet of Molmo2-VideoPoint", ("points",), 2.0, settings)


def _webdataset(gym: _Gym, root: Path) -> Source:
    """Counts and questions: WebDataset shards, the rows of a video in one member beside it."""
    root.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        of_video: dict[str, list[Row]] = {}
        for row in [*gym.rows(split, "count"), *gym.rows(split, "qa")]:
            of_video.setdefault(row["video"], []).append({key: row[key] for key in row if key != "qid"})
        with tarfile.open(root / f"{split}-000.tar", "w") as shard:
            for video, rows in of_video.items():
                key = Path(video).stem
                _add(shard, f"{key}.json", json.dumps(rows).encode())
                _add(shard, f"{key}.mp4", (gym.folder / video).read_bytes())
    settings = {"annotation_file": f"{root}/train-000.tar", "test_file": f"{root}/test-000.tar"}
    return Source("WebDataset", ("count", "qa"), 4.0, settings)


def _webvid(gym: _Gym, root: Path) -> Source:
    """Captions: WebVid's partitions of videoid,name, and its folders of videos by the digits of their ids."""
    number = 10_000_000
    for split, folder in (("train", "train"), ("test", "val")):
        partition = io.StringIO()
        writer = csv.writer(partition)
        writer.writerow(["videoid", "name"])
        for row in gym.rows(split, "caption"):
            number += 1
            name = str(number)
            inside = f"train/{name[:2]}/{name[:4]}/{name[:6]}" if folder == "train" else "validation"
            gym.link(row, root / "raw" / "videos" / inside / f"{name}.mp4")
            writer.writerow([name, row["caption"]])
        file = root / "raw" / "webvid-10M" / "data" / folder / "partitions" / "0000.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(partition.getvalue(), encoding="utf-8")
    test = f"webvid:{root}/raw/webvid-10M/data/val/partitions"
    return Source(
        "WebVid's partitions",
        ("caption",),
        1.0,
        {"preset": "webvid", "root": str(root), "val_share": "0", "test_file": test},
    )


def _jsonl(gym: _Gym, root: Path) -> Source:
    """Tracks: JSONL, with `video_path` and `query`."""
    for split in ("train", "test"):
        rows = gym.rows(split, "tracks")
        for row in rows:
            gym.link(row, root / row["video"])
            row["video_path"], row["query"] = row.pop("video"), row.pop("sentence")
        write_jsonl(root / f"{split}.jsonl", rows)
    settings = {"annotation_file": f"{root}/train.jsonl", "video_dir": str(root), "test_file": f"{root}/test.jsonl"}
    return Source("JSONL", ("tracks",), 2.0, settings)


def _write_table(path: Path, columns: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def _add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    shard.addfile(member, io.BytesIO(content))
