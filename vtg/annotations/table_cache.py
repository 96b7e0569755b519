"""Annotation files → tables of samples, made once and found again.

A table lies in a folder named after the annotation file, its size and its modification time, `rows/<key>/rows.arrow` in
the cache folder (`data.cache_dir`, else vtg's own under $XDG_CACHE_HOME), beside `problems.jsonl`, the rows that are
lost. Files under `SMALL_BYTES` are read anew each time, which is as fast, and leave nothing behind; they make the same
table in memory.
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa

from vtg.annotations.formats import FORMATS, format_name
from vtg.annotations.sample import Problem, Sample, resolve_video, video_places
from vtg.annotations.sample_table import Lost, SampleTable, write_samples
from vtg.errors import ConfigError
from vtg.storage.atomic import atomic_folder
from vtg.storage.cache_home import cache_home
from vtg.storage.json_files import read_jsonl
from vtg.storage.locks import one_at_a_time
from vtg.video.files import address, video_files

log = logging.getLogger(__name__)

# Goes up with any change to the columns, to the rules of `vtg.annotations.row_checks`, or to what a Sample holds.
FORMAT = 7

SMALL_BYTES = 4 << 20
"""Annotation files below are read anew: some 20,000 rows."""

# A table of an annotation file as it was before is removed when nobody has opened it for so long.
UNUSED_S = 30 * 86400.0

# Videos looked for at a time: on a network file system each answer takes its while.
STAT_THREADS, STAT_CHUNK = 8, 4096


def read_table(path: str, *, cache_dir: str | None = None) -> tuple[SampleTable, list[Lost]]:
    """All samples of an annotation file of any of `FORMATS`, and the rows that are none.

    Raises:
        ConfigError: shards that are not there or cannot be reached, or a cache folder that cannot be written to.
        OSError: the file cannot be read.
    """
    name = format_name(path)
    row_format = FORMATS[name]
    stamp = row_format.files(path)
    if sum(size for _, size, _ in stamp) < SMALL_BYTES:
        content = BytesIO()
        lost = write_samples(row_format.samples(path), content, path=path)
        return SampleTable.held(content.getvalue(), path=path), lost
    of_file = sha256(stamp[0][0].encode(errors="surrogateescape")).hexdigest()[:16]
    # The registered schemes (`s3://`) decide which videos are faults of a row, and with them what the table holds.
    version = [FORMAT, name, row_format.cache_name(path), stamp, address.schemes()]
    of_version = sha256(json.dumps(version).encode()).hexdigest()[:16]
    with _cache_folder(cache_dir) as root:
        folder = root / f"{of_file}-{of_version}"
        if not (folder / "rows.arrow").is_file():
            # Where the file system has no locks several processes do the same work, and no harm.
            with one_at_a_time(root / f"{of_file}.lock"):
                if not (folder / "rows.arrow").is_file():
                    _build(row_format.samples(path), folder, path=path)
                    _remove_unused(root, of_file)
        with suppress(OSError):
            os.utime(folder)
        problems = read_jsonl(folder / "problems.jsonl")
        lost = [Lost(fields.pop("before"), Problem(path=fields.pop("at") or path, **fields)) for fields in problems]
        return SampleTable.open(folder / "rows.arrow", path=path), lost


def kept_table(content: bytes, path: str, cache_dir: str | None) -> SampleTable:
    """The table of these bytes of an Arrow file, kept in the cache folder under what they are and mapped from there.

    `path`: what the table calls itself.

    Raises:
        ConfigError: a cache folder that cannot be written to.
    """
    name = f"joined-{sha256(content).hexdigest()[:32]}"
    with _cache_folder(cache_dir) as root:
        folder = root / name
        if not (folder / "rows.arrow").is_file():
            with one_at_a_time(root / f"{name}.lock"):
                if not (folder / "rows.arrow").is_file():
                    with atomic_folder(folder, proof="rows.arrow") as beside:
                        (beside / "rows.arrow").write_bytes(content)
                    _remove_unused(root, "joined")
        with suppress(OSError):
            os.utime(folder)
        return SampleTable.open(folder / "rows.arrow", path=path)


def video_stamps(videos: pa.Array, video_dir: str | None) -> np.ndarray:
    """(V, 2) int64 sizes and times of the videos of these names (`video_files.stamp`), looked up in parallel."""

    def stamp(name: str) -> tuple[int, int]:
        # Most lie in the first place: one question instead of two, which on a network file system is half of the time.
        first = video_files.stamp(video_places(name, video_dir)[0])
        return first if first[0] >= 0 else video_files.stamp(resolve_video(name, video_dir))

    def part(at: int) -> np.ndarray:
        names = videos.slice(at, STAT_CHUNK).to_pylist()
        return np.array([stamp(name) for name in names], np.int64)

    with ThreadPoolExecutor(STAT_THREADS) as pool:
        return np.concatenate([np.empty((0, 2), np.int64), *pool.map(part, range(0, len(videos), STAT_CHUNK))])


@contextmanager
def _cache_folder(cache_dir: str | None) -> Iterator[Path]:
    root = (Path(cache_dir) if cache_dir is not None else cache_home()) / "rows"
    try:
        root.mkdir(parents=True, exist_ok=True)
        yield root
    except OSError as error:
        raise ConfigError(
            f"data.cache_dir = {cache_dir!r}: the rows cannot be kept in {root} ({error.strerror or error}); name a "
            "folder of yours with room for a copy of the annotation file"
        ) from error


def _build(rows: Iterator[Sample | Problem], folder: Path, *, path: str) -> None:
    log.info("reading %s once into %s", path, folder)
    with atomic_folder(folder, proof="rows.arrow") as beside:
        with (beside / "rows.arrow").open("wb") as file:
            lost = write_samples(rows, file, path=path)
        with (beside / "problems.jsonl").open("w", encoding="utf-8") as file:
            for one in lost:
                fields = asdict(one.problem)
                at = fields.pop("path")
                file.write(json.dumps({"before": one.before, "at": "" if at == path else at, **fields}) + "\n")


def _remove_unused(root: Path, of_file: str) -> None:
    for folder in root.glob(f"*{of_file}-*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > UNUSED_S:
                shutil.rmtree(folder, ignore_errors=True)
