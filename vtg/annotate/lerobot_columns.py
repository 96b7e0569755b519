"""Writes language back into a LeRobot data set: `language_persistent` and `language_events` of its data files.

The first holds, on every frame of an episode, the whole list of its subtasks, plan and memory, each valid from its
timestamp on; the second, on a single frame, what belongs to that moment. `vtg.annotations.formats.lerobot` reads the
first as grounding rows.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vtg.annotate.annotation_rows import EVENTS, PERSISTENT
from vtg.annotations.formats.lerobot import episodes
from vtg.annotations.formats.parquet_columns import number_column, read_columns
from vtg.storage.atomic import written_beside
from vtg.storage.json_files import write_json

ROW = {"role": pa.string(), "content": pa.string(), "style": pa.string(), "camera": pa.string()}
TYPES = {
    "language_persistent": pa.list_(pa.struct(ROW | {"timestamp": pa.float64(), "tool_calls": pa.list_(pa.string())})),
    "language_events": pa.list_(pa.struct(ROW | {"tool_calls": pa.list_(pa.string())})),
}


def write_back(root: str, rows: Mapping[int, Sequence[dict[str, Any]]]) -> int:
    """Writes the language rows (`annotation_rows.language_rows`) of episodes; others keep what they have. A data file
    is replaced whole, or not at all; so is a link, as the cache of the Hugging Face Hub has them to files that it
    shares. Returns the files that were written.

    Raises:
        ConfigError: the data set lacks a file or a column.
        OSError: it cannot be written.
    """
    files: dict[str, list[int]] = {}
    for episode in episodes(root):
        if episode.data_path is not None and episode.index in rows:
            files.setdefault(episode.data_path, []).append(episode.index)
    for path, members in files.items():
        _rewrite(Path(path), {index: rows[index] for index in members})
    info = Path(root) / "meta" / "info.json"
    said = json.loads(info.read_text(encoding="utf-8"))
    said["features"] |= {name: {"dtype": "language", "shape": [1], "names": None} for name in TYPES}
    with written_beside(info, follows_links=False) as beside:
        write_json(beside, said)
    return len(files)


def _rewrite(path: Path, rows: Mapping[int, Sequence[dict[str, Any]]]) -> None:
    table = read_columns(path, pq.read_schema(path).names)
    episode = number_column(table, "episode_index", path).astype(np.int64)
    times_s = number_column(table, "timestamp", path)
    columns = {
        name: table.column(name).to_pylist() if name in table.column_names else [[] for _ in range(len(table))]
        for name in TYPES
    }
    for index, of_episode in rows.items():
        frames = np.flatnonzero(episode == index)
        persistent = [_entry(row, timestamp=True) for row in of_episode if row["style"] in PERSISTENT]
        for at in frames.tolist():
            columns["language_persistent"][at], columns["language_events"][at] = persistent, []
        for row in of_episode:
            if row["style"] in EVENTS:
                nearest = frames[np.abs(times_s[frames] - row["timestamp"]).argmin()]
                columns["language_events"][int(nearest)].append(_entry(row, timestamp=False))
    for name, values in columns.items():
        column = pa.array(values, TYPES[name])
        at = table.column_names.index(name) if name in table.column_names else len(table.column_names)
        table = table.set_column(at, name, column) if at < table.num_columns else table.append_column(name, column)
    with written_beside(path, follows_links=False) as beside:
        pq.write_table(table, beside)


def _entry(row: Mapping[str, Any], *, timestamp: bool) -> dict[str, Any]:
    entry = {name: row[name] for name in ROW} | {"tool_calls": None}
    return entry | ({"timestamp": row["timestamp"]} if timestamp else {})
