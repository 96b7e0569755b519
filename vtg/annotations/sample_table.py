"""Samples by the million: the record batches of an Arrow file, mapped into memory, in place of a list.

A process maps only what it looks at, processes share it, and workers get it by its path.
`vtg.annotations.table_cache` makes the file from an annotation file. Why not `datasets`: docs/decisions.md.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vtg.annotations.arrow_rows import BATCH_BYTES, BATCH_ROWS, NUMBERS, SCHEMA, TEXTS, ArrowRows
from vtg.annotations.sample import Problem, Sample
from vtg.annotations.target import ROW_TARGETS, TARGETS, Spans, stored_content, stored_target


@dataclass(frozen=True)
class Lost:
    """A row that is no sample, and the number of samples before it."""

    before: int
    problem: Problem


class SampleTable(Sequence[Sample]):
    """Samples as a sequence, and their columns as arrays. A part of it (`select`, a slice) is a list of row numbers.

    Equal to any sequence of equal samples.
    """

    def __init__(self, arrow: ArrowRows, *, path: str, rows: np.ndarray | None = None) -> None:
        """`rows`: (N,) int64 numbers of the rows it consists of; None for all. `path`: of the annotation file."""
        self._arrow, self._path, self._rows = arrow, path, rows
        self._stem = Path(path).stem

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> "SampleTable":
        """The samples as a table: itself if it is one."""
        if isinstance(samples, SampleTable):
            return samples
        content = BytesIO()
        write_samples(samples, content, path="")
        return cls(ArrowRows(None, content.getvalue()), path="")

    @classmethod
    def held(cls, content: bytes, *, path: str) -> "SampleTable":
        """The table that `write_samples` wrote, held in memory."""
        return cls(ArrowRows(None, content), path=path)

    @classmethod
    def open(cls, file: str | os.PathLike[str], *, path: str) -> "SampleTable":
        """The table that `vtg.annotations.table_cache` wrote to `file` for the annotation file at `path`."""
        return cls(ArrowRows(os.fspath(file), None), path=path)

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

    def arrow(self) -> pa.Table:
        """The rows as a table of `SCHEMA`, with every `qid` and `place` written out."""
        batches = self._arrow.batches
        table = pa.Table.from_batches(batches, SCHEMA)
        table = table if self._rows is None else table.take(pa.array(self._rows))
        for name, prefix in (("qid", f"{self._stem}:"), ("place", f"{self._path}:")):
            at = SCHEMA.get_field_index(name)
            made = pc.binary_join_element_wise(prefix, table.column("at"), "")  # pyright: ignore[reportAttributeAccessIssue]
            table = table.set_column(at, SCHEMA.field(name), pc.coalesce(table.column(at), made))  # pyright: ignore[reportAttributeAccessIssue]
        return table

    def numbers(self, name: str) -> np.ndarray:
        """(N,) float64: `duration_s`, `video_start_s`, `video_end_s`, `difficulty`, `pred_start_s` or `pred_end_s`.

        NaN where a sample has none.
        """
        assert name in NUMBERS, name
        column = self._arrow.numbers(name)
        return column if self._rows is None else column[self._rows]

    def moments(self) -> np.ndarray:
        """(N,) int64: how many spans each has."""
        lengths = [np.diff(batch.column("spans").offsets.to_numpy()) for batch in self._arrow.batches]
        counts = np.concatenate([*lengths, np.empty(0, np.int64)]).astype(np.int64) // 2
        return counts if self._rows is None else counts[self._rows]

    def targets(self) -> tuple[list[str], np.ndarray]:
        """The kinds of target in the file (`Target.kind`), and (N,) int64 which of them is whose."""
        coded = self._arrow.column("target").dictionary_encode(null_encoding="encode").combine_chunks()
        if isinstance(coded, pa.ChunkedArray):  # of no chunk
            return [], np.empty(0, np.int64)
        which = coded.indices.to_numpy().astype(np.int64)
        names = [name or Spans.kind for name in coded.dictionary.to_pylist()]
        return names, which if self._rows is None else which[self._rows]

    def of_other_tasks(self) -> np.ndarray:
        """(N,) bool: which have a target that is not spans."""
        names, which = self.targets()
        return np.array([name in ROW_TARGETS for name in names], bool)[which]

    def tasks(self) -> set[str]:
        """The names of the tasks that some sample has."""
        names, which = self.targets()
        kinds = TARGETS | ROW_TARGETS
        return {kinds[names[at]].task for at in np.unique(which)}

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

    def clips(self) -> np.ndarray:
        """(N,) int64 which clip each is about: the first sample of the same video, trim and length."""
        # NaN (no trim) equals nothing, itself included, and would make every sample a clip of its own.
        trims = [np.nan_to_num(self.numbers(name), nan=-1.0) for name in ("video_start_s", "video_end_s", "duration_s")]
        keys = [*trims, self.videos()[1]]
        order = np.lexsort(keys)  # stable: the first of a clip comes first
        new = np.logical_or.reduce([np.diff(key[order], prepend=-2) != 0 for key in keys])
        first_of = np.empty(len(self), np.int64)
        first_of[order] = order[new][np.cumsum(new) - 1]
        return first_of

    def queries(self) -> Iterator[str]:
        """The sentences asked about, in order."""
        return (row["query"] for row in self._dicts(["query"]))

    def qids(self) -> Iterator[str]:
        """The qids, in order."""
        return (self._qid(row) for row in self._dicts(["qid", "at"]))

    def digest(self, *, with_ids: bool = False) -> str:
        """Tells whether samples are the same, in the same order, wherever they stand: videos, times, sentences, spans.

        `with_ids`: also under the same qids, and with the same other keys.
        """
        digest = hashlib.sha256()
        names = ["video", "query", "duration_s", "video_start_s", "video_end_s", "spans"]
        for row in self._dicts([*names, "target", "content"] + (["qid", "at", "metadata"] if with_ids else [])):
            told = [row[name] for name in names]
            # Only where there are any: digests of before these columns stay valid.
            told += [row[name] for name in ("target", "content") if row[name] is not None]
            told += [self._qid(row), row["metadata"]] if with_ids else []
            # Names of files need not be valid UTF-8.
            digest.update(repr(told).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]

    def keys(self) -> Iterator[tuple[Any, ...]]:
        """Of each sample what no other has: its clip, its sentence and its target."""
        names = ["video", "query", "video_start_s", "video_end_s"]
        for row in self._dicts([*names, "spans", "target", "content"]):
            yield (
                *(None if row[name] != row[name] else row[name] for name in names),  # NaN equals no other
                tuple(row["spans"]),
                row["target"],
                row["content"],
            )

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
        return f"{self._stem}:{row['at']}" if row["qid"] is None else row["qid"]

    def _sample(self, row: dict[str, Any]) -> Sample:
        times, pred = row["spans"], (row["pred_start_s"], row["pred_end_s"])
        return Sample(
            video=row["video"],
            duration_s=row["duration_s"],
            target=stored_target(
                row["target"] or Spans.kind,
                tuple(zip(times[::2], times[1::2], strict=True)),
                row["content"],
                duration_s=row["duration_s"],
            ),
            query=row["query"],
            qid=self._qid(row),
            video_start_s=_number(row["video_start_s"]),
            video_end_s=_number(row["video_end_s"]),
            difficulty=_number(row["difficulty"]),
            pred=None if pred[0] != pred[0] else pred,
            metadata={} if row["metadata"] is None else json.loads(row["metadata"]),
            place=f"{self._path}:{row['at']}" if row["place"] is None else row["place"],
        )


def _again(arrow: ArrowRows, path: str, rows: np.ndarray | None) -> SampleTable:
    return SampleTable(arrow, path=path, rows=rows)


def _number(value: float) -> float | None:
    return None if value != value else value  # NaN


def write_samples(samples: Iterable[Sample | Problem], file: IO[bytes], *, path: str) -> list[Lost]:
    """Writes the samples as an Arrow file; returns what is none."""
    lost: list[Lost] = []
    stem = Path(path).stem
    with pa.ipc.new_file(file, SCHEMA) as writer:
        columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
        texts = [columns[name] for name in TEXTS]
        numbers = [columns[name] for name in NUMBERS]
        held = count = 0
        nan = float("nan")
        for sample in samples:
            if isinstance(sample, Problem):
                lost.append(Lost(count, sample))
                continue
            at = sample.place.rpartition(":")[2]
            qid = None if sample.qid == f"{stem}:{at}" else sample.qid
            place = None if sample.place == f"{path}:{at}" else sample.place
            metadata = json.dumps(sample.metadata) if sample.metadata else None
            kind = None if isinstance(sample.target, Spans) else sample.target.kind
            content = None if kind is None else stored_content(sample.target)
            told = (sample.video, sample.query, qid, metadata, place, kind, content)
            for column, text in zip(texts, told, strict=True):
                column.append(text)
                held += len(text) if text else 0
            start_s, end_s = sample.pred or (nan, nan)
            values = (sample.duration_s, sample.video_start_s, sample.video_end_s, sample.difficulty, start_s, end_s)
            for column, value in zip(numbers, values, strict=True):
                column.append(nan if value is None else value)
            columns["spans"].append([time for span in sample.spans for time in span])
            columns["at"].append(at)
            count += 1
            if len(columns["at"]) == BATCH_ROWS or held > BATCH_BYTES:
                writer.write_batch(pa.record_batch(list(columns.values()), schema=SCHEMA))
                held = 0
                for column in columns.values():
                    column.clear()
        if columns["at"]:
            writer.write_batch(pa.record_batch(list(columns.values()), schema=SCHEMA))
    return lost
