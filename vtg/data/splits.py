"""Annotation files → the samples that can be used, for training, validation and test."""

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from heapq import merge
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vtg.annotations.formats.published import form_remedy
from vtg.annotations.joined_tables import Part, digest, joined
from vtg.annotations.sample import Sample, resolve_video
from vtg.annotations.sample_table import Lost, SampleTable
from vtg.annotations.table_cache import read_table, video_stamps
from vtg.batching import Mixture, epoch_of_source, source_shares
from vtg.config.data_settings import DataConfig, RowsConfig
from vtg.data.skip_report import Skipped, SkipReport
from vtg.errors import ConfigError
from vtg.tasks.span_task import NO_MOMENT_ASKED
from vtg.video.clip import DecodeError
from vtg.video.files import stores, video_files

log = logging.getLogger(__name__)


def read_split(
    path: str,
    *,
    video_dir: str | None,
    report: SkipReport,
    takes_sets: bool = True,
    cache_dir: str | None = None,
    group: str | None = None,
) -> SampleTable:
    """The usable samples of an annotation file; unreadable rows and missing video files go to the report.

    Videos in a store are taken to be there; one that is not is found when it is fetched.

    Args:
        takes_sets: rows without a moment can be used (`SpanTask.takes_sets`); otherwise they are unusable ones.
        group: of the settings that name the file; None for that of the report.

    Raises:
        ConfigError: for a file without any usable row, more rows without a moment than the report's share where none
            can be used, or addresses for which a package is missing.
        TooManyBadRows: past the report's share.
    """
    table, lost = read_table(path, cache_dir=cache_dir)
    names, which = table.videos()
    _check_stores(names, video_dir)
    # Before the first video is decoded: a missing folder shows at once, not hours into the first epoch.
    there = (video_stamps(names, video_dir)[:, 0] >= 0)[which]
    rows = len(table) + len(lost)
    unasked = np.zeros(len(table), bool) if takes_sets else (table.moments() == 0) & ~table.of_other_tasks()
    _check_unasked(table, unasked, most=report.max_bad_share * rows)
    usable = there & ~unasked
    skipped = _left_out(table, lost, np.flatnonzero(~usable), unasked, video_dir)
    report.expect(rows)
    if not usable.any():
        reasons = "; ".join(f"{entry.place}: {entry.reason}" for entry in islice(skipped, 3))
        remedy = "check the file with python -m vtg.validate"
        if not len(table) and (form := form_remedy(path)):
            remedy = f"the file {form}"
        if len(table) and not there.any():  # its rows are right, and no video of them is there
            key = f"{group or report.group}.video_dir"
            folder = f"set {key} to the folder of the videos" if video_dir is None else f"check {key} = {video_dir!r}"
            remedy = f"{folder}, or {remedy}"
        raise ConfigError(f"{path}: no usable row among {rows} ({reasons}); {remedy}")
    report.add(list(skipped))
    table.release()
    return table if usable.all() else table.select(np.flatnonzero(usable))


def _check_unasked(table: SampleTable, unasked: np.ndarray, *, most: float) -> None:
    """Raises ConfigError for more than `most` rows without a moment: (N,) bool, where none can be used."""
    if (count := int(unasked.sum())) > most:
        first = table[int(np.argmax(unasked))]
        raise ConfigError(f"{first.place}: {NO_MOMENT_ASKED} ({count} of {len(table)} rows have no moment)")


def _left_out(
    table: SampleTable, lost: Sequence[Lost], gone: np.ndarray, unasked: np.ndarray, video_dir: str | None
) -> Iterator[Skipped]:
    """Rows that are no samples, and samples (numbers `gone`) without a video or, (N,) bool `unasked`, without a moment,
    in the order of the file.
    """
    broken = ((one.before, 0, one.problem) for one in lost)
    missing = ((at, 1, None) for at in gone.tolist())
    for at, _, problem in merge(broken, missing, key=lambda entry: entry[:2]):
        if problem is not None:
            yield Skipped(problem.place, f"{problem.field}: {problem.message}")
        elif unasked[at]:
            one = table[at]
            yield Skipped(one.place, NO_MOMENT_ASKED, one.qid, one.video)
        else:
            one = table[at]
            reason = f"video: {video_files.why_absent(resolve_video(one.video, video_dir))}"
            yield Skipped(one.place, reason, one.qid, one.video)


def _check_stores(names: pa.Array, video_dir: str | None) -> None:
    """Raises ConfigError where a package is missing for the first video that lies in a store, so before any is read."""
    remote = names.filter(pc.match_substring(names, "://"))  # pyright: ignore[reportAttributeAccessIssue]
    for name in (*remote.slice(0, 1).to_pylist(), *names.slice(0, 1).to_pylist()):
        address = resolve_video(name, video_dir)
        if video_files.is_remote(address) and video_files.exists(address):
            with suppress(DecodeError):  # its row says so
                stores.file_system(address)


@dataclass(frozen=True)
class Splits:
    """The samples to train on, to validate on while training (may be empty), and to test on (may be empty).

    Attributes:
        mixture: how the training samples are drawn, where they are of several sources.
        digests: of a mixture, split → what its rows are, wherever their files are.
    """

    train: Sequence[Sample]
    val: Sequence[Sample]
    test: Sequence[Sample]
    mixture: Mixture | None = None
    digests: Mapping[str, str] = field(default_factory=dict)


def read_splits(data: DataConfig, *, seed: int, report: SkipReport, takes_sets: bool = True) -> Splits:
    """All samples a training run needs, as the data group says. `val_share` parts by video, never by row."""
    if data.sources:
        return _mixed(data, seed=seed, report=report, takes_sets=takes_sets)
    return _splits_of(data, "data", cache_dir=data.cache_dir, seed=seed, report=report, takes_sets=takes_sets)


def _splits_of(
    data: RowsConfig, group: str, *, cache_dir: str | None, seed: int, report: SkipReport, takes_sets: bool
) -> Splits:
    assert data.annotation_file is not None
    seen: dict[str, SampleTable] = {}

    def split(path: str | None) -> Sequence[Sample]:
        if path is not None and path not in seen:
            options = {"takes_sets": takes_sets, "cache_dir": cache_dir, "group": group}
            seen[path] = read_split(path, video_dir=data.video_dir, report=report, **options)
        return [] if path is None else seen[path]

    train, val, test = split(data.annotation_file), split(data.val_file), split(data.test_file)
    if data.val_share:
        train, val = part_by_video(train, share=data.val_share, seed=seed, key=f"{group}.val_share")
    if data.max_samples:
        train = train[: data.max_samples]
    for name, path in (("validation", data.val_file), ("test", data.test_file)):
        if path == data.annotation_file:
            log.warning("the %s rows are the training rows: they measure the fit, not what is learned", name)
    return Splits(train, val, test or val)


def _mixed(data: DataConfig, *, seed: int, report: SkipReport, takes_sets: bool) -> Splits:
    """The samples of all sources, the training samples source after source, as `Mixture` has them."""
    own: dict[str, Splits] = {}
    for name, source in data.read_sources.items():
        group = f"data.sources.{name}"
        options = {"cache_dir": data.cache_dir, "seed": seed, "report": report, "takes_sets": takes_sets}
        own[name] = _splits_of(source, group, **options)

    def parts_of(split: str) -> list[Part]:
        tables = {name: SampleTable.of(getattr(one, split)) for name, one in own.items()}
        return [Part(name, table, data.sources[name].video_dir) for name, table in tables.items()]

    parts = {split: parts_of(split) for split in ("train", "val", "test")}
    tables = {split: joined(tables, cache_dir=data.cache_dir) for split, tables in parts.items()}
    in_turn = {split: tables[split].select(_in_turn(parts[split])) for split in ("val", "test")}
    digests = {split: digest(tables) for split, tables in parts.items()}
    mixture = _mixture(data, [len(part.table) for part in parts["train"]], seed)
    return Splits(tables["train"], in_turn["val"], in_turn["test"], mixture, digests)


def _in_turn(parts: Sequence[Part]) -> np.ndarray:
    """(N,) int64 the samples of all parts with one of each in turn, so that the first of them are of all."""
    turns = np.concatenate([np.empty(0, np.int64), *(np.arange(len(part.table)) for part in parts)])
    return np.argsort(turns, kind="stable")


def _mixture(data: DataConfig, sizes: Sequence[int], seed: int) -> Mixture:
    sources = list(data.read_sources.values())
    shares = source_shares(
        sizes,
        [one.weight for one in sources],
        by=data.weights,
        groups=[one.group for one in sources],
        parts=dict(data.groups),
    )
    count = data.epoch_samples or sum(size for size, share in zip(sizes, shares, strict=True) if share)
    try:
        mixture = Mixture(tuple(data.read_sources), tuple(sizes), shares, count, seed)
    except ValueError as error:
        raise ConfigError(f"data.sources: {error}") from None
    if data.epoch_source is None:
        return mixture
    if not mixture.wanted[mixture.names.index(data.epoch_source)]:
        raise ConfigError(f"data.epoch_source = {data.epoch_source!r}: nothing is drawn of it; give its group a part")
    return replace(mixture, count=epoch_of_source(mixture, data.epoch_source))


def part_by_video(
    samples: Sequence[Sample], *, share: float, seed: int, key: str = "data.val_share"
) -> tuple[SampleTable, SampleTable]:
    """(training, validation): about `share` of the videos, at least one, are held out with all their rows."""
    table = SampleTable.of(samples)
    names, which = table.videos()
    count = len(names)
    if count < 2:
        raise ConfigError(f"{key} = {share}: there is only one video ({names[0]}), nothing can be held out")
    held_out = max(1, round(share * count))
    if held_out >= count:
        raise ConfigError(
            f"{key} = {share}: holds out all of {count} videos and leaves none to train on; set at most "
            f"{(count - 1) / count:.2g}"
        )
    by_name = pc.array_sort_indices(names).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
    held = np.zeros(count, bool)
    # Drawn from the sorted names: the order of the rows in the file does not change which videos are held out.
    held[by_name[random.Random(seed).sample(range(count), held_out)]] = True
    is_held = held[which]
    return table.select(np.flatnonzero(~is_held)), table.select(np.flatnonzero(is_held))
