"""Annotation files as benchmarks publish them, read where they lie: `charades_sta:FOLDER/charades_sta_train.txt`.

The name before the colon is one that `vtg.convert --list` prints, and all is mended that vtg.convert would mend.
Durations come from the file, or from files beside it that its form knows (`Charades_v1_train.csv`). Rows that are
dropped are problems of the file; what is changed is logged. Rows without duration or label need `vtg.convert` first.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from vtg.annotations.conversion.convert_file import convert_file
from vtg.annotations.conversion.normal_row import Lookup, NormalRow
from vtg.annotations.conversion.plan import planned
from vtg.annotations.formats.json_rows import single_file
from vtg.annotations.sample import Problem, Sample, sample_of
from vtg.annotations.sources import SOURCES, forms_of
from vtg.annotations.sources.beside import files_beside
from vtg.annotations.sources.recognition import names
from vtg.annotations.sources.source_row import NoRow
from vtg.video.files.address import is_address

log = logging.getLogger(__name__)

_NAMES = frozenset(names())


def is_published(path: str) -> bool:
    """Whether a path begins with the name of a published form. Without it a file is of vtg's own rows."""
    name, colon, _ = path.partition(":")
    return bool(colon) and name in _NAMES and not is_address(path)


def published_files(path: str) -> list[tuple[str, int, int]]:
    """(true path, bytes, time in ns) of the file and of those beside it that complete it."""
    name, _, file = path.partition(":")
    kinds = {(form, kind) for form in forms_of(name) for kind in SOURCES[form].beside}
    beside = {other for form, kind in kinds for other in files_beside(file, SOURCES[form], kind)}
    return [entry for one in (file, *sorted(beside)) for entry in single_file(one)]


def read_published(path: str) -> Iterator[Sample | Problem]:
    """Streams the samples, and a Problem for each row that is dropped.

    Raises:
        ConfigError: the file is not in the form that is named.
        OSError: it cannot be read.
    """
    name, _, path = path.partition(":")
    plan = planned([name, path], columns={}, durations=[])
    (file,) = plan.files
    changed, number, stem = Counter[str](), 0, Path(path).stem
    lookup = Lookup(duration_of=plan.durations)
    for line, item in convert_file(path, file.source, lookup, plan.durations, beside=file.beside):
        if isinstance(item, NormalRow):
            number += 1
            changed.update(change.kind for change in item.changes)
            sample = sample_of(item.raw, path=path, line=line)
            # Many rows may stand on one line of JSON, and a qid must name one of them.
            is_named = "qid" in item.row or isinstance(sample, Problem)
            yield sample if is_named else replace(sample, qid=f"{stem}:{number}")
        elif not isinstance(item, NoRow):
            yield Problem(path, line, "file", str(item), "error", "file-broken")
        elif item.is_bad:
            number += 1
            yield Problem(path, line, "row", f"{item.text}; it is dropped", "error", item.kind)
    if changed:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in changed.most_common())
        log.info("%s: %s rows of the form %s, mended as vtg.convert does: %s", path, f"{number:,}", file.form, kinds)
