"""Targets that are texts: a caption, captions with times, the answer to a question.

{"video": "a.mp4", "duration": 30.0, "caption": "A man opens a door and sits down."}
{"video": "a.mp4", "duration": 30.0, "captions": [{"timestamp": [2.0, 5.5], "caption": "a man sits down"}]}
{"video": "a.mp4", "duration": 30.0, "question": "What does he open?", "choices": ["a door", "a box"], "answer": "A"}
"""

import string
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from vtg.annotations.row_target import Row, RowFault, list_of, number_of, shown, text_of

Span = tuple[float, float]

MAX_CHOICES = len(string.ascii_uppercase)

# Annotated times are rounded, and durations of containers differ from those of their videos by a little.
TOLERANCE_S = 1.0


@dataclass(frozen=True, slots=True)
class Caption:
    """What is in the clip, in words."""

    kind: ClassVar[str] = "caption"
    task: ClassVar[str] = "caption"
    keys: ClassVar[tuple[str, ...]] = ("caption",)
    asks: ClassVar[bool] = False
    spans: ClassVar[tuple[Span, ...]] = ()
    text: str

    @classmethod
    def of_row(cls, row: Row, *, duration_s: float) -> Self:
        return cls(text_of(row.get("caption"), "caption"))

    def row(self) -> Row:
        return {"caption": self.text}


@dataclass(frozen=True, slots=True)
class TimedCaptions:
    """What happens in the clip, event by event in order of time: (start_s, end_s, text), one or more."""

    kind: ClassVar[str] = "captions"
    task: ClassVar[str] = "dense_caption"
    keys: ClassVar[tuple[str, ...]] = ("captions",)
    asks: ClassVar[bool] = False
    spans: ClassVar[tuple[Span, ...]] = ()
    events: tuple[tuple[float, float, str], ...]

    @classmethod
    def of_row(cls, row: Row, *, duration_s: float) -> Self:
        form = '{"timestamp": [start, end], "caption": text}'
        events = []
        for at, event in enumerate(list_of(row.get("captions"), "captions", what=form)):
            if not isinstance(event, dict):
                raise RowFault(f"captions[{at}]", "captions-type", f"must be {form}, not {shown(event)}; correct it")
            start_s, end_s = span_of(event.get("timestamp"), f"captions[{at}].timestamp", duration_s=duration_s)
            events.append((start_s, end_s, text_of(event.get("caption"), f"captions[{at}].caption")))
        if not events:
            raise RowFault("captions", "captions-empty", "is empty; give one event or more, or drop the row")
        return cls(tuple(sorted(events)))

    def row(self) -> Row:
        return {"captions": [{"timestamp": [start, end], "caption": text} for start, end, text in self.events]}


@dataclass(frozen=True, slots=True)
class Question:
    """The answer to the sample's question: one of `choices` where there are any, else free text.

    Attributes:
        answer: with choices, the text of the right one.
        subtitles: what is said in the clip, (start_s, end_s, text) in order of time; or the path of an .srt or .vtt
            file, as in the row; or None.
    """

    kind: ClassVar[str] = "question"
    task: ClassVar[str] = "qa"
    keys: ClassVar[tuple[str, ...]] = ("answer", "choices", "subtitles")
    asks: ClassVar[bool] = True
    spans: ClassVar[tuple[Span, ...]] = ()
    answer: str
    choices: tuple[str, ...] = ()
    subtitles: tuple[tuple[float, float, str], ...] | str | None = None

    @classmethod
    def of_row(cls, row: Row, *, duration_s: float) -> Self:
        choices = _choices(row.get("choices"))
        answer = row.get("answer")
        answer = _chosen(answer, choices) if choices else text_of(answer, "answer")
        return cls(answer, choices, _subtitles(row.get("subtitles"), duration_s))

    def row(self) -> Row:
        row: Row = {"answer": self.answer}
        if self.choices:
            row["choices"] = list(self.choices)
        if isinstance(self.subtitles, str):
            row["subtitles"] = self.subtitles
        elif self.subtitles is not None:
            row["subtitles"] = [{"start": start, "end": end, "text": text} for start, end, text in self.subtitles]
        return row


def span_of(value: Any, field: str, *, duration_s: float) -> Span:
    """[start, end] in seconds of the clip; ends that leave it by no more than `TOLERANCE_S` are clipped.

    Raises:
        RowFault: it is no pair of numbers, ends before it starts, or leaves the clip.
    """
    kind = field.partition("[")[0]
    if not isinstance(value, list) or len(value) != 2:
        raise RowFault(field, f"{kind}-type", f"must be [start, end] in seconds, not {shown(value)}; correct it")
    start, end = (number_of(bound, field) for bound in value)
    if start < -TOLERANCE_S or end > duration_s + TOLERANCE_S or start >= duration_s:
        text = f"[{start:g}, {end:g}] leaves the clip of 0 to {duration_s:.10g} s; correct it or duration"
        raise RowFault(field, f"{kind}-outside", text)
    start, end = max(start, 0.0), min(end, duration_s)
    if not start < end:
        raise RowFault(field, f"{kind}-reversed", f"{value} must end after it starts; correct it, or drop the row")
    return start, end


def _choices(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    choices = tuple(text_of(choice, "choices") for choice in list_of(value, "choices", what="texts"))
    if not 2 <= len(choices) <= MAX_CHOICES:
        text = f"must be 2 to {MAX_CHOICES} texts, not {len(choices)}; leave it out for a free answer"
        raise RowFault("choices", "choices-count", text)
    if len(set(choices)) < len(choices):
        raise RowFault("choices", "choices-repeated", "holds a text twice; make them differ, or drop the row")
    return choices


def _chosen(answer: Any, choices: tuple[str, ...]) -> str:
    """The right choice, given as its text, its letter from A, or its number from 0."""
    if isinstance(answer, str):
        if answer in choices:
            return answer
        letter = string.ascii_uppercase.find(answer) if len(answer) == 1 else -1
        if 0 <= letter < len(choices):
            return choices[letter]
    elif isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return choices[answer]
    last = string.ascii_uppercase[len(choices) - 1]
    text = f"must be the text of a choice, its letter A to {last} or its number 0 to {len(choices) - 1}"
    raise RowFault("answer", "answer-no-choice", f"{text}, not {shown(answer)}; correct it")


def _subtitles(value: Any, duration_s: float) -> tuple[tuple[float, float, str], ...] | str | None:
    if value is None:
        return None
    if isinstance(value, str):
        if not value.lower().endswith((".srt", ".vtt")):
            text = f"{value[:60]!r} must be the path of an .srt or .vtt file, or a list of start, end and text"
            raise RowFault("subtitles", "subtitles-type", text)
        return value
    form = '{"start": s, "end": s, "text": text}, or the path of an .srt or .vtt file'
    said = []
    for at, entry in enumerate(list_of(value, "subtitles", what=form)):
        if not isinstance(entry, dict):
            raise RowFault(f"subtitles[{at}]", "subtitles-type", f"must be {form}, not {shown(entry)}; correct it")
        bounds = [entry.get("start"), entry.get("end")]
        start_s, end_s = span_of(bounds, f"subtitles[{at}]", duration_s=duration_s)
        said.append((start_s, end_s, text_of(entry.get("text"), f"subtitles[{at}].text")))
    return tuple(sorted(said))
