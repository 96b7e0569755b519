"""Kinetics: `label,youtube_id,time_start,time_end,split,is_cc`, the ten seconds of a video that show an action."""

from collections.abc import Iterator

from vtg.annotations.sources.source_row import Entry, Found, FoundRow, Head, others
from vtg.annotations.sources.worker_table import number_in_table

KNOWN = ("label", "youtube_id", "time_start", "time_end")


def fits(head: Head) -> bool:
    return head.shape == "table" and {"youtube_id", "time_start", "time_end"} <= set(head.keys)


def rows(entry: Entry) -> Iterator[Found]:
    value = entry.value
    yield FoundRow(
        video=value.get("youtube_id"),
        query=value.get("label"),
        spans=[number_in_table(value.get("time_start")), number_in_table(value.get("time_end"))],
        metadata=others(value, *KNOWN),
    )
