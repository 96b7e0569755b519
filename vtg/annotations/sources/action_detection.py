"""Temporal action detection: ActivityNet and THUMOS as `{"database": {"id": {"subset": "training", "duration": 82.7,
"annotations": [{"segment": [6.9, 19.9], "label": "Long jump"}]}}}`, and THUMOS' own lines, `video_test_0000266 72 76`.

One row a video and class, with all its segments. YouCook2 is in the first form with a `sentence` for each segment: one
row each. The class of THUMOS' lines is the name of their file.
"""

import re
from collections.abc import Iterator
from typing import Any

from vtg.annotations.sources.source_row import Entry, Found, FoundRow, Head, NoRow

_LINE = re.compile(r"\s*(video_(?:validation|test)_\d+)\s+(\S+)\s+(\S+)\s*")
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")


def fits(head: Head) -> bool:
    return head.inside == "database" and head.have("annotations")


def fits_lines(head: Head) -> bool:
    return head.shape == "text" and head.most(_LINE.fullmatch)


def rows(entry: Entry) -> Iterator[Found]:
    value = entry.value if isinstance(entry.value, dict) else {}
    annotations: Any = value.get("annotations")
    if not isinstance(annotations, list):
        yield NoRow("entry-format", f"{str(entry.key)[:40]}: has no list `annotations`")
        return
    if not annotations:
        yield NoRow("not-annotated", f"{entry.key} ({value.get('subset')})", is_bad=False)
    kept = {key: value[key] for key in ("subset", "recipe_type") if key in value}
    by_label: dict[Any, list[Any]] = {}
    for one in annotations:
        if not isinstance(one, dict) or "segment" not in one:
            yield NoRow("segment-missing", f"{entry.key}: {str(one)[:60]}")
        elif "sentence" in one:
            yield FoundRow(
                video=entry.key,
                query=one["sentence"],
                spans=one["segment"],
                duration=value.get("duration"),
                metadata=dict(kept),
            )
        else:
            by_label.setdefault(str(one.get("label") or ""), []).append(one["segment"])
    for label, spans in by_label.items():
        yield FoundRow(
            video=entry.key,
            query=label,
            spans=spans,
            duration=value.get("duration"),
            metadata=dict(kept),
            rows=len(spans),
        )


def line_rows(entry: Entry) -> Iterator[Found]:
    found = _LINE.fullmatch(entry.value)
    if found is None:
        yield NoRow("line-format", f"{entry.value[:60]!r} is not `VIDEO START END`")
        return
    name = re.sub(r"_(val|test)$", "", str(entry.beside.get("stem", "")))
    yield FoundRow(video=found[1], query=_WORDS.sub(" ", name), spans=[found[2], found[3]])
