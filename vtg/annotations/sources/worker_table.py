"""Answers of several people for each sentence, one a line: `HITId,video_id,description,start,end` (Otani et al.,
"Uncovering Hidden Challenges in Query-Based Video Moment Retrieval"). Times are percent of the video's duration.
"""

from collections.abc import Iterator

from vtg.annotations.sources.source_row import Entry, Found, FoundRow, Head

PERCENT = 100.0


def fits(head: Head) -> bool:
    return head.shape == "table" and {"HITId", "video_id", "description", "start", "end"} <= set(head.keys)


def rows(entry: Entry) -> Iterator[Found]:
    value = entry.value
    times = [value.get("start"), value.get("end")]
    yield FoundRow(
        video=value.get("video_id"),
        query=value.get("description"),
        spans=[number_in_table(time) for time in times],
        parts=PERCENT,
        metadata={"HITId": value.get("HITId")},
    )


def number_in_table(text: object) -> object:
    """A number where the text of a cell is one, else the text."""
    # A table holds text alone, so that reading it is no change to a row.
    try:
        return float(str(text))
    except ValueError:
        return text
