"""TVGBench of Time-R1: `{"path": "./…/KWZSA.mp4", "question": "…", "answer": "13.4-28.1", "start": null, …}`.

(TimeRFT, which Time-R1 trains on, is in rows of vtg's own form.)
"""

from collections.abc import Iterator

from vtg.annotations.sources.source_row import Entry, Found, FoundRow, Head, of_objects, others
from vtg.annotations.sources.span_values import spans_of_text

KNOWN = ("path", "question", "answer", "start", "end", "duration")


def fits(head: Head) -> bool:
    return head.shape in ("array", "lines") and head.have("path", "question", "answer", "duration")


@of_objects
def rows(entry: Entry) -> Iterator[Found]:
    value = entry.value
    answer = value.get("answer")
    yield FoundRow(
        video=value.get("path"),
        query=value.get("question"),
        # The form writes spans as text, so that reading them is no change to a row.
        spans=spans_of_text(answer) or answer if isinstance(answer, str) else answer,
        duration=value.get("duration"),
        video_start=value.get("start"),
        video_end=value.get("end"),
        metadata=others(value, *KNOWN),
    )
