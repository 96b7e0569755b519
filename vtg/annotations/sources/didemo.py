"""DiDeMo: `[{"video": "…", "description": "…", "times": [[1, 1], [1, 2], …], "num_segments": 6, "annotation_id": 4}]`.

Times number pieces of five seconds, [first, last], one pair for every person who was asked. The row's span is the one
that agrees best with all; `annotators` keeps each in seconds. The files tell no duration: five or six pieces, the last
maybe shorter, and videos were cut to 30 s.
"""

from collections.abc import Iterator
from typing import Any

from vtg.annotations.sources.annotators import most_agreed
from vtg.annotations.sources.source_row import Change, Entry, Found, FoundRow, Head, NoRow, is_number, others

PIECE_S = 5.0
KNOWN = ("video", "description", "times", "annotation_id")


def fits(head: Head) -> bool:
    return head.shape in ("array", "lines") and head.have("video", "description", "times")


def rows(entry: Entry) -> Iterator[Found]:
    value = entry.value
    times: Any = value.get("times") if isinstance(value, dict) else None
    if not isinstance(times, list) or not times or not all(_is_pair(pair) for pair in times):
        yield NoRow("timestamp-format", f"times {str(times)[:60]} must be pairs of the numbers of pieces")
        return
    spans = [[first * PIECE_S, (last + 1) * PIECE_S] for first, last in times]
    found = FoundRow(
        video=value["video"],
        query=value["description"],
        spans=most_agreed(spans),
        qid=value.get("annotation_id"),
        annotators=spans,
        metadata=others(value, *KNOWN),
    )
    count = value.get("num_segments")
    if isinstance(count, int | float):
        found.duration_at_most = count * PIECE_S
    found.changes.append(Change("span-of-most", f"{times} → {found.spans}"))
    yield found


def _is_pair(pair: Any) -> bool:
    # A video has six pieces; the bound is for whole numbers that no float can hold.
    return isinstance(pair, list) and len(pair) == 2 and all(is_number(piece) and abs(piece) < 1e6 for piece in pair)
