"""What is to be converted: which form each file is in, what lies beside it, and where durations come from."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vtg.annotations.conversion.durations import Durations
from vtg.annotations.sources import BENCHMARKS, SOURCES, own_rows
from vtg.annotations.sources.beside import files_beside, told_beside
from vtg.annotations.sources.file_entries import head_of
from vtg.annotations.sources.partitions import missing_partitions, partition_files
from vtg.annotations.sources.recognition import Recognized, names, recognize
from vtg.annotations.sources.source_row import Source
from vtg.errors import ConfigError, RunError


@dataclass(frozen=True)
class PlannedFile:
    """A file to convert: its form, how that was told, and what files beside it tell."""

    path: str
    form: str
    how: str
    source: Source
    beside: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Files in order, durations from elsewhere, what of this the user did not say, and partitions that are missing."""

    files: list[PlannedFile]
    durations: Durations
    durations_from: list[str]
    notes: list[str]
    missing: list[str] = field(default_factory=list)


def planned(words: Sequence[str], *, columns: Mapping[str, str], durations: Sequence[str]) -> Plan:
    """The plan for `[FORMAT] SRC…`.

    A file of no wanted form that tells durations is taken for a table of durations, as Charades_v1_train.csv is beside
    charades_sta_train.txt.

    Raises:
        ConfigError: an unknown format, a file of no form or of several, or a file that tells no durations.
        RunError: a file without a single entry.
        OSError: a file cannot be opened.
    """
    name, paths = _name_and_paths(words)
    if name is not None and columns:
        raise ConfigError(f"FORMAT {name} and --columns: the columns tell the format; give one of both")
    found = {path: None if columns else recognize(path, name=name) for path in paths}
    lengths = [path for path in paths if (forms := found[path]) and _is_of_durations(path, forms, found, name=name)]
    files, notes = [], [f"{path}: durations of videos" for path in lengths]
    for path in (path for path in paths if path not in lengths):
        forms = found[path]
        if forms is None:
            _check_columns(path, columns)
            source = replace(SOURCES["rows"], rows=own_rows.reader(columns))
            files.append(PlannedFile(path, "columns", "named by --columns", source))
        else:
            files.append(_file(path, forms, name))
    told = Durations()
    lacking = [file for file in files if (forms := found[file.path]) is None or not forms.has_durations]
    beside = {other: file.path for file in lacking for other in files_beside(file.path, file.source, "durations")}
    read = list(dict.fromkeys([*durations, *lengths, *beside]))
    found_beside = [path for path in read if path not in (*durations, *lengths)]
    for path in read:
        try:
            told.read(path)
        except ValueError as error:
            where = f" (it was found beside {beside[path]}, for durations)" if path in found_beside else ""
            raise ConfigError(f"{error}{where}") from None
    notes += [f"{path}: durations of videos, found beside" for path in found_beside]
    return Plan(files, told, read, notes, missing_partitions(paths))


def _name_and_paths(words: Sequence[str]) -> tuple[str | None, list[str]]:
    first, rest = words[0], list(words[1:])
    name = first if first in BENCHMARKS or first in SOURCES else None
    paths = rest if name is not None else [first, *rest]
    if name is not None and not paths:
        raise ConfigError(f"{name}: SRC is missing; name the file that is in this format")
    if name is not None:  # which says how the files of a folder are read
        paths = [file for path in paths for file in partition_files(path) or [path]]
    for path in paths:
        if os.path.isdir(path):
            raise ConfigError(f"{path} is a folder; name the annotation files in it")
        if not os.path.exists(path):
            hint = "" if name or path != first or os.sep in path else f", nor a FORMAT ({', '.join(names())})"
            raise ConfigError(f"{path}: there is no such file{hint}; check the path")
    return name, paths


def _check_columns(path: str, columns: Mapping[str, str]) -> None:
    head = head_of(path)
    there = list(
        dict.fromkeys([*(head.keys if head.shape == "table" else ()), *(key for row in head.objects() for key in row)])
    )
    if missing := [column for column in columns.values() if there and column not in there]:
        raise ConfigError(
            f"{path}: has no column {', '.join(map(repr, missing))}; its columns: {', '.join(there[:20])}"
        )


def _is_of_durations(path: str, forms: Recognized, found: Mapping[str, Recognized | None], *, name: str | None) -> bool:
    """Whether a file serves another one to be converted: it has lengths of videos, and that one's form has none."""
    if len(found) == 1:
        return False
    others = [other for where, other in found.items() if where != path and other is not None]
    if name is not None:
        return not forms.forms and any(other.forms for other in others) and _tells_durations(path)
    return forms.forms == ("charades_actions",) and any(other.forms != forms.forms for other in others)


def _tells_durations(path: str) -> bool:
    try:
        Durations().read(path)
    except ValueError:
        return False
    return True


def _file(path: str, found: Recognized, name: str | None) -> PlannedFile:
    if len(found.forms) == 1:
        (form,) = found.forms
        how = "by the name given" if name == form else f"told by how it begins: {found.looks}"
        source = SOURCES[form]
        return PlannedFile(path, form, how, source, told_beside(path, source))
    if found.forms:
        raise ConfigError(
            f"{path} could be {' or '.join(found.forms)} ({found.looks}), which nothing in it tells apart; name one: "
            f"python -m vtg.convert {found.forms[0]} {path} -o OUT"
        )
    if not found.has_entries and found.fault:
        raise RunError(f"{path}:{found.fault}")
    if not found.has_entries:
        raise RunError(f"{path} holds no entry that can be read: {found.looks} (empty, or cut off?); fetch it again")
    if name is not None:
        also = recognize(path).forms
        hint = f"it looks like {' or '.join(also)}" if also else "--columns names the columns of a table of your own"
        raise ConfigError(f"{path} is not in the format {name}: it is {found.looks}; {hint}")
    raise ConfigError(
        f"{path} is in no known format: it is {found.looks}; name one (python -m vtg.convert --list), or the "
        "columns of a table of your own: --columns video=…,sentence=…,start=…,end=…"
    )
