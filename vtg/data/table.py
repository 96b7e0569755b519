"""Samples by the million: an Arrow file that is mapped into memory, not a list.

`read_table` makes it from an annotation file once, with the checks of `vtg.data.schema`, and finds it again. It lies in
a folder named after the file, its size and its modification time, `rows/<key>/rows.arrow` in the cache folder
(`data.cache_dir`, else vtg's own under $XDG_CACHE_HOME), beside `problems.jsonl`, the rows that are lost. Files under
`SMALL_BYTES` are read anew each time, which is as fast, and leave nothing behind; they make the same table in memory.

A process maps only what it looks at, processes share it, and workers get it by its path.
"""

import fcntl
import json
import logging
import mmap
import os
import shutil
import time
import uuid
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import IO, Any, overload

import numpy as np
import pyarrow as pa

from vtg.data.schema import Problem, Sample, read_samples, resolve_video
from vtg.data.sources.webdataset import is_shards, read_shards, shards_of
from vtg.errors import ConfigError
from vtg.output import cache_home
from vtg.video import storage

log = logging.getLogger(__name__)

FORMAT = 1
"""Goes up with any change to the columns, to the rules of `vtg.data.checks`, or to what a Sample holds."""

SMALL_BYTES = 4 << 20
"""Annotation files below are read anew: some 20,000 rows."""

BATCH_ROWS, BATCH_BYTES = 16384, 32 << 20
"""A record batch ends at either."""

RELEASE_ROWS = 64
"""The kernel maps 64 KiB around each page: so many rows are some 50 MB."""

UNUSED_S = 30 * 86400.0
"""A table of an annotation file as it was before is removed when nobody has opened it for so long."""

STAT_THREADS, STAT_CHUNK = 8, 4096
"""Videos looked for at a time: on a network file system each answer takes its while."""

_TEXTS = ("video", "query", "qid", "metadata", "place")
_NUMBERS = ("duration_s", "video_start_s", "video_end_s", "difficulty", "pred_start_s", "pred_end_s")
SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in _TEXTS),
        *(pa.field(name, pa.float64(), nullable=False) for name in _NUMBERS),
        pa.field("spans", pa.list_(pa.float64()), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
    ]
)
"""NaN is an absent number. `spans`: start, end, start … in seconds. `metadata`: JSON, null where there is none. `qid`
and `place` are null where they follow from the path of the annotation file and the `line`."""


@dataclass(frozen=True)
class Lost:
    """A row that is no sample, and the number of samples before it."""

    before: int
    problem: Problem


class _Arrow:
    """The record batches of an Arrow file in memory, mapped from `path` or held as bytes."""

    def __init__(self, path: str | None, content: bytes | None) -> None:
        self.path, self.content, self.mapped, self.reads = path, content, None, 0
        if path is not None:
            with open(path, "rb") as file:
                self.mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        buffer = pa.py_buffer(content if self.mapped is None else self.mapped)  # type: ignore[arg-type]
        reader = pa.ipc.open_file(pa.BufferReader(buffer))
        self.batches = [reader.get_batch(at) for at in range(reader.num_record_batches)]
        self.starts = np.cumsum([0, *(batch.num_rows for batch in self.batches)]).tolist()

    def __reduce__(self) -> tuple:
        return _Arrow, (self.path, self.content)

    def row(self, number: int) -> dict[str, Any]:
        self.count(1)
        at = bisect_right(self.starts, number) - 1
        (found,) = self.batches[at].slice(number - self.starts[at], 1).to_pylist()
        return found

    def count(self, rows: int) -> None:
        """Notes that rows are read, and gives back what was mapped for those before: one touches a page a column."""
        self.reads += rows
        if self.reads >= RELEASE_ROWS:
            self.reads = 0
            self.release()

    def release(self) -> None:
        if self.mapped is not None:
            self.mapped.madvise(mmap.MADV_DONTNEED)

    def column(self, name: str) -> pa.ChunkedArray:
        field = SCHEMA.field(name)
        return pa.chunked_array([batch.column(name) for batch in self.batches], field.type)

    def numbers(self, name: str) -> np.ndarray:
        """(N,) a column of numbers."""
        parts = [batch.column(name).to_numpy() for batch in self.batches]
        return parts[0] if len(parts) == 1 else np.concatenate([*parts, np.empty(0)])


class SampleTable(Sequence[Sample]):
    """Samples as a sequence, and their columns as arrays. A part of it (`select`, a slice) is a list of row numbers.

    Equal to any sequence of equal samples.
    """

    def __init__(self, arrow: _Arrow, *, path: str, rows: np.ndarray | None = None) -> None:
        """`rows`: (N,) int64 numbers of the rows it consists of; None for all. `path`: of the annotation file."""
        self._arrow, self._path, self._rows = arrow, path, rows
        self._stem = Path(path).stem

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> "SampleTable":
        """The samples as a table: itself if it is one."""
        if isinstance(samples, SampleTable):
            return samples
        content = BytesIO()
        _write(samples, content, path="")
        return cls(_Arrow(None, content.getvalue()), path="")

    @classmethod
    def open(cls, file: str | os.PathLike[str], *, path: str) -> "SampleTable":
        """The table that `read_table` wrote to `file` for the annotation file at `path`."""
        return cls(_Arrow(os.fspath(file), None), path=path)

    def __len__(self) -> int:
        return self._arrow.starts[-1] if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> "SampleTable": ...
    def __getitem__(self, index: int | slice) -> "Sample | SampleTable":
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        row = index % len(self) if self._rows is None else int(self._rows[index])
        return self._sample(self._arrow.row(row))

    def __iter__(self) -> Iterator[Sample]:
        return map(self._sample, self._dicts(SCHEMA.names))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"SampleTable({len(self)} samples of {self._path!r})"

    def __reduce__(self) -> tuple:
        return _again, (self._arrow, self._path, self._rows)

    def select(self, indices: np.ndarray) -> "SampleTable":
        """The samples at `indices`, (n,) int64, in that order; no row is copied."""
        indices = np.asarray(indices, np.int64)
        return SampleTable(self._arrow, path=self._path, rows=indices if self._rows is None else self._rows[indices])

    def numbers(self, name: str) -> np.ndarray:
        """(N,) float64: `duration_s`, `video_start_s`, `video_end_s`, `difficulty`, `pred_start_s` or `pred_end_s`.

        NaN where a sample has none.
        """
        assert name in _NUMBERS, name
        found = self._arrow.numbers(name)
        return found if self._rows is None else found[self._rows]

    def moments(self) -> np.ndarray:
        """(N,) int64: how many spans each has."""
        lengths = [np.diff(batch.column("spans").offsets.to_numpy()) for batch in self._arrow.batches]
        found = np.concatenate([*lengths, np.empty(0, np.int64)]).astype(np.int64) // 2
        return found if self._rows is None else found[self._rows]

    def videos(self) -> tuple[pa.Array, np.ndarray]:
        """Their distinct videos, V strings by first appearance in the file, and (N,) int32 which of them is whose."""
        coded = self._arrow.column("video").dictionary_encode().combine_chunks()
        if isinstance(coded, pa.ChunkedArray):  # of no chunk
            return pa.array([], pa.string()), np.empty(0, np.int32)
        names, which = coded.dictionary, coded.indices.to_numpy()
        if self._rows is None:
            return names, which
        used, which = np.unique(which[self._rows], return_inverse=True)
        return names.take(pa.array(used)), which.astype(np.int32)

    def queries(self) -> Iterator[str]:
        """The sentences asked about, in order."""
        return (row["query"] for row in self._dicts(["query"]))

    def qids(self) -> Iterator[str]:
        """The qids, in order."""
        return (self._qid(row) for row in self._dicts(["qid", "line"]))

    def release(self) -> None:
        """Gives back the memory of what was mapped so far; it is mapped again when it is looked at."""
        self._arrow.release()

    def _dicts(self, names: list[str]) -> Iterator[dict[str, Any]]:
        if self._rows is None:
            for batch in self._arrow.batches:
                for at in range(0, batch.num_rows, 1024):
                    yield from batch.slice(at, 1024).select(names).to_pylist()
                    self._arrow.count(1024)
            return
        of_batch = np.searchsorted(self._arrow.starts, self._rows, side="right") - 1
        ends = np.flatnonzero(np.diff(of_batch, append=-1)) + 1  # of runs in one batch
        begin = 0
        for end in ends.tolist():
            batch, first = self._arrow.batches[of_batch[begin]], self._arrow.starts[of_batch[begin]]
            for at in range(begin, end, 1024):
                rows = self._rows[at : min(at + 1024, end)] - first
                yield from batch.select(names).take(pa.array(rows)).to_pylist()
                self._arrow.count(len(rows))
            begin = end

    def _qid(self, row: dict[str, Any]) -> str:
        return f"{self._stem}:{row['line']}" if row["qid"] is None else row["qid"]

    def _sample(self, row: dict[str, Any]) -> Sample:
        times, pred = row["spans"], (row["pred_start_s"], row["pred_end_s"])
        return Sample(
            video=row["video"],
            duration_s=row["duration_s"],
            spans=tuple(zip(times[::2], times[1::2], strict=True)),
            query=row["query"],
            qid=self._qid(row),
            video_start_s=_number(row["video_start_s"]),
            video_end_s=_number(row["video_end_s"]),
            difficulty=_number(row["difficulty"]),
            pred=None if pred[0] != pred[0] else pred,
            metadata={} if row["metadata"] is None else json.loads(row["metadata"]),
            place=f"{self._path}:{row['line']}" if row["place"] is None else row["place"],
        )


def _again(arrow: _Arrow, path: str, rows: np.ndarray | None) -> SampleTable:
    return SampleTable(arrow, path=path, rows=rows)


def _number(value: float) -> float | None:
    return None if value != value else value  # NaN


def read_table(path: str, *, cache_dir: str | None = None) -> tuple[SampleTable, list[Lost]]:
    """All samples of an annotation file (JSONL, one JSON array, or WebDataset shards), and the rows that are none.

    Raises:
        ConfigError: shards that are not there. OSError: the file cannot be read.
        DecodeError: shards that cannot.
    """
    stamp = _stamp(path)
    if sum(size for _, size, _ in stamp) < SMALL_BYTES:
        content = BytesIO()
        lost = _write(_source(path), content, path=path)
        return SampleTable(_Arrow(None, content.getvalue()), path=path), lost
    of_file = sha256(stamp[0][0].encode(errors="surrogateescape")).hexdigest()[:16]
    # Rows of shards hold the shards' names as they are given here, others what follows from the file's name.
    given = path if is_shards(path) else Path(path).stem
    of_version = sha256(json.dumps([FORMAT, given, stamp]).encode()).hexdigest()[:16]
    with _cache_folder(cache_dir) as root:
        folder = root / f"{of_file}-{of_version}"
        if not (folder / "rows.arrow").is_file():
            with _locked(root / f"{of_file}.lock"):
                if not (folder / "rows.arrow").is_file():
                    _build(path, folder)
                    _remove_unused(root, of_file)
        with suppress(OSError):
            os.utime(folder)
        lines = (folder / "problems.jsonl").read_text(encoding="utf-8").splitlines()
        lost = [
            Lost(line.pop("before"), Problem(path=line.pop("at") or path, **line)) for line in map(json.loads, lines)
        ]
        return SampleTable.open(folder / "rows.arrow", path=path), lost


def video_stamps(videos: pa.Array, video_dir: str | None) -> np.ndarray:
    """(V, 2) int64 sizes and times of the videos of these names, `vtg.video.storage.stamp`; asked for in parallel."""

    def part(at: int) -> np.ndarray:
        names = videos.slice(at, STAT_CHUNK).to_pylist()
        return np.array([storage.stamp(resolve_video(name, video_dir)) for name in names], np.int64)

    with ThreadPoolExecutor(STAT_THREADS) as pool:
        return np.concatenate([np.empty((0, 2), np.int64), *pool.map(part, range(0, len(videos), STAT_CHUNK))])


def _source(path: str) -> Iterator[Sample | Problem]:
    return read_shards(path) if is_shards(path) else read_samples(path)


def _stamp(path: str) -> list[tuple[str, int, int]]:
    """(true path, bytes, time in ns) of the files that the rows are read from."""
    if is_shards(path):
        return shards_of(path)
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
    return [(os.path.realpath(path), status.st_size, status.st_mtime_ns)]


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


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time. Where the file system knows no locks several do the same work, and no harm."""
    with path.open("a") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(path: str, folder: Path) -> None:
    """Writes beside and renames."""
    beside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    log.info("reading %s once into %s", path, folder)
    beside.mkdir()
    try:
        with (beside / "rows.arrow").open("wb") as file:
            lost = _write(_source(path), file, path=path)
        with (beside / "problems.jsonl").open("w", encoding="utf-8") as file:
            for one in lost:
                fields = asdict(one.problem)
                at = fields.pop("path")
                file.write(json.dumps({"before": one.before, "at": "" if at == path else at, **fields}) + "\n")
        try:
            beside.rename(folder)
        except OSError:
            if not (folder / "rows.arrow").is_file():  # another process was first
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _remove_unused(root: Path, of_file: str) -> None:
    for folder in root.glob(f"*{of_file}-*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > UNUSED_S:
                shutil.rmtree(folder, ignore_errors=True)


def _write(found: Iterable[Sample | Problem], file: IO[bytes], *, path: str) -> list[Lost]:
    """Writes the samples as an Arrow file; returns what is none."""
    lost: list[Lost] = []
    stem = Path(path).stem
    with pa.ipc.new_file(file, SCHEMA) as writer:
        columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
        texts = [columns[name] for name in _TEXTS]
        numbers = [columns[name] for name in _NUMBERS]
        held = count = 0
        nan = float("nan")
        for one in found:
            if isinstance(one, Problem):
                lost.append(Lost(count, one))
                continue
            line = _line(one.place)
            qid = None if one.qid == f"{stem}:{line}" else one.qid
            place = None if one.place == f"{path}:{line}" else one.place
            metadata = json.dumps(one.metadata) if one.metadata else None
            for column, text in zip(texts, (one.video, one.query, qid, metadata, place), strict=True):
                column.append(text)
                held += len(text) if text else 0
            start_s, end_s = one.pred or (nan, nan)
            values = (one.duration_s, one.video_start_s, one.video_end_s, one.difficulty, start_s, end_s)
            for column, value in zip(numbers, values, strict=True):
                column.append(nan if value is None else value)
            columns["spans"].append([time for span in one.spans for time in span])
            columns["line"].append(line)
            count += 1
            if len(columns["line"]) == BATCH_ROWS or held > BATCH_BYTES:
                writer.write_batch(pa.record_batch(list(columns.values()), schema=SCHEMA))
                held = 0
                for column in columns.values():
                    column.clear()
        if columns["line"]:
            writer.write_batch(pa.record_batch(list(columns.values()), schema=SCHEMA))
    return lost


def _line(place: str) -> int:
    line = place.rpartition(":")[2]
    return int(line) if line.isdecimal() and len(line) < 18 else 0
