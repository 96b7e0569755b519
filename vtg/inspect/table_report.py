"""What is in tables: a Parquet file, several of one data set, or a folder that `datasets` saved.

Read batch by batch: counts, extremes and means are of all rows, quartiles and histograms of rows at even distances.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vtg.annotations.sample import resolve_video
from vtg.errors import SampleError
from vtg.inspect.inspection import Inspection, Report, SheetCell, distribution, evenly, shortened
from vtg.video.episodes.records import FilePart, VideoRecord

# Rows, at least, whose values are kept for quartiles and histograms.
KEPT_ROWS = 100_000
BATCH_ROWS = 8192
# Columns that name the video of a row.
VIDEO_COLUMNS = ("video", "video_path", "video_id", "vid")
LENGTHS = {"text": "characters", "list": "items", "bytes": "bytes"}


@dataclass(slots=True)
class Column:
    """What is known of a column so far. `unit`: of its values, None for the values themselves."""

    type: str
    unit: str | None
    is_measured: bool
    nulls: int = 0
    count: int = 0
    total: float = 0.0
    low: float = np.inf
    high: float = -np.inf
    kept: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, values: pa.Array, stride: int) -> None:
        self.nulls += values.null_count
        measured = _measured(values) if self.is_measured else None
        if measured is None:
            return
        numbers = measured.drop_null().to_numpy(zero_copy_only=False).astype(np.float64)
        numbers = numbers[np.isfinite(numbers)]
        if len(numbers):
            self.count += len(numbers)
            self.total += float(numbers.sum())
            self.low, self.high = min(self.low, float(numbers.min())), max(self.high, float(numbers.max()))
            self.kept.append(numbers[::stride])

    def values(self) -> NDArray[np.float64]:
        return np.concatenate(self.kept) if self.kept else np.zeros(0)

    def report(self) -> Report:
        known: Report = {"type": self.type, "nulls": self.nulls}
        if self.count:
            spread = distribution(self.values()) or {}
            exact = {"min": self.low, "max": self.high, "mean": self.total / self.count}
            known |= spread | {name: round(value, 4) for name, value in exact.items()}
            known |= {} if self.unit is None else {"of": self.unit}
        return known


def inspect_parquet(paths: Sequence[str], *, num_samples: int, video_dir: str | None = None) -> Inspection:
    """The Parquet files of one table; one that cannot be read is told, and the others are read."""
    readable, broken, rows = [], {}, 0
    schema: pa.Schema | None = None
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                if schema is not None and file.schema_arrow != schema:
                    broken[path] = "has other columns than the first file; look at it alone"
                    continue
                schema, rows = file.schema_arrow, rows + file.metadata.num_rows
            readable.append(path)
        except (pa.ArrowException, OSError) as error:
            broken[path] = f"not a readable Parquet file ({_first_line(error)}); fetch it again"

    def batches() -> Iterator[pa.RecordBatch]:
        for path in readable:
            try:
                with pq.ParquetFile(path) as file:
                    yield from file.iter_batches(BATCH_ROWS)
            except (pa.ArrowException, OSError) as error:
                broken[path] = f"breaks off ({_first_line(error)}); fetch it again"

    found = _inspect(batches(), schema or pa.schema([]), rows, num_samples=num_samples, video_dir=video_dir)
    size = sum(os.path.getsize(path) for path in readable)
    found.report = {"kind": "table", "path": paths[0] if len(paths) == 1 else list(paths), "bytes": size} | found.report
    found.report["broken_files"] = [f"{path}: {why}" for path, why in broken.items()]
    found.failed = bool(broken)
    return found


def inspect_saved(folder: str, *, num_samples: int, video_dir: str | None = None) -> dict[str, Inspection]:
    """Split → what is in it, of a folder that `datasets.save_to_disk` wrote; the key "" where it has no splits.

    Raises:
        SampleError: it cannot be read.
    """
    import datasets

    try:
        loaded = datasets.load_from_disk(folder)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise SampleError(
            f"{folder}: not a whole folder of a data set ({_first_line(error)}); save or fetch it again"
        ) from error
    splits: dict[Any, Any] = dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {"": loaded}
    found = {}
    for name, split in splits.items():
        table = split.data.table
        one = _inspect(
            iter(table.to_batches(BATCH_ROWS)), table.schema, len(table), num_samples=num_samples, video_dir=video_dir
        )
        one.report = {"kind": "table", "path": os.path.join(folder, name) if name else folder} | one.report
        found[name] = one
    return found


def _inspect(
    batches: Iterator[pa.RecordBatch], schema: pa.Schema, rows: int, *, num_samples: int, video_dir: str | None
) -> Inspection:
    columns = {one.name: _column(one) for one in schema}
    stride = max(1, -(-rows // KEPT_ROWS))
    wanted, samples, seen = evenly(rows, num_samples), [], 0
    for batch in batches:
        for name, values in zip(batch.schema.names, batch.columns, strict=True):
            columns[name].add(values, stride)
        inside = [at - seen for at in wanted if seen <= at < seen + len(batch)]
        samples += [{name: batch.column(name)[at].as_py() for name in batch.schema.names} for at in inside]
        seen += len(batch)
    report: Report = {
        "rows": seen,
        "columns": {name: column.report() for name, column in columns.items()},
        "samples": [{name: shortened(value) for name, value in sample.items()} for sample in samples],
    }
    spreads = {
        f"{name} ({column.unit})" if column.unit else name: column.values()
        for name, column in columns.items()
        if column.count
    }
    return Inspection(report, spreads, _cells(samples, video_dir))


def _column(one: pa.Field) -> Column:
    kind = one.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return Column("text", "characters", True)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return Column("bytes", "bytes", True)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return Column(str(kind), "items", True)
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return Column(str(kind), None, is_number)


def _measured(values: pa.Array) -> pa.Array:
    """The numbers that say how a column is spread: its own, or how long its texts and lists are."""
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pc.call_function("utf8_length", [values])
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return pc.call_function("binary_length", [values])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pc.call_function("list_value_length", [values])
    return values.cast(pa.int8()) if pa.types.is_boolean(kind) else values


def _cells(samples: Sequence[dict[str, Any]], video_dir: str | None) -> list[SheetCell]:
    """The first frames of the samples' videos, of those that are there."""
    cells = []
    for sample in samples:
        name = next((sample[key] for key in VIDEO_COLUMNS if isinstance(sample.get(key), str)), None)
        path = None if name is None else resolve_video(name, video_dir)
        if path is not None and Path(path).is_file():
            cells.append(SheetCell(VideoRecord({"video": FilePart(path)}), 0.0, f"{name} 0.0 s"))
    return cells


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
