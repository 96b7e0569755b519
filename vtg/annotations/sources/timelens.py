"""TimeLens and TimeLens2, with several queries an entry or one.

TimeLens-Bench: `{"3MSZA": {"duration": 30.96, "spans": [[24.3, 30.4]], "queries": ["…"]}}`. TimeLens-100K and
TimeLens2-93K: `{"video_path": "…", "duration": 9, "events": [{"query": "…", "span": [[1, 2]]}]}` a line, or flat with
`query` and `span` in the line itself, as rollouts and filtered files are. A span is one interval or a set of them.
"""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from vtg.annotations.sources.source_row import Entry, Found, FoundRow, Head, NoRow, of_objects, others

KNOWN = ("video_path", "duration", "events", "query", "span", "video_start", "video_end", "pred")


def fits_bench(head: Head) -> bool:
    return head.shape == "object" and head.have("spans", "queries")


def fits_rows(head: Head) -> bool:
    if head.shape not in ("lines", "array") or not head.have("video_path"):
        return False
    return head.have("events") or head.have("query", "span")


def bench_rows(entry: Entry) -> Iterator[Found]:
    value = entry.value
    if not isinstance(value, dict) or not all(isinstance(value.get(key), list) for key in ("spans", "queries")):
        yield NoRow("entry-format", f"{str(entry.key)[:40]}: has no lists `spans` and `queries`")
        return
    for span, query in zip_longest(value["spans"], value["queries"]):
        if span is None or query is None:
            yield NoRow("moment-unpaired", f"{str(entry.key)[:40]}: {query or span!s:.60} has no counterpart")
        else:
            yield FoundRow(video=entry.key, query=query, spans=span, duration=value.get("duration"))


@of_objects
def rows(entry: Entry) -> Iterator[Found]:
    value = entry.value
    events = value.get("events", [value] if "query" in value else None)
    if not isinstance(events, list):
        yield NoRow("entry-format", f"{str(value.get('video_path'))[:40]}: has neither `events` nor `query` and `span`")
        return
    metadata = others(value, *KNOWN)
    for event in events:
        if isinstance(event, dict):
            yield _row(value, event, metadata)
        else:
            yield NoRow("event-format", f"{str(event)[:60]} is not an object with `query` and `span`")


def _row(value: dict[str, Any], event: dict[str, Any], metadata: dict[str, Any]) -> FoundRow:
    own = {} if event is value else others(event, *KNOWN)
    # A set of predicted intervals does not go into `pred`, which is one span.
    pred = event.get("pred", value.get("pred"))
    is_one = isinstance(pred, list) and len(pred) == 2 and not isinstance(pred[0], list)
    return FoundRow(
        video=value.get("video_path"),
        query=event.get("query"),
        spans=event.get("span"),
        duration=value.get("duration"),
        video_start=event.get("video_start", value.get("video_start")),
        video_end=event.get("video_end", value.get("video_end")),
        pred=pred if is_one else None,
        metadata=metadata | own | ({} if pred is None or is_one else {"predictions": pred}),
    )
