"""Annotation files → the samples that can be used, for training, validation and test."""

import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from heapq import merge
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vtg.annotations.sample import Sample, resolve_video
from vtg.annotations.sample_table import Lost, SampleTable
from vtg.annotations.table_cache import read_table, video_stamps
from vtg.config.data_settings import DataConfig
from vtg.data.skip_report import Skipped, SkipReport
from vtg.errors import ConfigError
from vtg.tasks.span_task import NO_MOMENT_ASKED
from vtg.video.clip import DecodeError
from vtg.video.files import stores, video_files

log = logging.getLogger(__name__)


def read_split(
    path: str, *, video_dir: str | None, report: SkipReport, takes_sets: bool = True, cache_dir: str | None = None
) -> SampleTable:
    """The usable samples of an annotation file; unreadable rows and missing video files go to the report.

    Videos in a store are taken to be there; one that is not is found when it is fetched.

    Args:
        takes_sets: rows without a moment can be used (`SpanTask.takes_sets`); otherwise they are unusable ones.

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
    unasked = np.zeros(len(table), bool) if takes_sets else table.moments() == 0
    _check_unasked(table, unasked, most=report.max_bad_share * rows)
    usable = there & ~unasked
    skipped = _left_out(table, lost, np.flatnonzero(~usable), unasked, video_dir)
    report.expect(rows)
    if not usable.any():
        reasons = "; ".join(f"{entry.place}: {entry.reason}" for entry in islice(skipped, 3))
        remedy = "check the file with python -m vtg.validate"
        if len(table) and not there.any():  # its rows are right, and no video of them is there
            key = f"{report.group}.video_dir"
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
            yield Skipped(f"{problem.path}:{problem.line}", f"{problem.field}: {problem.message}")
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
    """The samples to train on, to validate on while training (may be empty), and to test on (may be empty)."""

    train: Sequence[Sample]
    val: Sequence[Sample]
    test: Sequence[Sample]


def read_splits(data: DataConfig, *, seed: int, report: SkipReport, takes_sets: bool = True) -> Splits:
    """All samples a training run needs, as the data group says. `val_share` parts by video, never by row."""
    assert data.annotation_file is not None
    seen: dict[str, SampleTable] = {}

    def split(path: str | None) -> Sequence[Sample]:
        if path is not None and path not in seen:
            seen[path] = read_split(
                path, video_dir=data.video_dir, report=report, takes_sets=takes_sets, cache_dir=data.cache_dir
            )
        return [] if path is None else seen[path]

    train, val, test = split(data.annotation_file), split(data.val_file), split(data.test_file)
    if data.val_share:
        train, val = part_by_video(train, share=data.val_share, seed=seed)
    if data.max_samples:
        train = train[: data.max_samples]
    for name, path in (("validation", data.val_file), ("test", data.test_file)):
        if path == data.annotation_file:
            log.warning("the %s rows are the training rows: they measure the fit, not what is learned", name)
    return Splits(train, val, test or val)


def part_by_video(samples: Sequence[Sample], *, share: float, seed: int) -> tuple[SampleTable, SampleTable]:
    """(training, validation): about `share` of the videos, at least one, are held out with all their rows."""
    table = SampleTable.of(samples)
    names, which = table.videos()
    count = len(names)
    if count < 2:
        raise ConfigError(f"data.val_share = {share}: there is only one video ({names[0]}), nothing can be held out")
    held_out = max(1, round(share * count))
    if held_out >= count:
        raise ConfigError(
            f"data.val_share = {share}: holds out all of {count} videos and leaves none to train on; set at most "
            f"{(count - 1) / count:.2g}"
        )
    by_name = pc.array_sort_indices(names).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
    held = np.zeros(count, bool)
    # Drawn from the sorted names: the order of the rows in the file does not change which videos are held out.
    held[by_name[random.Random(seed).sample(range(count), held_out)]] = True
    is_held = held[which]
    return table.select(np.flatnonzero(~is_held)), table.select(np.flatnonzero(is_held))
