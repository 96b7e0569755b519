"""The elements of a container within a JSON document, as a stream: nothing but the element at hand is held.

`raw_rows` does this for one array of rows. Published files are as often one object of named members, or hold their rows
further inside (`{"annotations": […]}`); a million rows of them must not be decoded at once either. Why not ijson:
docs/decisions.md.
"""

from collections.abc import Collection, Iterator
from contextlib import suppress
from io import BufferedReader
from itertools import islice

import msgspec

from vtg.annotations.raw_rows import CHUNK_BYTES, MAX_ROW_BYTES, row_end

_BLANK = b" \t\r\n"


class BrokenFile(ValueError):
    """The file itself is broken at a line; what came before it is good."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


class JsonElements:
    """Walks through one JSON document in order.

    Args:
        file: UTF-8 bytes without a byte order mark.
    """

    def __init__(self, file: BufferedReader) -> None:
        self.line = 1
        self._file, self._buffer, self._at = file, b"", 0

    def elements(self, inside: tuple[str, ...]) -> Iterator[tuple[int, str | None, bytes]]:
        """(line, name in an object or None, raw value) of each element of the container that the names lead to.

        An empty `inside` is the outermost array or object.

        Raises:
            BrokenFile: the document ends early, or is none.
        """
        opens = self._next()
        if opens not in (b"{", b"["):
            raise BrokenFile(self.line, "is neither a JSON object nor an array")
        yield from self._container(inside)
        if self._next():
            raise BrokenFile(self.line, "goes on after its end; keep one JSON document, or one row a line")

    def begin(
        self, containers: Collection[str], count: int
    ) -> tuple[list[str], str | None, list[tuple[str | None, bytes]]]:
        """The first elements of the outermost container, or of a member of it that is one of `containers`.

        Gives the outer names that were passed, the member that holds the elements (None: the outermost), and the
        elements as (name, raw value); where the document is broken, those before.
        """
        opens = self._take()
        names, inside, found = list[str](), None, list[tuple[str | None, bytes]]()
        with suppress(BrokenFile):
            while len(found) < count and self._next() not in (b"}", b"]", b""):
                if names or found:
                    self._take()  # the comma; where it is missing `elements` says so
                name = self._name() if opens == b"{" else None
                names += [] if name is None else [name]
                if name in containers and self._next() in (b"{", b"["):
                    inside, found = name, []
                    for _, key, raw in islice(self._container(()), count):
                        found.append((key, raw))
                    break
                found.append((name, self._value()))
        return names, inside, found

    def _container(self, inside: tuple[str, ...]) -> Iterator[tuple[int, str | None, bytes]]:
        opens = self._take()
        closes = b"}" if opens == b"{" else b"]"
        first = True
        while (mark := self._next()) != closes:
            if not first:
                if mark != b",":
                    raise BrokenFile(self.line, self._fault(mark, f"needs a comma or {closes.decode()} here"))
                self._take()
                if self._next() == closes:
                    raise BrokenFile(self.line, "has a comma after the last element; remove it")
            first = False
            line, name = self.line, self._name() if opens == b"{" else None
            if not inside:
                yield line, name, self._value()
            elif inside[0] == name and self._next() in (b"{", b"["):
                yield from self._container(inside[1:])
            else:
                self._skip()
        self._take()

    def _skip(self) -> None:
        """Passes over a value, however long."""
        if self._next() in (b"{", b"["):
            for _ in self._container(()):
                pass
        else:
            self._value()

    def _name(self) -> str:
        if self._next() != b'"':
            raise BrokenFile(self.line, self._fault(self._next(), "needs the name of a member in quotes here"))
        try:
            name = msgspec.json.decode(self._value(), type=str)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BrokenFile(self.line, f"has a name that is not JSON: {error}") from None
        if (mark := self._next()) != b":":
            raise BrokenFile(self.line, self._fault(mark, f"needs a colon after {name[:40]!r}"))
        self._take()
        return name

    def _value(self) -> bytes:
        if self._next() in (b"", b",", b":", b"}", b"]"):
            raise BrokenFile(self.line, self._fault(self._next(), "needs a value here"))
        while (end := row_end(self._buffer, self._at)) is None:
            pending = len(self._buffer) - self._at
            if pending > MAX_ROW_BYTES:
                raise BrokenFile(self.line, f"has an element of more than {MAX_ROW_BYTES >> 20} MiB; part it")
            # As much again each time: the element is searched anew from its start.
            more = self._file.read1(max(CHUNK_BYTES, pending))
            if not more:
                # A number at the very end of the document has nothing after it to end at.
                raise BrokenFile(self.line, "ends in the middle (cut off?); fetch it again")
            self._buffer, self._at = self._buffer[self._at :] + more, 0
        raw = self._buffer[self._at : end]
        self.line += raw.count(b"\n")
        self._at = end
        return raw

    def _next(self) -> bytes:
        """The next character that is not blank, not taken; empty at the end of the file."""
        while True:
            rest = self._buffer[self._at : self._at + 4096]
            stripped = rest.lstrip(_BLANK)
            self.line += rest[: len(rest) - len(stripped)].count(b"\n")
            self._at += len(rest) - len(stripped)
            if stripped:
                return stripped[:1]
            if self._at >= len(self._buffer):
                self._buffer, self._at = self._file.read1(CHUNK_BYTES), 0
                if not self._buffer:
                    return b""

    def _take(self) -> bytes:
        mark = self._next()
        self._at += 1
        return mark

    @staticmethod
    def _fault(mark: bytes, wanted: str) -> str:
        found = f", not {mark.decode(errors='replace')!r}; correct it" if mark else ": the file ends (cut off?)"
        return wanted + found
