"""Files of any shape, compression and encoding as a stream of entries, and the begin of a file, by which it is told."""

import codecs
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import msgspec

from vtg.annotations import raw_rows
from vtg.annotations.row_checks import check
from vtg.annotations.sources.json_elements import BrokenFile, JsonElements
from vtg.annotations.sources.source_row import BadEntry, Entry, Head
from vtg.annotations.sources.table_entries import TABLES, table_entries

# Enough to tell formats apart whose entries differ in optional keys; a file's first rows are alike.
HEAD_ENTRIES = 10

# Text that is not UTF-8 is read so: what Windows and spreadsheets write in western languages.
OTHER_ENCODING = "cp1252"

CUT_OFF = (EOFError, zlib.error)
"""What reading a gzip file raises that is not whole."""

# Members of the outermost object that hold the entries of published files.
CONTAINERS = ("annotations", "database", "videos")

# An object with one of these is a row, even where it stands alone in its file.
ROW_KEYS = frozenset(
    (
        "video",
        "vid",
        "query",
        "qid",
        "video_id",
        "video_path",
        "path",
        "image_id",
        "messages",
        "conversations",
        "prediction",
    )
)


def entries(path: str, *, inside: tuple[str, ...] = ()) -> Iterator[Entry | BadEntry]:
    """Every entry of a file; a BadEntry for one that cannot be decoded.

    Raises:
        BrokenFile: the file cannot be read any further.
        OSError: it cannot be opened.
    """
    line = 1
    try:
        for entry in _entries(path, inside):
            line = entry.line
            yield entry
    except (*CUT_OFF, UnicodeError) as error:  # of gzip and UTF-16 that were cut off
        raise BrokenFile(line, f"ends in the middle ({error}); fetch it again") from None


def _entries(path: str, inside: tuple[str, ...]) -> Iterator[Entry | BadEntry]:
    shape = shape_of(path)
    if shape == "parquet":
        yield from _parquet_entries(path)
    elif shape == "table":
        yield from table_entries(path, _texts(path))
    elif shape == "text":
        for line, text in _lines(path):
            if text.strip():
                yield Entry(line, None, text.rstrip("\r\n"))
    elif shape == "lines":
        for line, raw in _raw_lines(path):
            yield (entry := _decoded(line, None, raw))
            # A row without its end is one bad row among others; without a line break after it the file ends there.
            is_cut = isinstance(entry, BadEntry) and entry.kind == "row-truncated"
            if is_cut and not raw.endswith(b"\n") and len(raw) < raw_rows.MAX_ROW_BYTES:
                raise BrokenFile(line, "ends in the middle of a row (cut off?); fetch it again")
    else:
        with opened(path) as file:
            for line, key, raw in JsonElements(file).elements(inside):
                yield _decoded(line, key, raw)


def head_of(path: str) -> Head:
    """How a file begins. Raises OSError when it cannot be opened; of a broken file what comes before the fault."""
    try:
        shape = shape_of(path)
    except CUT_OFF:
        return Head("text", (), (), os.path.basename(path))
    first, keys, inside, fault = list[tuple[str | None, Any]](), list[str](), None, None
    try:
        if shape in ("array", "object"):
            with opened(path) as file:
                keys, inside, raw = JsonElements(file).begin(CONTAINERS, HEAD_ENTRIES)
            first = [
                (entry.key, entry.value) for entry in (_decoded(1, *pair) for pair in raw) if isinstance(entry, Entry)
            ]
        else:
            for entry in islice(entries(path), HEAD_ENTRIES):
                if isinstance(entry, Entry):
                    first.append((None, entry.value))
                elif fault is None:
                    fault = f"{entry.line}: {entry.text}"
    except BrokenFile as error:
        fault = f"{error.line}: {error}"
    except CUT_OFF:
        pass
    if shape in ("table", "parquet"):
        shape, keys = "table", list(first[0][1]) if first else []
    return Head(shape, tuple(keys), tuple(first), os.path.basename(path), inside, fault)


def shape_of(path: str) -> str:
    """ "array" or "object" of JSON, "lines" of JSON objects, "text", "table" or "parquet"."""
    name = path.lower().removesuffix(".gz")
    if name.endswith(".parquet"):
        return "parquet"
    with opened(path) as file:
        begin = _begin(file).lstrip()
    if begin.startswith(b"["):
        # A line such as `[5.0, 7.0]` is an array as well; no published format has one.
        return "array"
    if begin.startswith(b"{"):
        return "lines" if _ends_on_its_line(begin) else "object"
    ending = os.path.splitext(name)[1]
    if ending in TABLES or (b"##" not in begin.split(b"\n", 1)[0] and b"," in begin.split(b"\n", 1)[0]):
        return "table"
    return "text"


def _begin(file: io.BufferedReader) -> bytes:
    """As much as tells a file's shape; of one that was cut off before, what there is."""
    begin = b""
    with suppress(*CUT_OFF):
        while len(begin) < raw_rows.CHUNK_BYTES and (more := file.read1(raw_rows.CHUNK_BYTES)):
            begin += more
    return begin


def _ends_on_its_line(begin: bytes) -> bool:
    """Whether the object at the begin of a file is one of several, each on a line of its own."""
    first, _, rest = begin.partition(b"\n")
    # Told by the next line, because the first one may be broken.
    if first.strip() != b"{" and rest.lstrip(b" \t\r\n").startswith(b'{"'):
        return True
    end = raw_rows.row_end(begin, 0)
    if end is None:
        return False
    return begin[end:].lstrip(b" \t\r\n,").startswith(b"{") or _is_row(begin[:end])


def _is_row(raw: bytes) -> bool:
    """Whether the only object of a file is a row rather than a document of rows."""
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    # A table's row of unusual columns has texts in it and no objects; a document of rows, or of durations, has neither.
    has_text = any(isinstance(inner, str) for inner in value.values())
    holds_rows = set(CONTAINERS) & set(value) or any(isinstance(inner, dict) for inner in value.values())
    return bool(ROW_KEYS & set(value)) or (has_text and not holds_rows)


def opened(path: str) -> io.BufferedReader:
    """A file's text in UTF-8 without a byte order mark, from gzip and UTF-16 too. Raises OSError."""
    file: Any = raw_rows.opened(path)
    if file.peek(2)[:2] == b"\x1f\x8b":
        file = io.BufferedReader(_Unzipped(gzip.GzipFile(fileobj=file)), raw_rows.CHUNK_BYTES)
    begin = file.peek(3)[:3]
    if begin.startswith(codecs.BOM_UTF8):
        file.read(len(codecs.BOM_UTF8))
    elif begin[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        text = io.TextIOWrapper(file, encoding="utf-16", newline="")
        return io.BufferedReader(_Recoded(text), raw_rows.CHUNK_BYTES)
    return file


class _Unzipped(io.RawIOBase):
    """What a gzip file holds, also that before the place where it was cut off, which `GzipFile.read` keeps back."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file = file
        self._fault: Exception | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if self._fault is not None:
            raise self._fault
        size = 0
        try:
            while size < len(buffer) and (found := self._file.read1(len(buffer) - size)):
                buffer[size : size + len(found)] = found
                size += len(found)
        except CUT_OFF as error:
            if not size:
                raise
            self._fault = error  # told when what came before it has been read
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


class _Recoded(io.RawIOBase):
    """Text of another encoding as UTF-8 bytes."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text, self._rest = text, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        self._rest = self._rest or self._text.read(1 << 16).encode("utf-8", "replace")
        taken, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)

    def close(self) -> None:
        self._text.close()
        super().close()


def _raw_lines(path: str) -> Iterator[tuple[int, bytes]]:
    with opened(path) as file:
        line = 0
        while raw := file.readline(raw_rows.MAX_ROW_BYTES):
            line += 1
            if not raw.isspace():
                yield line, raw
            while len(raw) == raw_rows.MAX_ROW_BYTES and not raw.endswith(b"\n"):
                raw = file.readline(raw_rows.MAX_ROW_BYTES)


def _lines(path: str) -> Iterator[tuple[int, str]]:
    for line, raw in _raw_lines(path):
        yield line, text_of(raw)


def text_of(raw: bytes) -> str:
    """Bytes as text: UTF-8, or else Windows-1252, which has a character for (nearly) every byte."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode(OTHER_ENCODING, "replace")


def _texts(path: str) -> Iterator[str]:
    with opened(path) as file:
        for raw in file:
            yield text_of(raw)


def _parquet_entries(path: str) -> Iterator[Entry]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    line = 0
    try:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=1024):
            for value in batch.to_pylist():
                line += 1
                yield Entry(line, None, value)
    except pa.ArrowException as error:
        raise BrokenFile(line + 1, f"is not a readable Parquet file ({error}); fetch it again") from None


def _decoded(line: int, key: str | None, raw: bytes) -> Entry | BadEntry:
    try:
        return Entry(line, key, msgspec.json.decode(raw))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        # NaN, which msgspec refuses and Python's json writes, and text that is no UTF-8: the values are checked later.
        return Entry(line, key, json.loads(text_of(raw)))
    except (ValueError, RecursionError):
        _, findings = check(raw)
        finding = findings[0] if findings else None
        text = finding.message if finding else "is not valid JSON; correct or drop it"
        return BadEntry(line, finding.kind if finding else "row-not-json", text)
