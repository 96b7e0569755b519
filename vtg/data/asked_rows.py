"""The rows that a checkpoint is asked about: of one annotation file, or of every source of a mixture."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from vtg.annotations.formats import format_of
from vtg.annotations.joined_tables import Part, joined
from vtg.annotations.sample import Sample
from vtg.annotations.sample_table import SampleTable
from vtg.annotations.unannotated_rows import has_open_rows, read_open_rows
from vtg.config.data_settings import DataConfig, RowsConfig
from vtg.data.skip_report import Skipped, SkipReport
from vtg.data.splits import read_split
from vtg.errors import ConfigError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AskedRows:
    """The samples, where their videos are (None: they name whole paths), and the files they were read from."""

    samples: Sequence[Sample]
    video_dir: str | None
    files: tuple[str, ...]


def asked_rows(data: DataConfig, split: str, report: SkipReport, *, takes_sets: bool) -> AskedRows:
    """The rows of a split; of a mixture those of each source in turn, which say whose they are as `joined` does.

    Args:
        split: `test` (where there is no test file, the annotation file), `val` or `train`.

    Raises:
        ConfigError: a file has no usable row.
        TooManyBadRows: past the report's share.
    """
    if not data.sources:
        path = _file(data, split)
        assert path is not None
        samples = _samples(path, data, report, takes_sets=takes_sets, cache_dir=data.cache_dir, group="data")
        return AskedRows(samples, data.video_dir, (path,))
    files = {name: path for name, source in data.sources.items() if (path := _file(source, split)) is not None}
    if without := [name for name in data.sources if name not in files]:
        log.warning("split = %s: nothing is asked of %s, which have no file of it", split, ", ".join(without))
    parts = []
    for name, path in files.items():
        source = data.sources[name]
        own = {"takes_sets": takes_sets, "cache_dir": data.cache_dir, "group": f"data.sources.{name}"}
        parts.append(Part(name, SampleTable.of(_samples(path, source, report, **own)), source.video_dir))
    return AskedRows(joined(parts, cache_dir=data.cache_dir), None, tuple(files.values()))


def _file(rows: RowsConfig, split: str) -> str | None:
    test_file = rows.test_file or rows.annotation_file
    return {"test": test_file, "val": rows.val_file, "train": rows.annotation_file}[split]


def _samples(
    path: str, rows: RowsConfig, report: SkipReport, *, takes_sets: bool, cache_dir: str | None, group: str
) -> Sequence[Sample]:
    """The rows of a file, `max_samples` at most. Those without a timestamp or duration are questions alone, answered
    but not scored.
    """
    log.info("answering the rows of %s", path)
    if not format_of(path).may_be_unannotated or not has_open_rows(path, takes_sets=takes_sets):
        options = {"takes_sets": takes_sets, "cache_dir": cache_dir, "group": group}
        table = read_split(path, video_dir=rows.video_dir, report=report, **options)
        return table[: rows.max_samples or None]
    read = list(read_open_rows(path, video_dir=rows.video_dir, takes_sets=takes_sets))
    samples = [row for row in read if isinstance(row, Sample)]
    lost = [Skipped(row.place, f"{row.field}: {row.message}") for row in read if not isinstance(row, Sample)]
    if not samples:
        raise ConfigError(f"{path}: no usable row among {len(read)} ({lost[0].place}: {lost[0].reason})")
    report.expect(len(read))
    report.add(lost)
    if unknown := sum(not sample.is_labelled for sample in samples):
        log.info("%d of %d rows have no timestamp: they are answered, and not scored", unknown, len(samples))
    return samples[: rows.max_samples or None]
