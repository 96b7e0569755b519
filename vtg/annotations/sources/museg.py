"""MUSEG: training lines `{"problem": "… query 'person eating a sandwich'.", "solution": [[13.9, 25.3]], "video": "…"}`,
and evaluation lists with `question` and `groundtruth`. What is asked for stands in the prompt's quotes.
"""

from collections.abc import Iterator

from vtg.annotations.sources.conversations import query_of
from vtg.annotations.sources.source_row import Entry, Found, FoundRow, Head, of_objects, others

KNOWN = ("problem", "question", "solution", "groundtruth", "video", "duration", "idx")


def fits(head: Head) -> bool:
    training = head.have("problem", "solution", "video")
    return head.shape in ("array", "lines") and (training or head.have("question", "groundtruth", "video"))


@of_objects
def rows(entry: Entry) -> Iterator[Found]:
    value = entry.value
    prompt = value.get("problem", value.get("question"))
    yield FoundRow(
        video=value.get("video"),
        query=query_of(prompt) if isinstance(prompt, str) else prompt,
        spans=value.get("solution", value.get("groundtruth")),
        duration=value.get("duration"),
        qid=value.get("idx"),
        metadata=others(value, *KNOWN),
    )
