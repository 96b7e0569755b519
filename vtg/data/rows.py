"""A file of rows (JSON Lines, or one JSON array in any layout) split into raw rows, as a stream.

Only the split is done here: nothing is parsed, so a broken row costs no more than itself, and memory is bounded by the
longest row (at most `MAX_ROW_BYTES`), whatever the size of the file.

What is wrong with the file itself rather than with a row comes out as one of the marks below in place of a row. A mark
starts with a line break, as no row does, and is not valid JSON: a reader that decodes every row cannot miss one.
"""

import io
import re
from collections.abc import Iterator
from typing import BinaryIO

MAX_ROW_BYTES = 16 << 20
CHUNK_BYTES = 1 << 20

UNCLOSED = b"\nthe file ends inside its array"
COMMA = b"\nno comma between two rows of an array, or too many"
AFTER_END = b"\ntext after the end of the array"
ONE_OBJECT = b"\nthe file is one JSON object over several lines"
UTF_16 = b"\nUTF-16 text"
GZIP = b"\ngzip data"

_SIGNATURES = {b"\xff\xfe": UTF_16, b"\xfe\xff": UTF_16, b"\x1f\x8b": GZIP}
_BOM = b"\xef\xbb\xbf"
_GAP = re.compile(rb"[\s,]*+")
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
# An object without another inside it, in one go; only a speed-up, `_TOKEN` finds the end of any row.
_FLAT_OBJECT = re.compile(rb'\{(?:[^"{}]++|' + _STRING + rb")*+\}", re.DOTALL)
_TOKEN = re.compile(_STRING + rb'|["\[\]{}]', re.DOTALL)
_SCALAR = re.compile(rb'[^\s,"\[\]{}]++')


def raw_rows(path: str) -> Iterator[tuple[int, bytes]]:
    """Yields (line, raw row): the row's text as it stands in the file, and the line, from 1, on which it starts.

    Blank lines, a byte order mark and Windows line ends are passed over. A row longer than `MAX_ROW_BYTES` comes out
    cut off at that length. Raises OSError when the file cannot be read.
    """
    with io.BufferedReader(io.FileIO(path), CHUNK_BYTES) as file:
        head = file.peek(3)
        if mark := _SIGNATURES.get(head[:2]):
            yield 1, mark
            return
        if head.startswith(_BOM):
            file.read(len(_BOM))
        line = 1
        while (first := file.peek(1)[:1]).isspace():
            line += file.read(1) == b"\n"
        if first == b"[":
            file.read(1)
            yield from _array_rows(file, line)
        else:
            yield from _line_rows(file, line)


def _line_rows(file: BinaryIO, line: int) -> Iterator[tuple[int, bytes]]:
    raw = file.readline(MAX_ROW_BYTES)
    if raw.strip() == b"{":
        yield line, ONE_OBJECT
        return
    while raw:
        if not raw.isspace():
            yield line, raw
        while len(raw) == MAX_ROW_BYTES and not raw.endswith(b"\n"):
            raw = file.readline(MAX_ROW_BYTES)
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
        while (end := _row_end(buffer, position)) is None:
            pending = len(buffer) - position
            more = file.read(max(CHUNK_BYTES, pending)) if pending < MAX_ROW_BYTES else b""
            if not more:
                yield line, buffer[position : position + MAX_ROW_BYTES]
                return
            buffer, position = buffer[position:] + more, 0
        yield line, buffer[position:end]
        line += buffer.count(b"\n", position, end)
        position, commas, wanted = end, 0, 1
    if (buffer[position + 1 :] + file.read(CHUNK_BYTES)).strip():
        yield line, AFTER_END


def _gap_end(buffer: bytes, position: int) -> int:
    gap = _GAP.match(buffer, position)
    assert gap is not None  # it also matches nothing at all
    return gap.end()


def _row_end(buffer: bytes, position: int) -> int | None:
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
