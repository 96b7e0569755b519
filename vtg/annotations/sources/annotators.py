"""Spans of several people for one sentence: which to train on, and rows of one person each put together."""

from collections.abc import Iterable, Iterator, Sequence

from vtg.annotations.sources.source_row import Change, Found, FoundRow
from vtg.annotations.sources.span_values import number_of, span_list


def most_agreed(spans: Sequence[Sequence[float]]) -> list[float]:
    """The span with the highest mean temporal IoU with all; of equals the first."""
    return list(max(spans, key=lambda span: sum(_iou(span, other) for other in spans)))


def _iou(one: Sequence[float], other: Sequence[float]) -> float:
    both = min(one[1], other[1]) - max(one[0], other[0])
    union = max(one[1], other[1]) - min(one[0], other[0])
    return max(both, 0.0) / union if union > 0 else 0.0


def merged(found: Iterable[tuple[int, Found]]) -> Iterator[tuple[int, Found]]:
    """Rows of the same video and sentence that follow each other as one, with the spans of all.

    A span that cannot be used has no part in it, unless there is no other.
    """
    held: list[tuple[int, FoundRow]] = []
    for line, item in found:
        if isinstance(item, FoundRow) and held and (item.video, item.query) == (held[0][1].video, held[0][1].query):
            held.append((line, item))
            continue
        yield from _one(held)
        held = [(line, item)] if isinstance(item, FoundRow) else []
        if not isinstance(item, FoundRow):
            yield line, item
    yield from _one(held)


def _one(held: list[tuple[int, FoundRow]]) -> Iterator[tuple[int, Found]]:
    if not held:
        return
    line, first = held[0]
    spans: list[list[float]] = []
    for _, row in held:
        pairs = span_list(row.spans) or []
        times = [number_of(time) for time in pairs[0]] if len(pairs) == 1 and isinstance(pairs[0], list) else []
        if len(times) == 2 and times[0] is not None and times[1] is not None and times[0] < times[1]:
            spans.append([times[0], times[1]])
    lost = len(held) - len(spans)
    if spans:
        first.spans, first.annotators, first.rows = most_agreed(spans), spans, len(held)
        first.changes.append(Change("annotators-merged", f"{len(held)} rows → {first.spans}"))
        if lost:
            first.changes.append(Change("annotator-left-out", f"{lost} of {len(held)} without a usable span"))
        yield line, first
    else:
        yield from held
