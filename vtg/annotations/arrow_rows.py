"""The Arrow file of a table of samples: its columns, and how rows of it are read without holding them."""

import mmap
from bisect import bisect_right
from typing import Any

import numpy as np
import pyarrow as pa

BATCH_ROWS, BATCH_BYTES = 16384, 32 << 20
"""A record batch ends at either."""

# The kernel maps 64 KiB around each page: so many rows are some 50 MB.
RELEASE_ROWS = 64

TEXTS = ("video", "query", "qid", "metadata", "place", "target", "content")
NUMBERS = ("duration_s", "video_start_s", "video_end_s", "difficulty", "pred_start_s", "pred_end_s")
SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in TEXTS),
        *(pa.field(name, pa.float64(), nullable=False) for name in NUMBERS),
        pa.field("spans", pa.list_(pa.float64()), nullable=False),
        pa.field("at", pa.string(), nullable=False),
    ]
)
"""NaN is an absent number. `spans`: start, end, start … in seconds. `metadata`: JSON, null where there is none. `at`:
the row's line (`row_at`); `qid` and `place` are null where they follow from it and the path of the annotation file.
`target`: the kind of the target, null for `Spans`, which nearly all rows have; `content`: JSON of one that is not
spans."""


class ArrowRows:
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
        return ArrowRows, (self.path, self.content)

    def row(self, number: int) -> dict[str, Any]:
        self.count(1)
        at = bisect_right(self.starts, number) - 1
        (row,) = self.batches[at].slice(number - self.starts[at], 1).to_pylist()
        return row

    def count(self, rows: int) -> None:
        """Notes that rows are read, and gives back what was mapped for those before: one touches a page a column."""
        self.reads += rows
        if self.reads >= RELEASE_ROWS:
            self.reads = 0
            self.release()

    def release(self) -> None:
        # The kernel takes pages back only when memory is short, and until then counts them as this process's.
        if self.mapped is not None:
            self.mapped.madvise(mmap.MADV_DONTNEED)

    def column(self, name: str) -> pa.ChunkedArray:
        field = SCHEMA.field(name)
        return pa.chunked_array([batch.column(name) for batch in self.batches], field.type)

    def numbers(self, name: str) -> np.ndarray:
        """(N,) a column of numbers."""
        parts = [batch.column(name).to_numpy() for batch in self.batches]
        return parts[0] if len(parts) == 1 else np.concatenate([*parts, np.empty(0)])
