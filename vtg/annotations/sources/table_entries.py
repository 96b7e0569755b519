"""CSV and TSV of any usual separator, with names of columns or without, as a stream of entries."""

import csv
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain

from vtg.annotations.sources.json_elements import BrokenFile
from vtg.annotations.sources.source_row import BadEntry, Entry
from vtg.annotations.sources.span_values import number_of

TABLES = {".csv": ",", ".tsv": "\t"}

OPEN_QUOTE = "opens a quote that closes on another line or never; close it, and double quotes within a value"

_VIDEO = re.compile(r"\.(?:mp4|avi|mkv|webm|mov|m4v)\b", re.IGNORECASE)


def table_entries(path: str, lines: Iterator[str]) -> Iterator[Entry | BadEntry]:
    """Every row of a table as a dict of its columns; a BadEntry for one of too many values.

    Raises:
        BrokenFile: a column stands there twice, or the lines are no table from one on.
    """
    # A quoted field may hold line breaks, so that a row's line is where it starts: the line after the one before it.
    name = path.lower().removesuffix(".gz")
    first = next(lines, "")
    delimiter = TABLES.get(os.path.splitext(name)[1], ",")
    if delimiter not in first:
        delimiter = next((mark for mark in "\t;,|" if mark in first), delimiter)
    try:
        columns = [column.strip() for column in next(csv.reader([first], delimiter=delimiter), [])]
    except csv.Error as error:
        raise BrokenFile(1, f"has no line of columns ({error}); correct it") from None
    # A column is never named by a number alone, nor by a video: such a table has no names of columns.
    named = all(number_of(column) is None and not _VIDEO.search(column) for column in columns)
    repeated = [column for column, count in Counter(columns).items() if column and count > 1]
    if named and repeated:
        raise BrokenFile(1, f"has two columns {repeated[0]!r}; give one of them another name")
    if not named:
        lines, columns = chain([first], lines), [str(at) for at in range(len(columns))]
    taken: list[str] = []
    # With an empty line at the end, a quote that is open there makes a row of several lines as well.
    reader = csv.reader(_kept(chain(lines, ["\n"]), taken), delimiter=delimiter, strict=False)
    line = begin = 1 + named
    try:
        for values in reader:
            at, line = line, reader.line_num + begin
            if len(taken) > 1 and (len(values) < len(columns) or not _is_well_quoted(taken, delimiter)):
                raise BrokenFile(at, OPEN_QUOTE)
            taken.clear()
            if not any(value.strip() for value in values):
                continue
            if len(values) > len(columns):
                text = (
                    f"has {len(values)} values for {len(columns)} columns; put quotes around values with {delimiter!r}"
                )
                yield BadEntry(at, "row-columns", text)
                continue
            absent = len(columns) - len(values)
            short = f"has {len(values)} values for {len(columns)} columns (cut short?); correct it" if absent else ""
            row = dict(zip(columns, [*values, *[""] * absent], strict=True))
            yield Entry(at, None, row, short=short)
    except csv.Error as error:
        text = OPEN_QUOTE if len(taken) > 1 else f"is no table from here on ({error}); correct it"
        raise BrokenFile(line, text) from None


def _kept(lines: Iterable[str], taken: list[str]) -> Iterator[str]:
    for text in lines:
        taken.append(text)
        yield text


def _is_well_quoted(lines: list[str], delimiter: str) -> bool:
    """Whether the quotes around values of one row close at the end of the value: else they are those of other rows."""
    try:
        list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error:
        return False
    return True
