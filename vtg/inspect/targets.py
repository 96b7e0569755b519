"""What a path is: a video, rows, a table, a folder of any of these, a LeRobot data set, a downloaded one."""

import os
from collections.abc import Iterator
from pathlib import Path

from vtg.annotations.formats import format_name
from vtg.annotations.sample import resolve_video
from vtg.download.data_sets import SETS
from vtg.download.set_folder import RECORD, Record, SetFolder, read_record
from vtg.errors import ConfigError
from vtg.inspect.annotation_report import inspect_annotations
from vtg.inspect.folder_report import inspect_videos, videos_in
from vtg.inspect.inspection import Inspection
from vtg.inspect.lerobot_report import inspect_lerobot
from vtg.inspect.table_report import inspect_parquet, inspect_saved
from vtg.video.files import address, video_files

ROWS = (".jsonl", ".json")
SAVED = ("dataset_dict.json", "dataset_info.json", "state.json")


def holds_rows(path: str) -> bool:
    """Whether it is an annotation file, rather than a video."""
    return path.lower().endswith(ROWS) or format_name(path) != "jsonl"


def is_video(path: str) -> bool:
    """Whether it is one video, as far as its name tells."""
    return not (holds_rows(path) or path.lower().endswith(".parquet") or os.path.isdir(path))


def located(path: str, video_dir: str | None, data_dir: str) -> str:
    """The path that is meant: itself, a video in `video_dir`, or the folder of a downloaded set of this name.

    Raises:
        ConfigError: there is nothing of the kind.
    """
    # Files of other formats are looked for by their readers: a pattern of shards is no name of a file.
    if holds_rows(path) and format_name(path) != "jsonl":
        return path
    found = path if holds_rows(path) or os.path.isdir(path) else resolve_video(path, video_dir)
    if os.path.isdir(found) or video_files.exists(found):
        return found
    name = path.lower()
    if os.path.isdir(os.path.join(data_dir, name)):
        return os.path.join(data_dir, name)
    if name in SETS:
        raise ConfigError(f"{path}: is not downloaded to {data_dir}; python -m vtg.download {name}, or --data-dir")
    fault = address.fault(path)
    raise ConfigError(
        fault
        or f"{path}: no such file; give a video, an annotation file (.jsonl, .json), a .parquet file, a folder of "
        "any of these, a LeRobot data set, or the name of a downloaded set (python -m vtg.inspect lists them)"
    )


def inspect_path(path: str, *, num_samples: int, video_dir: str | None) -> dict[str, Inspection]:
    """Part → what is in it, of anything but a video; "" where it has no parts.

    Raises:
        ConfigError, SampleError, RunError, OSError: it cannot be read at all.
    """
    if holds_rows(path):
        return {"": inspect_annotations(path, video_dir=video_dir, num_samples=num_samples)}
    if path.lower().endswith(".parquet"):
        return {"": inspect_parquet([path], num_samples=num_samples, video_dir=video_dir)}
    folder = Path(path)
    if (folder / RECORD).is_file():
        return dict(_downloaded(folder, num_samples, video_dir))
    if (folder / "meta" / "info.json").is_file():
        return {"": inspect_lerobot(path, num_samples=num_samples)}
    if any((folder / name).is_file() for name in SAVED):
        return inspect_saved(path, num_samples=num_samples, video_dir=video_dir)
    parts = dict(_files(folder, num_samples, video_dir))
    if not parts:
        raise ConfigError(
            f"{path}: has no video, no annotation file and no table in it; give a file, or a folder that holds some"
        )
    return parts


def _downloaded(folder: Path, num_samples: int, video_dir: str | None) -> Iterator[tuple[str, Inspection]]:
    """The tables of a downloaded set, or its annotation files, read in the form that they are published in."""
    record = read_record(folder)
    assert record is not None
    published = SETS.get(record.name)
    videos = video_dir or str(folder / "videos")
    rows = [one.partition(":") for one in (published.rows if published else ())]
    for table in record.tables:
        yield table, inspect_parquet([str(folder / table)], num_samples=num_samples, video_dir=videos)
    for form, _, name in rows:
        if (folder / name).is_file():
            found = inspect_annotations(f"{form}:{folder / name}", video_dir=videos, num_samples=num_samples)
            # Rows that the benchmark itself has wrong are no fault of the download.
            found.failed = found.report["samples"] == 0
            yield name, found
    if not record.is_whole:
        why = f"{folder}: is not whole; run the same download again, or python -m vtg.download --check"
        yield "download", Inspection({"kind": "download", "path": str(folder), "error": why}, failed=True)
    elif not record.tables and not rows:
        yield from _files(folder, num_samples, video_dir)


def _files(folder: Path, num_samples: int, video_dir: str | None) -> Iterator[tuple[str, Inspection]]:
    """What a plain folder holds: tables of one schema, rows, shards, and videos, all of it apart."""
    tables = sorted(str(path) for path in folder.rglob("*.parquet") if ".cache" not in path.parts)
    if tables:
        yield "tables", inspect_parquet(tables, num_samples=num_samples, video_dir=video_dir)
    for path in sorted(folder.glob("*.jsonl")):
        yield path.name, inspect_annotations(str(path), video_dir=video_dir or str(folder), num_samples=num_samples)
    if any(folder.glob("*.tar")):
        yield "shards", inspect_annotations(str(folder / "*.tar"), video_dir=video_dir, num_samples=num_samples)
    if videos_in(str(folder)):
        yield "videos", inspect_videos(str(folder), num_samples=num_samples)


def downloaded_sets(data_dir: str) -> list[tuple[SetFolder, Record]]:
    """The sets that were downloaded to a folder, whole or in part.

    Raises:
        RunError: a record cannot be read.
    """
    found = []
    for name, published in SETS.items():
        folder = SetFolder(data_dir, name, published)
        if (record := folder.record()) is not None:
            found.append((folder, record))
    return found
