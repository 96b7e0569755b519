"""Rows without a fault, which most are, read in one step: decoded into their types, and told to be clean.

`is_clean` never calls a row clean in which `row_checks.check` finds something; tests hold the two together.
"""

import re
from collections.abc import Callable
from typing import Any, cast

import msgspec

from vtg.annotations.row_checks import EDGE_S, KEYS, MAX_DURATION_S, TRIM_TOLERANCE_S
from vtg.video.files import address

# Each new set of keys makes a class and a decoder; a file whose rows have keys of their own each is checked slowly.
MAX_LEARNED_KEYS = 64
# msgspec refuses quotes, backslashes and control characters in the names of fields.
_PLAIN_KEY = re.compile(r"[\w .:/-]+", re.ASCII)


class DecodedRow(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A row as the fast path reads it; its types are those of `row_checks.check`."""

    video: str
    duration: float
    timestamp: list[float | tuple[float, float]]
    sentence: str
    qid: str | int | None = None
    video_start: float | None = None
    video_end: float | None = None
    difficulty: float | None = None
    pred: tuple[float, float] | None = None


class RowDecoder:
    """Decodes raw rows to `DecodedRow`, metadata keys included once it has learned them.

    Metadata is decoded too, for what is wrong in it loses the row as well. An unknown key is an error to `decode`: the
    row then goes to `row_checks.check`, and `learn` makes its keys known, unless they are too many or too odd.
    """

    def __init__(self) -> None:
        self._metadata: tuple[str, ...] = ()
        self.decode: Callable[[bytes], DecodedRow] = msgspec.json.Decoder(DecodedRow).decode

    @property
    def learned(self) -> tuple[str, ...]:
        """The metadata keys that it knows."""
        return self._metadata

    def learn(self, row: dict[str, Any]) -> None:
        """Makes the keys of a row known to `decode`."""
        new = [key for key in row if key not in KEYS and key not in self._metadata]
        if not new or len(self._metadata) + len(new) > MAX_LEARNED_KEYS or not all(map(_PLAIN_KEY.fullmatch, new)):
            return
        self._metadata += tuple(new)
        fields = [
            (f"metadata_{index}", Any, msgspec.field(default=msgspec.UNSET, name=key))
            for index, key in enumerate(self._metadata)
        ]
        wider = msgspec.defstruct("DecodedRow", fields, bases=(DecodedRow,), gc=False, forbid_unknown_fields=True)
        self.decode = cast(Callable[[bytes], DecodedRow], msgspec.json.Decoder(wider).decode)

    def metadata(self, row: DecodedRow) -> dict[str, Any]:
        """What a row that `decode` gave holds beside `KEYS`."""
        names = row.__struct_fields__[len(KEYS) :]
        values = zip(self._metadata, (getattr(row, name) for name in names), strict=False)
        return {key: value for key, value in values if value is not msgspec.UNSET}


def _is_inside(start: float, end: float, duration_s: float) -> bool:
    """Whether a span has no finding; if it leaves the clip, then by no more than `EDGE_S`."""
    if not -EDGE_S <= start < end <= duration_s + EDGE_S:
        return False
    return start < duration_s and end > 0 and (start > 0 or end < duration_s)


def is_clean(row: DecodedRow) -> bool:
    """Whether a decoded row has neither error nor warning; False when in doubt."""
    duration_s, times, video, sentence = row.duration, row.timestamp, row.video, row.sentence
    if not 0 < duration_s <= MAX_DURATION_S:
        return False
    # One span, which most rows have, is told first, and by `type`: this runs for each of millions of rows.
    if len(times) == 2 and type(start := times[0]) is float and type(end := times[1]) is float:
        if not _is_inside(start, end, duration_s):
            return False
    else:
        for span in times:
            if isinstance(span, float | int) or not _is_inside(span[0], span[1], duration_s):
                return False
    first, last = row.video_start, row.video_end
    if (first is not None or last is not None) and (
        first is None or last is None or not 0 <= first < last or abs(last - first - duration_s) > TRIM_TOLERANCE_S
    ):
        return False
    if row.difficulty is not None and not 0 <= row.difficulty <= 100:
        return False
    # `row_checks.check` refuses empty and blank text.
    return bool(video and sentence and not video.isspace() and not sentence.isspace()) and (
        "\0" not in video and row.qid != "" and address.fault(video) is None
    )
