"""VUE-TR and its second version (Vidi): `[{"query_id": 0, "video_id": "…", "duration": 9, "query": "…",
"gt": [[1, 2]]}]`.
"""

from collections.abc import Iterator

from vtg.annotations.sources.source_row import Entry, Found, FoundRow, Head, of_objects, others

KNOWN = ("query_id", "video_id", "duration", "query", "gt", "timestamps")


def fits(head: Head) -> bool:
    return head.shape in ("array", "lines") and head.have("query_id", "video_id", "query", "gt")


@of_objects
def rows(entry: Entry) -> Iterator[Found]:
    value = entry.value
    yield FoundRow(
        video=value.get("video_id"),
        query=value.get("query"),
        spans=value.get("gt", value.get("timestamps")),
        duration=value.get("duration"),
        qid=value.get("query_id"),
        metadata=others(value, *KNOWN),
    )
