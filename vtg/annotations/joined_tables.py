"""Tables of several sources as one, in which each sample says whose it is and names its video by a whole path."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from vtg.annotations.sample import resolve_video
from vtg.annotations.sample_table import BATCH_ROWS, SCHEMA, SampleTable
from vtg.annotations.table_cache import SMALL_BYTES, kept_table

SOURCE = "mixture_source"
"""The key of a row, and of an answer to it, that names its source."""


@dataclass(frozen=True)
class Part:
    """The samples of one source, and where their videos are."""

    name: str
    table: SampleTable
    video_dir: str | None


def joined(parts: Sequence[Part], *, cache_dir: str | None) -> SampleTable:
    """The samples of all parts, one part after the other.

    Videos are looked up in their part's `video_dir`, and are named by the path found. A qid gets the part's name before
    it, `gym/train_one:3`: two files may number their rows alike.
    """
    tables = [_table(part) for part in parts]
    whole = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SCHEMA) as writer:
        writer.write_table(whole, max_chunksize=BATCH_ROWS)
    content = sink.getvalue().to_pybytes()
    path = "+".join(part.name for part in parts)
    # Mapped from a file, processes share it; small ones are not worth one.
    return SampleTable.held(content, path=path) if len(content) < SMALL_BYTES else kept_table(content, path, cache_dir)


def digest(parts: Sequence[Part]) -> str:
    """Tells whether the parts' samples are the same, wherever their files and videos are."""
    told = [(part.name, len(part.table), part.table.digest()) for part in parts]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _table(part: Part) -> pa.Table:
    names, which = part.table.videos()
    paths = pa.array([resolve_video(name, part.video_dir) for name in names.to_pylist()], pa.string())
    told = json.dumps({SOURCE: part.name})
    table = part.table.arrow()
    rows = table.column("metadata")
    text = pc.binary_join_element_wise  # pyright: ignore[reportAttributeAccessIssue]
    begun = pc.utf8_slice_codeunits(rows, 1)  # pyright: ignore[reportAttributeAccessIssue]
    metadata = pc.fill_null(text(told[:-1], begun, ", "), told)
    qids = text(part.name, table.column("qid"), "/")
    for name, column in (("video", paths.take(pa.array(which))), ("qid", qids), ("metadata", metadata)):
        table = table.set_column(SCHEMA.get_field_index(name), SCHEMA.field(name), column)
    return table
