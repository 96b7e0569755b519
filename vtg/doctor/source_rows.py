"""The rows that a training would read, of one data set or of each source of a mixture, and what is wrong with them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from vtg.annotations.formats import format_of
from vtg.annotations.sample import Sample, resolve_video
from vtg.batching import source_shares
from vtg.config.data_settings import DataConfig, RowsConfig
from vtg.doctor.row_findings import (
    DiagnosisFinding,
    row_findings,
    rows_of,
    shared_between,
    shared_findings,
    unasked_findings,
)
from vtg.errors import ConfigError
from vtg.tasks.all_tasks import SPAN


@dataclass
class SourceRows:
    """The rows of one data set.

    Attributes:
        name: of the source; None where it is no mixture.
        files, splits: split (train, val, test) → its file, and its samples.
        samples: of all files, each once. Those of a source name their videos by whole paths.
        of_rows: findings about the rows as they stand in their files; `of_splits`: about what splits share.
        share: of the samples drawn, of 1.
    """

    name: str | None
    files: dict[str, str]
    splits: dict[str, list[Sample]]
    samples: list[Sample]
    of_rows: list[DiagnosisFinding]
    of_splits: list[DiagnosisFinding]
    share: float = 1.0


def read_sources(data: DataConfig, *, takes_sets: bool) -> list[SourceRows]:
    """The rows of the data set, or of every source with a weight or a file.

    Args:
        takes_sets: rows without a moment can be used; otherwise they are findings, and left out.

    Raises:
        ConfigError: a file cannot be read, or has no usable row.
    """
    if not data.sources:
        return [_rows_of(None, data, data, takes_sets)]
    read = [_rows_of(name, source, data, takes_sets) for name, source in data.read_sources.items()]
    sources = list(data.read_sources.values())
    shares = source_shares(
        [len(one.splits["train"]) for one in read],
        [source.weight for source in sources],
        by=data.weights,
        groups=[source.group for source in sources],
        parts=dict(data.groups),
    )
    whole = sum(shares)
    for one, share in zip(read, shares, strict=True):
        one.share = share / whole if whole else 0.0
    return read


def between_sources(read: list[SourceRows]) -> Iterator[DiagnosisFinding]:
    """Videos that one source trains on and another is validated or tested on."""
    for one in read:
        for other in read:
            if one is not other and one.share:
                yield from shared_between(str(one.name), one.splits["train"], str(other.name), other.splits)


def _rows_of(name: str | None, rows: RowsConfig, data: DataConfig, takes_sets: bool) -> SourceRows:
    named = {"train": rows.annotation_file, "val": rows.val_file, "test": rows.test_file}
    files = {split: path for split, path in named.items() if path is not None}
    splits = {split: _samples(path) for split, path in files.items()}
    if name is not None:
        splits = {split: [_whole(sample, rows.video_dir) for sample in own] for split, own in splits.items()}
    video_dir = rows.video_dir if name is None else None
    unasked = [] if takes_sets else list(unasked_findings(splits, files, data))
    if unasked:
        splits = {
            split: [sample for sample in own if sample.spans or sample.target.task != SPAN]
            for split, own in splits.items()
        }
    # One file may serve two splits; its samples are looked at once.
    samples = [sample for path in dict.fromkeys(files.values()) for sample in rows_of(splits, files, path)]
    if not samples:
        raise ConfigError(f"{', '.join(files.values())}: no usable row; check with python -m vtg.validate")
    of_rows = [*row_findings(files, data), *unasked]
    of_splits = list(shared_findings(splits, files, video_dir))
    if name is not None:
        of_rows, of_splits = (
            [replace(one, message=f"{name}: {one.message}") for one in some] for some in (of_rows, of_splits)
        )
    return SourceRows(name, files, splits, samples, of_rows, of_splits)


def _samples(path: str) -> list[Sample]:
    return [row for row in format_of(path).samples(path) if isinstance(row, Sample)]


def _whole(sample: Sample, video_dir: str | None) -> Sample:
    return replace(sample, video=resolve_video(sample.video, video_dir))
