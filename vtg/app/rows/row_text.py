"""The text of a row: read as far as it can be, and changed value by value, the others staying as they were given."""

from collections.abc import Mapping
from typing import Any

import msgspec

from vtg.annotations.row_checks import KEYS
from vtg.errors import SampleError

Span = tuple[float, float]

# Of an edited row: what is typed into a page is far shorter, and a journal holds each edit.
MAX_EDITED_BYTES = 1 << 20

# What a float can hold, and be added to another.
MOST = 1e300

SOURCE_KEYS = ("source", "data_source", "dataset")
"""Metadata by which published files name the data set of a row, the first that a row has."""

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def parsed(raw: bytes) -> dict[str, Any] | None:
    """The row of a text; None where it is no JSON object."""
    try:
        row = msgspec.json.decode(raw)
    except _UNREADABLE:
        return None
    return row if isinstance(row, dict) else None


def open_row(video: str) -> bytes:
    """The row of a video that nobody has annotated."""
    return msgspec.json.encode({"video": video, "sentence": ""})


def is_open(raw: bytes) -> bool:
    """Whether a row asks nothing yet and has no moments: it is a place to write one."""
    row = parsed(raw)
    return row is not None and row.get("timestamp") is None and not text_of(row, "sentence").strip()


def text_of(row: Mapping[str, Any], key: str) -> str:
    """The text under a key; empty where it is missing or something else."""
    value = row.get(key)
    return value if isinstance(value, str) else ""


def seconds_of(row: Mapping[str, Any], key: str) -> float | None:
    """The number under a key; None where it is missing or something else."""
    return float(row[key]) if _is_number(row.get(key)) else None


def spans_in(row: Mapping[str, Any], key: str = "timestamp") -> list[Span]:
    """The moments under a key, also of a row with faults: what is no pair of numbers is left out."""
    value = row.get(key)
    pairs = value if isinstance(value, list) else []
    if len(pairs) == 2 and not any(isinstance(pair, list) for pair in pairs):
        pairs = [pairs]
    return [
        (float(pair[0]), float(pair[1]))
        for pair in pairs
        if isinstance(pair, list) and len(pair) == 2 and _is_number(pair[0]) and _is_number(pair[1])
    ]


def source_of(row: Mapping[str, Any], path: str) -> str:
    """What a row comes from: the data set that its metadata name, else its file."""
    return next((row[key] for key in SOURCE_KEYS if isinstance(row.get(key), str) and row[key]), path)


def with_values(raw: bytes, values: Mapping[str, Any]) -> bytes:
    """The row with other values under some of `KEYS`; None removes a key.

    Every other value is written as it was given, numbers to the last digit.

    Raises:
        SampleError: the text is no JSON object, or a key is none of those.
    """
    if unknown := [key for key in values if key not in KEYS]:
        raise SampleError(f"{unknown[0]!r} is no key that is edited here ({', '.join(KEYS)}); edit the row's text")
    if parsed(raw) is None:
        raise SampleError("this row is no JSON object; mend its text first")
    row = msgspec.json.decode(one_line(raw), type=dict[str, msgspec.Raw])
    for key, value in values.items():
        if value is None:
            row.pop(key, None)
        else:
            row[key] = msgspec.Raw(msgspec.json.encode(_plain(key, value)))
    return _bounded(msgspec.json.encode(row))


def mended(text: str) -> bytes:
    """A row whose text was typed. Raises SampleError where that is no JSON object."""
    raw = text.encode("utf-8", "backslashreplace")
    try:
        row = msgspec.json.decode(raw)
    except _UNREADABLE as error:
        raise SampleError(
            f"the text is no JSON ({error}); nothing was changed: correct it, and keep it again"
        ) from None
    if not isinstance(row, dict):
        raise SampleError("the text must be a JSON object, {…}; nothing was changed")
    return _bounded(one_line(raw))


def one_line(raw: bytes) -> bytes:
    """The text of a row as a line of a JSONL file holds it."""
    raw = raw.strip()
    if b"\n" not in raw and b"\r" not in raw:
        return raw
    if parsed(raw) is None:  # a broken row of an array over several lines: blanks between, as line breaks are in JSON
        return raw.replace(b"\r", b" ").replace(b"\n", b" ")
    return msgspec.json.format(raw, indent=-1)


def _plain(key: str, value: Any) -> Any:
    """A value from a page. Raises SampleError for numbers and text that no JSON file holds."""
    if isinstance(value, list):
        return [_plain(key, item) for item in value]
    if isinstance(value, float | int) and not abs(value) < MOST:  # so that NaN fails too
        raise SampleError(f"{key}: {str(value)[:40]} is no number of seconds; nothing was changed")
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise SampleError(f"{key}: has half a character, which no UTF-8 file holds; type it again")
    return value


def _bounded(raw: bytes) -> bytes:
    if len(raw) > MAX_EDITED_BYTES:
        raise SampleError(
            f"the row would be {len(raw):,} bytes long, more than {MAX_EDITED_BYTES:,}; nothing was changed"
        )
    return raw


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST
