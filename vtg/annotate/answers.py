"""What a model's answer must be: read out of its text, and checked."""

import json
import math
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from vtg.annotate.window import Window
from vtg.tasks.json_form import JsonForm, spans_form

# A model reads the time from a label of one decimal, and rounds; further out it means another window.
SLACK_S = 1.0
# Boxes and points are in thousandths of the picture's width and height, as Qwen-VL's are.
SCALE = 1000

_FENCED = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)


class BadAnswer(ValueError):
    """What is wrong with an answer, in words that the model is told for its next try."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A span in seconds of the video or episode, and what happens in it."""

    start_s: float
    end_s: float
    text: str


def json_of(text: str) -> Any:
    """The JSON value in an answer, in a fence or among words. Raises BadAnswer where there is none."""
    fenced = _FENCED.search(text)
    body = fenced[1] if fenced else text
    decoder = json.JSONDecoder()
    for at, character in enumerate(body):
        if character in "[{":
            try:
                return decoder.raw_decode(body, at)[0]
            except ValueError:
                continue
    raise BadAnswer(f"it holds no JSON: {text.strip()[:80]!r}")


def segments_of(value: Any, window: Window, *, zero_s: float = 0.0) -> list[Segment]:
    """The segments of an answer: inside the window, in order, on the times of real frames, none empty.

    Args:
        zero_s: the time, in seconds of the video or episode, that the model sees as zero.

    Raises:
        BadAnswer: it is no list of such, or one of them leaves the window or ends before it starts.
    """
    if isinstance(value, dict):
        value = value.get("segments")
    if not isinstance(value, list):
        raise BadAnswer('it must be a list of objects {"start": …, "end": …, "text": …}')
    found = [_segment(entry, window, zero_s) for entry in value]
    for before, after in pairwise(found):
        if after.start_s < before.start_s:
            late_s, early_s = before.start_s - zero_s, after.start_s - zero_s
            raise BadAnswer(f"segments must be in order, but {early_s:.1f} comes after {late_s:.1f}")
    return found


def segments_form(window: Window, *, zero_s: float = 0.0) -> JsonForm:
    """The form in which `segments_of` takes every answer: one segment after another, each on two frames at least."""
    inside = window.times_s[(window.times_s >= window.start_s) & (window.times_s < window.end_s)]
    apart_s = np.diff([window.start_s, *inside, window.end_s]).max()
    # Half as much again: what comes before the first frame is put on it too.
    return spans_form(window.start_s - zero_s, window.end_s - zero_s, least_s=1.5 * float(apart_s))


def _segment(entry: Any, window: Window, zero_s: float) -> Segment:
    if not isinstance(entry, dict):
        raise BadAnswer(f"each segment must be an object, not {entry!r}")
    start, end, text = _seconds(entry, "start"), _seconds(entry, "end"), entry.get("text")
    if not isinstance(text, str) or not text.strip():
        raise BadAnswer(f"each segment needs a text that is not empty: {entry}")
    low_s, high_s = window.start_s - zero_s, window.end_s - zero_s
    if not low_s - SLACK_S <= start < end <= high_s + SLACK_S:
        raise BadAnswer(
            f"{start} to {end} must be a span between {low_s:.1f} and {high_s:.1f} seconds, its start before its end"
        )
    start_s = window.snapped(max(start + zero_s, window.start_s))
    end_s = window.snapped(min(end + zero_s, window.end_s))
    if not start_s < end_s:
        raise BadAnswer(f"{start} to {end} is shorter than a frame")
    return Segment(round(start_s, 6), round(end_s, 6), " ".join(text.split()))


def _seconds(entry: dict[str, Any], name: str) -> float:
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadAnswer(f"{name} must be a number of seconds, not {value!r}")
    return float(value)


def question_of(value: Any) -> tuple[str, str]:
    """(question, answer) about a picture; an answer of boxes or points is their JSON.

    Raises:
        BadAnswer: it is none, or its boxes or points are not in the picture.
    """
    if not isinstance(value, dict) or not isinstance(value.get("question"), str) or not value["question"].strip():
        raise BadAnswer('it must be one object {"question": "…", "answer": …} with a question that is not empty')
    answer = value.get("answer")
    if isinstance(answer, str) and answer.strip():
        return value["question"].strip(), answer.strip()
    if isinstance(answer, dict) and answer.keys() & {"boxes", "points"}:
        for kind, length in (("boxes", 4), ("points", 2)):
            for place in answer.get(kind, []):
                _check_place(kind, place, length)
        return value["question"].strip(), json.dumps(answer, ensure_ascii=False)
    raise BadAnswer('answer must be a text that is not empty, or {"boxes": …} or {"points": …}')


def _check_place(kind: str, place: Any, length: int) -> None:
    stated = place.get("box" if length == 4 else "point") if isinstance(place, dict) else None
    numbers = stated if isinstance(stated, list) else []
    is_right = (
        len(numbers) == length
        and all(isinstance(one, int | float) and not isinstance(one, bool) and 0 <= one <= SCALE for one in numbers)
        and isinstance(place.get("label"), str)
        and (length == 2 or (numbers[0] < numbers[2] and numbers[1] < numbers[3]))
    )
    if not is_right:
        form = '{"label": "…", "box": [x1, y1, x2, y2]}' if length == 4 else '{"label": "…", "point": [x, y]}'
        raise BadAnswer(f"{kind} must be {form} with numbers from 0 to {SCALE}, not {place}")
