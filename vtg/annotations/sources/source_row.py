"""What a reader of a published format is given and gives: an entry of the file, and the rows in it as they stand there.

Readers are pure: they open no file and check no value. What a value has to be, what is mended and what is dropped is
the business of `vtg.annotations.conversion`, the same for every format.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, NamedTuple

NOTHING_BESIDE: Mapping[str, Any] = {}

MISREAD = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
"""What a reader raises at an entry that is not as it takes it to be: the entry is lost then, and not the file."""


class Entry(NamedTuple):
    """One element of a file: of an array, a member of an object, a line of text, or a row of a table.

    Attributes:
        line: on which it starts, from 1.
        key: its name, where the file is an object of named members.
        value: the decoded JSON value, the line's text, or a dict of a table's columns.
        beside: what a file beside the annotations tells (names of classes, questions), where the format has such.
        short: of a row of a table that has fewer values than columns, which programs that write tables may leave away:
            what to say where nothing can be read from the rest; else empty.
    """

    line: int
    key: str | None
    value: Any
    beside: Mapping[str, Any] = NOTHING_BESIDE
    short: str = ""


class BadEntry(NamedTuple):
    """What stands in the place of an entry and cannot be decoded: a kind to count by, and what is wrong."""

    line: int
    kind: str
    text: str


class Change(NamedTuple):
    """What was changed in a row: a kind to count by, and the values."""

    kind: str
    text: str


@dataclass(slots=True, kw_only=True)
class FoundRow:
    """One query about one video, its values as published and not yet checked.

    Attributes:
        spans: one [start, end] or a list of them, in numbers or text; None where nobody has labelled it.
        duration: of the clip, in seconds.
        duration_at_most: what it may be where nothing tells it: the longest that the annotations allow.
        task: the keys of a row of another task than spans (docs/tasks.md): `caption`, or `answer` and `choices`. It has
            no spans, and no query where the task asks none.
        parts: the times are in so many parts of the duration (100: percent) instead of seconds.
        annotators: the spans of several people, `spans` being the one to train on and to score.
        metadata: every other key of the format that a row keeps.
        changes: what the reader itself had to do to make a row of it.
        rows: how many rows of the file it stands for.
    """

    video: Any
    query: Any
    spans: Any
    duration: Any = None
    duration_at_most: float | None = None
    qid: Any = None
    video_start: Any = None
    video_end: Any = None
    difficulty: Any = None
    pred: Any = None
    task: dict[str, Any] = field(default_factory=dict)
    parts: float | None = None
    annotators: list[Any] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    rows: int = 1


class NoRow(NamedTuple):
    """An entry, or a part of one, of which no row can be made.

    Attributes:
        kind: to count by.
        text: what is wrong, with the value.
        is_bad: False for what the format holds beside grounding rows (an answer without times, say): it is counted, and
            not as a row that was dropped.
    """

    kind: str
    text: str
    is_bad: bool = True


Found = FoundRow | NoRow
Reader = Callable[[Entry], Iterator[Found]]


class Head(NamedTuple):
    """The begin of a file, by which its format is told.

    Attributes:
        shape: "array", "object" or "lines" of JSON, "text" or "table".
        keys: of the outermost object (as many as were read), or the columns of a table.
        first: its first entries: each its name in an object (or None), and its decoded value, line, or row as a dict.
        name: of the file, without its folder.
        inside: the outer member that the entries are in; None: the outermost array or object itself.
        fault: `line: why` the file cannot be read any further, or else why an entry cannot, where that is within its
            begin.
    """

    shape: str
    keys: tuple[str, ...]
    first: tuple[tuple[str | None, Any], ...]
    name: str = ""
    inside: str | None = None
    fault: str | None = None

    def objects(self) -> list[dict[str, Any]]:
        """The first entries that are JSON objects or rows of a table."""
        return [value for _, value in self.first if isinstance(value, dict)]

    def most(self, is_one: Callable[[Any], object]) -> bool:
        """Whether more than half of the first entries are such: a file of a form may have bad rows anywhere."""
        return 2 * sum(bool(is_one(value)) for _, value in self.first) > len(self.first)

    def have(self, *keys: str) -> bool:
        """Whether the first entries (as `most` counts) are objects with all of these keys."""
        return self.most(lambda value: isinstance(value, dict) and all(key in value for key in keys))


@dataclass(frozen=True, kw_only=True)
class Source:
    """A published format: how it is told, and how it is read.

    Attributes:
        title: the benchmarks that are published so.
        fits: whether a file that begins so is of this format.
        rows: the rows of one entry.
        loader: where the publisher's own code, or description, of the format is.
        seen: the real file that it was tried on; None: "not seen on the real file".
        inside: the names that lead to the container of the entries, where it is not the outermost one.
        beside: patterns of files in the same folder that hold durations, class names or questions, or of the folder of
            the videos, which tell their durations.
        by_name: a second way to read a form: taken where it is named, never told by a begin.
        needs_stem: whether the name of the file, or of the folders it is in, is part of its rows.
        groups: consecutive rows of the same video and query are several people's answers: one row is made of them.
    """

    title: str
    fits: Callable[[Head], bool]
    rows: Reader
    loader: str
    seen: str | None
    inside: tuple[str, ...] = ()
    beside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    by_name: bool = False
    needs_stem: bool = False
    groups: bool = False


def of_objects(rows: Callable[..., Iterator[Found]]) -> Callable[..., Iterator[Found]]:
    """A reader of entries that are JSON objects, or rows of a table: of any other entry there is no row."""

    @wraps(rows)
    def checked(entry: Entry, **options: Any) -> Iterator[Found]:
        if isinstance(entry.value, dict):
            yield from rows(entry, **options)
        else:
            yield NoRow("entry-format", f"{str(entry.value)[:60]} is not an object")

    return checked


def is_number(value: object) -> bool:
    """Whether a JSON value is a number that a float can hold: to Python a bool is one too, and 400 digits are."""
    if isinstance(value, float):
        return True
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def others(value: Mapping[str, Any], *known: str) -> dict[str, Any]:
    """The keys of an entry that no field of a row takes: its metadata."""
    return {key: content for key, content in value.items() if key not in known}
