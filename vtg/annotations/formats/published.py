"""Annotation files as benchmarks publish them, read where they lie: `charades_sta:FOLDER/charades_sta_train.txt`.

The name before the colon is one that `vtg.convert --list` prints, and all is mended that vtg.convert would mend.
Durations come from the file, from files beside it that its form knows (`Charades_v1_train.csv`), or from the videos
in the folder that it knows. A set in several files is a folder or a pattern (`molmo2:data/train-*.parquet`). Rows that
are dropped, and partitions that are missing or not of the form, are problems of the file; what is changed is logged.
Other rows without a duration or a label need `vtg.convert` first.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from os.path import isdir
from pathlib import Path

from vtg.annotations.conversion.convert_file import convert_file
from vtg.annotations.conversion.durations import Durations
from vtg.annotations.conversion.normal_row import Lookup, NormalRow
from vtg.annotations.conversion.plan import planned
from vtg.annotations.formats.json_rows import single_file
from vtg.annotations.raw_rows import RowsOfLines
from vtg.annotations.sample import Problem, Sample, resolve_video, sample_of
from vtg.annotations.sources import SOURCES, forms_of
from vtg.annotations.sources.beside import files_beside
from vtg.annotations.sources.partitions import missing_partitions, partition_files
from vtg.annotations.sources.recognition import OWN_ROWS, names, recognize
from vtg.annotations.sources.source_row import NoRow, Source
from vtg.errors import ConfigError, RunError, SampleError
from vtg.video.files.address import is_address

log = logging.getLogger(__name__)

_NAMES = frozenset(names())


def is_published(path: str) -> bool:
    """Whether a path begins with the name of a published form. Without it a file is of vtg's own rows."""
    name, colon, _ = path.partition(":")
    return bool(colon) and name in _NAMES and not is_address(path)


def form_remedy(path: str) -> str | None:
    """What to do about a file without a usable row that is in a published form nobody named; None for another one.

    Raises OSError when it cannot be opened.
    """
    if is_published(path) or not os.path.isfile(path):
        return None
    forms = recognize(path).forms
    if not forms or OWN_ROWS in forms:
        return None
    named = " or ".join(f"{form}:{path}" for form in forms)
    return f"is in the form {' or '.join(forms)}: name it, {named}, or make rows of it with python -m vtg.convert"


def published_files(path: str) -> list[tuple[str, int, int]]:
    """(true path, bytes, time in ns) of the file and of those beside it that complete it."""
    name, _, place = path.partition(":")
    kinds = {(form, kind) for form in forms_of(name) for kind in SOURCES[form].beside}
    files = partition_files(place)
    if not files:
        raise ConfigError(f"{path}: there is no file of annotations; check the path")
    beside = {other for form, kind in kinds for file in files for other in files_beside(file, SOURCES[form], kind)}
    # Durations that videos tell: rows are read anew when videos have come since.
    folders = [(os.path.realpath(other), 0, os.stat(other).st_mtime_ns) for other in sorted(beside) if isdir(other)]
    named = [*files, *(other for other in sorted(beside) if not isdir(other))]
    return [entry for one in named for entry in single_file(one)] + folders


def read_published(path: str) -> Iterator[Sample | Problem]:
    """Streams the samples, and a Problem for each row that is dropped.

    Raises:
        ConfigError: the file is not in the form that is named.
        OSError: it cannot be read.
    """
    name, _, place = path.partition(":")
    files = partition_files(place) or [place]
    for missing in missing_partitions(files):
        text = f"is missing: {len(files)} other partitions are there; fetch it"
        yield Problem(missing, 1, "file", text, "error", "file-missing")
    for file in files:
        try:
            yield from _read_file(name, file)
        except (ConfigError, RunError) as error:
            if len(files) == 1:
                raise
            yield Problem(file, 1, "file", str(error), "error", "file-broken")


def _read_file(name: str, path: str) -> Iterator[Sample | Problem]:
    plan = planned([name, path], columns={}, durations=[])
    (file,) = plan.files
    changed, number, stem, of_lines = Counter[str](), 0, Path(path).stem, RowsOfLines()
    lookup = Lookup(duration_of=_durations(path, file.source, plan.durations))
    for line, item in convert_file(path, file.source, lookup, plan.durations, beside=file.beside):
        if isinstance(item, NormalRow):
            number += 1
            changed.update(change.kind for change in item.changes)
            sample = sample_of(item.raw, path=path, line=line, nth=of_lines.nth(line, item.raw))
            # Numbered through the file: an entry, of which there may be many rows, often takes several lines.
            is_named = "qid" in item.row or isinstance(sample, Problem)
            yield sample if is_named else replace(sample, qid=f"{stem}:{number}")
        elif not isinstance(item, NoRow):
            yield Problem(path, line, "file", str(item), "error", "file-broken")
        elif item.is_bad:
            number += 1
            nth = of_lines.nth(line, b"")
            yield Problem(path, line, "row", f"{item.text}; it is dropped", "error", item.kind, nth)
    if changed:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in changed.most_common())
        log.info("%s: %s rows of the form %s, mended as vtg.convert does: %s", path, f"{number:,}", file.form, kinds)


def _durations(path: str, source: Source, told: Durations) -> Callable[[str], float | None]:
    """Seconds of a video by its name: as files tell, else as its file in a folder that the form knows does."""
    folders = [folder for folder in files_beside(path, source, "videos") if isdir(folder)]
    read: dict[str, float | None] = {}

    def duration_of(video: str) -> float | None:
        if (seconds := told(video)) is not None or not folders:
            return seconds
        if video not in read:
            read[video] = next((seconds for folder in folders if (seconds := _length(video, folder)) is not None), None)
        return read[video]

    return duration_of


def _length(video: str, folder: str) -> float | None:
    # Late: rows are checked without numpy, which this imports.
    from vtg.video.container import probe

    place = resolve_video(video, folder)
    with suppress(SampleError, OSError):
        return probe(place).duration_s if os.path.isfile(place) else None
    return None
