"""Conversations whose answers tell times: TimeIT (`QA` of `q` and `a`), LLaVA (`conversations` of `from` and `value`),
ms-swift, LLaMA-Factory and XTuner (`messages` of `role` and `content`, or `query` and `response`).

Every answer with times is a row for each event that it tells ("90.0 - 102.0 seconds, spread margarine …"), or one of
the query in its question. What a question asks for stands in its quotes; without quotes it is the question itself.
"""

import re
from collections.abc import Iterator
from typing import Any

from vtg.annotations.sources.saliency import spans_of_points
from vtg.annotations.sources.source_row import Change, Entry, Found, FoundRow, Head, NoRow, of_objects, others
from vtg.annotations.sources.span_values import number_of, spans_of_text

TURNS = ("QA", "conversations", "messages")
KNOWN = (*TURNS, "video", "videos", "duration", "id", "query", "response", "image", "images", "system")
ASKS, ANSWERS = ("human", "user"), ("gpt", "assistant")

# A quotation mark within a word is an apostrophe: "the man's hat" ends no quotation.
_QUOTED = re.compile(r"(?<!\w)(['\"\u2018\u201c`])(.+?)(['\"\u2019\u201d`])(?!\w)", re.DOTALL)
_AFTER_COLON = re.compile(
    r"(?:sentence|query|description|event|caption)\s*(?:is|below)?\s*:\s*(.+?)\s*$", re.I | re.DOTALL
)
_MARKS = re.compile(r"<\|?/?(?:video|image|VIDEO_CONTEXT|vision_start|vision_end|video_pad)[^>]*>\s*")
_TIME = r"\d+(?::\d{1,2})*(?:\.\d+)?"
# The times of an event in "90.0 - 102.0 seconds, spread margarine on bread."; its text lasts until the next one's.
_EVENT = re.compile(
    rf"(?<!\d)({_TIME})\s*(?:s|seconds)?\s*(?:-|to)\s*({_TIME})\s*(?:s|secs?|seconds)?\s*[,:](?!\d)\s*", re.I
)
_POINTS = re.compile(rf"(?<!\d)((?:{_TIME}\s*,\s*)+{_TIME})\s*seconds?", re.IGNORECASE)


def fits(head: Head) -> bool:
    return head.shape in ("array", "lines") and head.most(_is_conversation)


def _is_conversation(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return any(isinstance(value.get(key), list) for key in TURNS) or {"query", "response"} <= set(value)


@of_objects
def rows(entry: Entry) -> Iterator[Found]:
    value = entry.value
    turns = list(_turns(value))
    videos = {"video": _video(value), "duration": value.get("duration")}
    if videos["video"] is None:
        yield NoRow("no-video", f"a conversation without one video: {str(turns)[:60]}", is_bad=False)
        return
    if not turns:
        yield NoRow("entry-format", f"{videos['video']}: no question with an answer")
    metadata = others(value, *KNOWN)
    for question, answer in turns:
        yield from _rows(
            question, answer, metadata=metadata, qid=value.get("id") if len(turns) == 1 else None, **videos
        )


def _rows(
    question: str, answer: str, *, video: Any, duration: Any, metadata: dict[str, Any], qid: Any
) -> Iterator[Found]:
    events = _events(answer)
    if events and all(text for _, _, text in events):
        for start, end, text in events:
            span = [number_of(start), number_of(end)]
            yield FoundRow(video=video, query=text, spans=span, duration=duration, metadata=dict(metadata))
        return
    found = FoundRow(
        video=video, query=query_of(question), spans=None, duration=duration, qid=qid, metadata=dict(metadata)
    )
    points = _POINTS.search(answer)
    if points and len(points[1].split(",")) > 2 and not spans_of_text(answer[: points.start()]):
        times = [number for time in points[1].split(",") if (number := number_of(time)) is not None]
        found.spans = spans_of_points(times)
        found.changes.append(Change("spans-from-points", f"{len(times)} moments → {len(found.spans)} spans"))
        yield found
    elif spans := spans_of_text(answer):
        found.spans = spans
        yield found
    else:
        yield NoRow("answer-without-times", f"{video}: {answer[:60]!r}", is_bad=False)


def _events(answer: str) -> list[tuple[str, str, str]]:
    """(start, end, text) of what an answer tells event by event; a text may be empty."""
    times = list(_EVENT.finditer(answer))
    ends = [*(one.start() for one in times[1:]), len(answer)][: len(times)]
    return [(one[1], one[2], answer[one.end() : end].strip(" \n.;")) for one, end in zip(times, ends, strict=True)]


def _turns(value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The questions and their answers, in order."""
    if isinstance(value.get("query"), str) and isinstance(value.get("response"), str):
        yield value["query"], value["response"]
    for turn in value.get("QA") or ():
        if isinstance(turn, dict) and isinstance(turn.get("q"), str) and isinstance(turn.get("a"), str):
            yield turn["q"], turn["a"]
    question: str | None = None
    for turn in value.get("conversations") or value.get("messages") or ():
        role = turn.get("from", turn.get("role")) if isinstance(turn, dict) else None
        text = _text(turn.get("value", turn.get("content"))) if isinstance(turn, dict) else ""
        if role in ASKS:
            question = text
        elif role in ANSWERS and question is not None:
            yield question, text
            question = None


def _text(content: Any) -> str:
    """The text of a turn, without what stands for the video."""
    if isinstance(content, list):
        parts = (
            part.get("text", "") for part in content if isinstance(part, dict) and part.get("type", "text") == "text"
        )
        content = " ".join(map(str, parts))
    return _MARKS.sub("", content).strip() if isinstance(content, str) else ""


def _video(value: dict[str, Any]) -> Any:
    """The one video of a conversation; None for none, or for several."""
    given = value.get("video", value.get("videos"))
    if given is None:
        given = [
            part.get("video", part.get("video_url"))
            for turn in value.get("messages") or ()
            if isinstance(turn, dict) and isinstance(turn.get("content"), list)
            for part in turn["content"]
            if isinstance(part, dict) and part.get("type") in ("video", "video_url")
        ]
    if isinstance(given, list):
        given = given[0] if len(given) == 1 else None
    names = ("path", "video", "url")
    return next((given[name] for name in names if name in given), None) if isinstance(given, dict) else given


def query_of(question: str) -> str:
    """What a question asks for."""
    text = _MARKS.sub("", question).strip()
    # The longest: a question may quote its answer's form as well.
    quoted = [match[1] for match in _QUOTED.findall(text) if not spans_of_text(match[1])]
    if quoted:
        return max(quoted, key=len)
    after = _AFTER_COLON.search(text)
    return after[1] if after else text
