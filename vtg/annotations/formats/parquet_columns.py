"""Columns of one Parquet file of a data set, and errors that name the file and the column."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vtg.errors import ConfigError


def column_names(path: Path) -> list[str]:
    """The columns of a file, without reading them. Raises ConfigError where there is no such file, or it is damaged."""
    return list(column_types(path))


def column_types(path: str | Path) -> dict[str, str]:
    """Column → type, as `column_names`."""
    try:
        return {one.name: str(one.type) for one in pq.read_schema(path)}
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; fetch it, or the whole data set again") from None
    except pa.ArrowException as error:
        raise ConfigError(f"{path}: not a readable Parquet file ({error}); fetch it again") from error


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """These columns of a file. Raises ConfigError as `column_names`, and where one is missing."""
    names = column_names(path)
    if missing := [column for column in columns if column not in names]:
        raise ConfigError(
            f"{path}: has no column {', '.join(missing)} (it has {', '.join(names[:12])}"
            f"{' …' if len(names) > 12 else ''}); convert the data set to LeRobot v3.0 anew, or fetch it again"
        )
    try:
        # Of this one file: `read_table` would look for partitions in the names of its folders.
        return pq.ParquetFile(path).read(columns=list(columns))
    except pa.ArrowException as error:
        raise ConfigError(f"{path}: not a readable Parquet file ({error}); fetch it again") from error


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The same, a row at a time."""
    table = read_columns(path, columns)
    listed = [table.column(column).to_pylist() for column in columns]
    for values in zip(*listed, strict=True):
        yield dict(zip(columns, values, strict=True))


def number_column(table: pa.Table, column: str, path: Path, *, null: float | None = None) -> np.ndarray:
    """A column (N,) float64, lists of one number included; nulls become `null`, or are an error."""
    stored = table.column(column)
    if str(stored.type).startswith(("list", "fixed_size_list")):
        stored = stored.combine_chunks().flatten()
    try:
        values = stored.to_numpy().astype(np.float64)
    except (TypeError, ValueError):
        values = np.full(0, np.nan)
    if null is not None:
        values[np.isnan(values)] = null
    if len(values) != len(table) or not np.isfinite(values).all():
        raise ConfigError(f"{path}: {column}: must hold a number on every frame; fetch the data set again")
    return values
