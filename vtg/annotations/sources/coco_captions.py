"""Captions in COCO's form, as TimeChat and TimeIT keep them: `{"annotations": [{"image_id": "3MSZA.mp4",
"caption": "…", "timestamp": [24.3, 30.4], "id": 0}]}`.

Or a video's dense captions at once: `segments`, and in `caption` the text after each pair of `<time_token_N>`, or in
`pure_cap` a sentence for each.
"""

import re
from collections.abc import Iterator
from typing import Any

from vtg.annotations.sources.source_row import Entry, Found, FoundRow, Head, NoRow, of_objects

_TOKENS = re.compile(r"(?:<time_token_\d+>\s*)+")


def fits(head: Head) -> bool:
    if not head.have("image_id", "caption"):
        return False
    return head.inside in ("annotations", None) and (head.have("timestamp") or head.have("segments"))


@of_objects
def rows(entry: Entry) -> Iterator[Found]:
    value = entry.value
    video, duration = value.get("image_id"), value.get("duration")
    if "timestamp" in value:
        yield FoundRow(
            video=video, query=value.get("caption"), spans=value["timestamp"], duration=duration, qid=value.get("id")
        )
        return
    segments, sentences = value.get("segments"), _sentences(value)
    if not isinstance(segments, list) or len(segments) != len(sentences):
        count = len(segments) if isinstance(segments, list) else 0
        yield NoRow("moment-unpaired", f"{video}: {count} segments and {len(sentences)} captions")
        return
    for span, sentence in zip(segments, sentences, strict=True):
        yield FoundRow(video=video, query=sentence, spans=span, duration=duration)


def _sentences(value: dict[str, Any]) -> list[str]:
    caption = value.get("caption")
    if isinstance(caption, str) and _TOKENS.match(caption):
        return [text.strip() for text in _TOKENS.split(caption)[1:]]
    plain = value.get("pure_cap", caption)
    return [text.strip() for text in plain.split(". ")] if isinstance(plain, str) else []
