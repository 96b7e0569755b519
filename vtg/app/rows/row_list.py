"""Rows in their order, edited one step at a time; every step can be undone, and steps can be played again.

A step is a JSON object, as a journal keeps it:

    {"replace": KEY, "row": TEXT}   {"insert": KEY, "at": PLACE, "row": TEXT}   {"delete": KEY}
    {"undo": 1}                     {"redo": 1}

and, the only one that is no edit and cannot be undone, `{"extend": [TEXT, …]}`: rows that a later start found to add.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

WRITTEN, ADDED = "written here", "not annotated yet"
"""Places of rows that were read from no file."""


@dataclass(frozen=True, slots=True)
class Row:
    """`key`: what the row is called while it is edited; `place`: where it was read, path:line, or how it came to be."""

    key: int
    raw: bytes
    place: str


@dataclass(frozen=True, slots=True)
class _Change:
    """From one row to another at a place of the order; None: there is none before, or after."""

    at: int
    before: Row | None
    after: Row | None


class RowList:
    """Rows by key and in order. `revision` counts the steps, those that undo included: it never comes twice."""

    def __init__(self, rows: Iterable[tuple[bytes, str]]) -> None:
        """`rows`: (text, place) of each."""
        self._rows = {key: Row(key, raw, place) for key, (raw, place) in enumerate(rows)}
        self._order = list(self._rows)
        self._given = dict(self._rows)
        self._changes: list[_Change] = []
        self._done = 0  # changes before are in the rows, those behind were undone
        self.next_key = len(self._rows)
        self.revision = 0

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Row]:
        return (self._rows[key] for key in self._order)

    def __getitem__(self, key: int) -> Row:
        """Raises KeyError for a row that is not there, or no longer."""
        return self._rows[key]

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def at(self, place: int) -> Row:
        """The row at a place of the order, from 0. Raises IndexError."""
        return self._rows[self._order[place]]

    def place_of(self, key: int) -> int:
        """The place of a row in the order, from 0. Raises ValueError."""
        # Most files are looked at in the order in which they were read.
        if key < len(self._order) and self._order[key] == key:
            return key
        return self._order.index(key)

    def given(self) -> Iterable[Row]:
        """The rows before any edit."""
        return self._given.values()

    def is_edited(self, row: Row) -> bool:
        """Whether a row is not, or no longer, as it was given."""
        return self._given.get(row.key) is not row

    @property
    def can_undo(self) -> bool:
        return self._done > 0

    @property
    def can_redo(self) -> bool:
        return self._done < len(self._changes)

    def play(self, step: Mapping[str, Any]) -> int:
        """Takes a step; returns the key of the row that it is about, or of the one now in its place (-1: none).

        Raises:
            LookupError, ValueError: a step that these rows do not allow; nothing is changed then.
        """
        if "extend" in step:
            # At the end, where no change that is undone later has a place before them.
            for text in step["extend"]:
                row = Row(self.next_key, text.encode(), ADDED)
                self._given[row.key] = row
                self._put(len(self._order), None, row)
            return -1
        if "undo" in step:
            if not self.can_undo:
                raise LookupError("nothing to undo")
            change = self._changes[self._done - 1]
            row = self._put(change.at, change.after, change.before)
            self._done -= 1
        elif "redo" in step:
            if not self.can_redo:
                raise LookupError("nothing to redo")
            change = self._changes[self._done]
            row = self._put(change.at, change.before, change.after)
            self._done += 1
        else:
            change = self._change(step)
            row = self._put(change.at, change.before, change.after)
            self._changes[self._done :] = [change]
            self._done += 1
        self.revision += 1
        return row

    def _change(self, step: Mapping[str, Any]) -> _Change:
        if "insert" in step:
            key, at = step["insert"], step["at"]
            if key < self.next_key or not 0 <= at <= len(self._order):
                raise ValueError(f"no row {key} can be inserted at {at}")
            return _Change(at, None, Row(key, step["row"].encode(), WRITTEN))
        before = self._rows[step["replace" if "replace" in step else "delete"]]
        after = Row(before.key, step["row"].encode(), before.place) if "replace" in step else None
        return _Change(self.place_of(before.key), before, after)

    def _put(self, at: int, before: Row | None, after: Row | None) -> int:
        if before is not None and after is None:
            del self._order[at], self._rows[before.key]
            return self._order[min(at, len(self._order) - 1)] if self._order else -1
        assert after is not None
        if before is None:
            self._order.insert(at, after.key)
            self.next_key = max(self.next_key, after.key + 1)
        self._rows[after.key] = after
        return after.key
