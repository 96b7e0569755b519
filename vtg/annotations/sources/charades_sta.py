"""Charades-STA as text: `AO8RW 0.0 6.9##a person is putting a book on a shelf.`, one moment a line, no durations."""

import re
from collections.abc import Iterator

from vtg.annotations.sources.source_row import Entry, Found, FoundRow, Head, NoRow

# Ids of other sets in this form may have dots or dashes; only blanks and the two marks part the fields.
_MOMENT = re.compile(r"\s*(\S+)\s+(\S+)\s+(\S+)\s*##\s*(.*?)\s*", re.DOTALL)


def fits(head: Head) -> bool:
    return head.shape == "text" and head.most(_MOMENT.fullmatch)


def rows(entry: Entry) -> Iterator[Found]:
    moment = _MOMENT.fullmatch(entry.value)
    if moment is None:
        yield NoRow("line-format", f"{entry.value[:60]!r} is not `VIDEO START END##sentence`")
        return
    video, start, end, sentence = moment.groups()
    # Times are text in this form, so that they are turned into numbers here: that is no change to a row.
    try:
        span: list[object] = [float(start), float(end)]
    except ValueError:
        span = [start, end]
    yield FoundRow(video=video, query=sentence, spans=span)
