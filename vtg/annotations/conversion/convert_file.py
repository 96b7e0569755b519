"""Published files as streams of rows: read by their forms' readers, made normal, held together, and written."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, BinaryIO

from vtg.annotations.conversion.conversion_report import FileReport
from vtg.annotations.conversion.durations import Comparison, Contradiction, Durations
from vtg.annotations.conversion.normal_row import Lookup, NormalRow, normal_row
from vtg.annotations.conversion.plan import Plan
from vtg.annotations.sources.annotators import merged
from vtg.annotations.sources.file_entries import entries
from vtg.annotations.sources.json_elements import BrokenFile
from vtg.annotations.sources.source_row import MISREAD, BadEntry, Change, Found, NoRow, Source
from vtg.progress_bar import ProgressBar
from vtg.storage.atomic import written_beside

Converted = tuple[int, NormalRow | NoRow | BrokenFile]
"""The line, and the row, why there is none, or (at the end) why the file cannot be read any further."""


class _NothingWritten(Exception):
    """No row could be made: the file that is to be written stays as it is."""


def convert_file(
    path: str, source: Source, lookup: Lookup, durations: Durations, *, beside: Mapping[str, Any] | None = None
) -> Iterator[Converted]:
    """Streams the rows of a file in their order. Raises OSError when it cannot be opened."""
    comparison = Comparison(path, durations)
    try:
        for line, found in found_rows(path, source, beside=beside or {}):
            item = found if isinstance(found, NoRow) else normal_row(found, lookup)
            if isinstance(item, NormalRow):
                other = comparison.of(item.row, line)
                if isinstance(other, Contradiction):
                    item = NoRow("duration-contradicts", other.text)
                elif other is not None:
                    item.changes.append(Change("duration-differs", other))
            yield line, item
    except BrokenFile as error:
        yield error.line, error


def found_rows(path: str, source: Source, *, beside: Mapping[str, Any]) -> Iterator[tuple[int, Found]]:
    """(line, row as published, or why there is none). Raises BrokenFile and OSError as `entries` does."""
    found = _found_rows(path, source, beside)
    yield from merged(found) if source.groups else found


def _found_rows(path: str, source: Source, beside: Mapping[str, Any]) -> Iterator[tuple[int, Found]]:
    for entry in entries(path, inside=source.inside):
        if isinstance(entry, BadEntry):
            yield entry.line, NoRow(entry.kind, entry.text)
            continue
        is_empty = True
        try:
            for found in source.rows(entry._replace(beside=beside) if beside else entry):
                is_empty = False
                yield entry.line, found
        except MISREAD as error:
            at = f"{entry.value if entry.key is None else entry.key!s:.60}"
            yield entry.line, NoRow("entry-format", f"{at} is not as the form has it ({type(error).__name__}: {error})")
        else:
            if is_empty and entry.short:
                yield entry.line, NoRow("row-columns", entry.short)


def convert(plan: Plan, lookup: Lookup, out: str, *, examples: int, bar: ProgressBar) -> list[FileReport]:
    """Writes the rows of all files to `out`, which appears whole, or not at all where there is no row."""
    reports = [FileReport(file.path, file.form, file.how, examples) for file in plan.files]
    with suppress(_NothingWritten), bar, written_beside(out) as beside:
        with beside.open("wb") as file:
            for planned, report in zip(plan.files, reports, strict=True):
                items = convert_file(planned.path, planned.source, lookup, plan.durations, beside=planned.beside)
                _write(items, file, report, bar)
        if not any(report.written for report in reports):
            raise _NothingWritten
    return reports


def _write(items: Iterator[Converted], out: BinaryIO, report: FileReport, bar: ProgressBar) -> None:
    for line, item in items:
        bar.update()
        if isinstance(item, NoRow):
            report.drop(line, item)
        elif isinstance(item, NormalRow):
            out.write(item.raw + b"\n")
            report.write(line, item.changes, rows=item.rows)
        else:
            report.fault(line, str(item))
