"""A file of rows (JSON Lines, or one JSON array in any layout) split into raw rows, as a stream.

Only the split is done here: nothing is parsed, so a broken row costs no more than itself (unless it leaves a brace or a
string of an array open: then nothing tells where the next begins), and memory is bounded by the longest row (at most
`MAX_ROW_BYTES`), whatever the size of the file. Why not ijson: docs/decisions.md.

What is wrong with the file itself rather than with a row comes out as one of the marks below in place of a row. A mark
starts with a line break, as no row does, and is not valid JSON: a reader that decodes every row cannot miss one.
"""

import errno
import io
import logging
import os
import re
import select
import stat
from collections.abc import Iterator
from typing import BinaryIO

log = logging.getLogger(__name__)

# A row of an ordinary file takes a few hundred bytes; a hundred thousand times as much is rows without line breaks
# between them, or metadata that belongs elsewhere.
MAX_ROW_BYTES = 16 << 20
CHUNK_BYTES = 1 << 20

# After so much without a row, or without the end of one, a file is no file of rows; a pipe may never end.
MAX_SKIPPED_BYTES = 1 << 30

# A pipe from which nothing comes: when it is said what is waited for, and when it is waited for no longer.
NOTE_S, WAIT_S = 5.0, 300.0

UNCLOSED = b"\nthe file ends inside its array"
COMMA = b"\nno comma between two rows of an array, or too many"
AFTER_END = b"\ntext after the end of the array"
ONE_OBJECT = b"\nthe file is one JSON object over several lines"
NO_ROWS = b"\nno row ends within the first or the next GiB"
UTF_16 = b"\nUTF-16 text"
GZIP = b"\ngzip data"
PARQUET = b"\na Parquet table"

FAULTS = {
    UNCLOSED: ("truncated", "ends inside its array (cut off?); fetch it again, or add ]"),
    COMMA: ("comma", "needs exactly one comma between two rows; correct it here"),
    AFTER_END: ("after-end", "goes on after its array; keep one array, or one row a line"),
    ONE_OBJECT: ("one-object", "is one JSON object, not rows; README.md, 'Your own data', shows a row"),
    NO_ROWS: (
        "no-rows",
        f"holds no row that ends within {MAX_SKIPPED_BYTES >> 30} GiB; name a file of JSON rows",
    ),
    UTF_16: ("encoding", "is UTF-16 text, not UTF-8 JSON; turn it into plain UTF-8 text first"),
    GZIP: ("encoding", "is gzip data, not UTF-8 JSON; turn it into plain UTF-8 text first"),
    PARQUET: (
        "table",
        "is a Parquet table, not JSON rows; name its form (molmo2:FILE, pixmo:FILE), or make rows of it: python -m "
        "vtg.convert FILE --columns video=NAME,… -o ROWS.jsonl",
    ),
}
"""What is wrong with a file itself, by its mark: kind, and what to do."""

_SIGNATURES = {b"\xff\xfe": UTF_16, b"\xfe\xff": UTF_16, b"\x1f\x8b": GZIP, b"PAR1": PARQUET}
_BOM = b"\xef\xbb\xbf"
# Possessive throughout (`*+`, `++`): what matched is not tried again in parts, which would take quadratic time in a
# long run of blanks or in a string that does not end.
_GAP = re.compile(rb"[\s,]*+")
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
# An object without another inside it, in one go; only a speed-up, `_TOKEN` finds the end of any row.
_FLAT_OBJECT = re.compile(rb'\{(?:[^"{}]++|' + _STRING + rb")*+\}", re.DOTALL)
_TOKEN = re.compile(_STRING + rb'|["\[\]{}]', re.DOTALL)
_SCALAR = re.compile(rb'[^\s,"\[\]{}]++')
_IN_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_STRUCTURE = re.compile(rb'["\[\]{}]')
_NO_SCALAR = re.compile(rb'[\s,"\[\]{}]')


def raw_rows(path: str) -> Iterator[tuple[int, bytes]]:
    """Yields (line, raw row): the row's text as it stands in the file, and the line, from 1, on which it starts.

    Blank lines, a byte order mark and Windows line ends are passed over. A row longer than `MAX_ROW_BYTES` comes out
    cut off at that length. Raises OSError when the file cannot be read, is a device, or is a pipe that stays silent.
    """
    with opened(path) as file:
        head = file.peek(4)
        if mark := next((mark for start, mark in _SIGNATURES.items() if head.startswith(start)), None):
            yield 1, mark
            return
        if head.startswith(_BOM):
            file.read(len(_BOM))
        line, skipped, rest = 1, 0, b""
        while (chunk := file.peek(1)) and not (rest := chunk.lstrip()):
            line += chunk.count(b"\n")
            skipped += len(file.read(len(chunk)))
            if skipped > MAX_SKIPPED_BYTES:
                yield line, NO_ROWS
                return
        line += file.read(len(chunk) - len(rest)).count(b"\n")
        if rest.startswith(b"["):
            file.read(1)
            yield from _array_rows(file, line)
        else:
            yield from _line_rows(file, line)


class NotRows(OSError):
    """A path from which no rows can be read, said without the number that a system has for it."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


class RowsOfLines:
    """Counts the rows that start on each line, as they are read: in a compact array all start on the first."""

    def __init__(self) -> None:
        self._line = self._count = 0

    def nth(self, line: int, raw: bytes) -> int:
        """Which of the rows that start on its line this one is, from 1; a mark is no row, and counts as the first."""
        if raw.startswith(b"\n"):
            return 1
        self._count = self._count + 1 if line == self._line else 1
        self._line = line
        return self._count


def row_at(line: int, nth: int) -> str:
    """What a row is called after the line it starts on: `17`, and `17[2]` for the second that starts there."""
    return str(line) if nth == 1 else f"{line}[{nth}]"


def opened(path: str) -> io.BufferedReader:
    """A file of text, or a pipe, to be read from its start.

    Raises:
        OSError: it is not there, is a device (`/dev/zero` never ends), or, while it is read, a pipe that stays silent.
    """
    # Without waiting: a named pipe would be waited for until somebody writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISDIR(mode):
        os.close(descriptor)
        what = "is a folder" if stat.S_ISDIR(mode) else "is a device"
        raise NotRows(errno.EINVAL, f"{what}, not a file of rows", path)
    os.set_blocking(descriptor, True)
    file = io.FileIO(descriptor)
    return io.BufferedReader(file if stat.S_ISREG(mode) else _Pipe(file, path), CHUNK_BYTES)


class _Pipe(io.RawIOBase):
    """A pipe that is waited for no longer than `WAIT_S` at a time."""

    def __init__(self, file: io.FileIO, path: str) -> None:
        self.file, self.path = file, path

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.file.fileno()

    def close(self) -> None:
        self.file.close()
        super().close()

    def readinto(self, buffer, /) -> int | None:
        if not self._has_something(NOTE_S):
            log.warning("%s: a pipe, and nothing has come through it yet: waiting for its rows", self.path)
            if not self._has_something(WAIT_S - NOTE_S):
                text = f"a pipe through which nothing has come for {WAIT_S:.10g} s; write rows to it, or name a file"
                raise NotRows(errno.ETIMEDOUT, text, self.path)
        return self.file.readinto(buffer)

    def _has_something(self, timeout_s: float) -> bool:
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return bool(poll.poll(max(0.0, timeout_s) * 1000))


def _line_rows(file: BinaryIO, line: int) -> Iterator[tuple[int, bytes]]:
    raw = file.readline(MAX_ROW_BYTES)
    # An object printed over several lines, each of which alone would be told as a broken row.
    if raw.strip() == b"{":
        yield line, ONE_OBJECT
        return
    while raw:
        if not raw.isspace():
            yield line, raw
        skipped = 0
        while len(raw) == MAX_ROW_BYTES and not raw.endswith(b"\n"):
            raw = file.readline(MAX_ROW_BYTES)
            skipped += len(raw)
            if skipped > MAX_SKIPPED_BYTES:
                yield line, NO_ROWS
                return
        line += 1
        raw = file.readline(MAX_ROW_BYTES)


def _array_rows(file: BinaryIO, line: int) -> Iterator[tuple[int, bytes]]:
    """The elements of the array whose opening bracket has just been read."""
    buffer, position, commas, wanted = b"", 0, 0, 0
    while True:
        gap_end = _gap_end(buffer, position)
        commas += buffer.count(b",", position, gap_end)
        line += buffer.count(b"\n", position, gap_end)
        position = gap_end
        if position == len(buffer):
            buffer, position = file.read(CHUNK_BYTES), 0
            if not buffer:
                yield line, UNCLOSED
                return
            continue
        closes = buffer.startswith(b"]", position)
        if commas != (0 if closes else wanted):
            yield line, COMMA
        if closes:
            break
        while (end := row_end(buffer, position)) is None:
            pending = len(buffer) - position
            # As much again each time: the row is searched anew from its start, which equal steps would make quadratic.
            more = file.read(max(CHUNK_BYTES, pending)) if pending < MAX_ROW_BYTES else b""
            if not more:
                break
            buffer, position = buffer[position:] + more, 0
        yield line, buffer[position:end][:MAX_ROW_BYTES]
        if end is None:
            past = _past_row(file, buffer, position)
            if past is None:
                return
            buffer, end, lines = past
            line += lines
        else:
            line += buffer.count(b"\n", position, end)
        position, commas, wanted = end, 0, 1
    if (buffer[position + 1 :] + file.read(CHUNK_BYTES)).strip():
        yield line, AFTER_END


def _gap_end(buffer: bytes, position: int) -> int:
    gap = _GAP.match(buffer, position)
    assert gap is not None  # it also matches nothing at all
    return gap.end()


def _past_row(file: BinaryIO, buffer: bytes, position: int) -> tuple[bytes, int, int] | None:
    """Reads to the end of an element that is too long to be held: what was read last, where the element ends in it, and
    the line ends within the element; None if the file ends before."""
    is_scalar = buffer[position : position + 1] not in (b'"', b"[", b"{")
    depth, in_string, lines, skipped = 0, False, 0, 0
    at = begin = position
    while True:
        if in_string:
            inside = _IN_STRING.match(buffer, at)
            assert inside is not None  # it also matches nothing at all
            at = inside.end()
            is_token = at < len(buffer) and buffer[at : at + 1] == b'"'  # else the end, or half an escape before it
            at, in_string = (at + 1, False) if is_token else (at, True)
        else:
            token = (_NO_SCALAR if is_scalar else _STRUCTURE).search(buffer, at)
            is_token = token is not None
            if token is None:
                at = len(buffer)
            elif is_scalar:
                return buffer, token.start(), lines + buffer.count(b"\n", begin, token.start())
            else:
                at, in_string = token.end(), token[0] == b'"'
                depth += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(token[0], 0)
        if is_token and depth <= 0 and not in_string:
            return buffer, at, lines + buffer.count(b"\n", begin, at)
        if not is_token:
            lines += buffer.count(b"\n", begin, at)
            more = file.read(CHUNK_BYTES)
            skipped += len(more)
            if not more or skipped > MAX_SKIPPED_BYTES:
                return None
            buffer, at, begin = buffer[at:] + more, 0, 0


def row_end(buffer: bytes, position: int) -> int | None:
    """Where the array element that starts at `position` ends; None if it is not all in the buffer."""
    if flat := _FLAT_OBJECT.match(buffer, position):
        return flat.end()
    if scalar := _SCALAR.match(buffer, position):
        return scalar.end() if scalar.end() < len(buffer) else None
    depth = 0
    for token in _TOKEN.finditer(buffer, position):
        match token[0]:
            case b'"':
                return None  # a string that goes on after the buffer
            case b"{" | b"[":
                depth += 1
            case b"}" | b"]":
                depth -= 1
        if depth <= 0:
            return token.end()
    return None
