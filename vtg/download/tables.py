"""The tables of a downloaded set: one Parquet file a split, made of the publisher's files by `datasets`."""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vtg.errors import RunError
from vtg.storage.atomic import written_beside


def make_tables(files: Path, folder: Path) -> Iterator[tuple[str, int, list[Path]]]:
    """Makes NAME.parquet in `folder` for every split that `files` holds, or CONFIG/NAME.parquet where a set has several
    configurations; which files are a split is said by the README of the set, or by their names.

    Yields:
        (the table, below `folder`; its rows; the files that it was made of).

    Raises:
        RunError: the files are no tables, or damaged.
    """
    import datasets
    from datasets.exceptions import DatasetsError

    cache = files / ".tables"  # hidden: `datasets` would take what lies there for data
    try:
        datasets.disable_progress_bars()
        names = datasets.get_dataset_config_names(str(files))
        for config in names:
            builder = datasets.load_dataset_builder(str(files), config, cache_dir=str(cache))
            for split, sources in (builder.config.data_files or {}).items():
                paths = [files / Path(str(source)).relative_to(files.resolve()) for source in sources]
                name = f"{split}.parquet" if len(names) == 1 else f"{config}/{split}.parquet"
                rows = _make(builder, str(split), paths, folder / name)
                yield name, rows, paths
    except (DatasetsError, pa.ArrowException, ValueError, FileNotFoundError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise RunError(
            f"{files}: its files cannot be made into tables ({reason}); they are kept as they are"
        ) from error
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def _make(builder: Any, split: str, sources: Sequence[Path], table: Path) -> int:
    """Writes the table of a split, and returns its rows. `sources` stay where they are."""
    table.parent.mkdir(parents=True, exist_ok=True)
    if all(source.suffix == ".parquet" for source in sources):
        schemas = [pq.read_schema(source) for source in sources]
        if all(schema == schemas[0] for schema in schemas):
            return _join(sources, schemas[0], table)
    builder.download_and_prepare()
    rows = builder.as_dataset(split=split)
    with written_beside(table) as beside:
        rows.to_parquet(str(beside))
    return len(rows)


def _join(sources: Sequence[Path], schema: pa.Schema, table: Path) -> int:
    """The Parquet files of a split, one after another; in the memory of one group of rows."""
    if len(sources) == 1:  # a second name of the same bytes, where the disk has such
        with written_beside(table) as beside:
            try:
                os.link(sources[0], beside)
            except OSError:
                shutil.copyfile(sources[0], beside)
        return pq.read_metadata(table).num_rows
    rows = 0
    compression = pq.read_metadata(sources[0]).row_group(0).column(0).compression
    with written_beside(table) as beside, pq.ParquetWriter(beside, schema, compression=compression) as writer:
        for source in sources:
            with pq.ParquetFile(source) as file:
                for group in range(file.num_row_groups):
                    part = file.read_row_group(group)
                    rows += len(part)
                    writer.write_table(part)
    return rows
