"""The task `count`: how many there are; shown by points where the row has them, as Molmo2 writes it."""

import re
from collections.abc import Sequence
from math import inf
from typing import ClassVar

import numpy as np

from vtg.annotations.point_targets import Count
from vtg.annotations.sample import Sample
from vtg.config.task_settings import TaskConfig
from vtg.tasks.answer import Status
from vtg.tasks.point_text import NONE, read_points, says_none, write_points
from vtg.tasks.prompts import normalise_query
from vtg.tasks.task import LossGroup, PredictionRow, Reading, common_metrics

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")

# Points and their label. No repetition takes what begins the next: time stays linear.
_POINTS = re.compile(r"<(?:points|tracks)\b[^<>]*>[^<]*(?:</(?:points|tracks)>)?", re.IGNORECASE)
_NUMBER = re.compile(rf"(?<![\w.,-])(?:[0-9]{{1,6}}|{'|'.join(WORDS)})(?![\w-]|[.,][0-9])", re.IGNORECASE)
_TOTAL = re.compile(r"\btotal(?: number)?(?: of| is|:) ", re.IGNORECASE)


class CountTask:
    """How many there are. The value of an answer is a whole number."""

    name: ClassVar[str] = "count"
    room: ClassVar[int] = 256
    headline: ClassVar[str] = "accuracy"
    weighed_as: ClassVar[LossGroup | None] = "point"

    def __init__(self, config: TaskConfig) -> None:
        del config  # what it sets is of other tasks

    def prompts(self, sample: Sample) -> Sequence[str]:
        """The row's question: with the form of the answer, and alone."""
        question = normalise_query(sample.query)
        return f"{question}\nAnswer with the number. If there are none, answer: {NONE}", question

    def write(self, sample: Sample) -> str:
        """The number; with the points that were counted, where the row has them."""
        target = sample.target
        assert isinstance(target, Count), target
        if not target.count:
            return NONE
        if target.points is None:
            return str(target.count)
        label = normalise_query(target.points.label or sample.query)
        marks = write_points(target.points.points, label, stills=target.points.stills)
        return f"Counting the {marks} shows a total of {target.count}."

    def read(self, text: str, sample: Sample) -> Reading:
        """The number that `text` names: its total, its only number, or that of the objects pointed at."""
        count = read_count(text)
        status = Status.MALFORMED if count is None else Status.OK if count else Status.NONE
        return Reading(count, status, text)

    def reward(self, reading: Reading, sample: Sample) -> float:
        """1 for the number itself, 1/2 for the next, 1/3 for the one after that."""
        target = sample.target
        assert isinstance(target, Count), target
        return 0.0 if reading.value is None else 1 / (1 + abs(reading.value - target.count))

    @staticmethod
    def fault(value: object) -> str | None:
        is_count = type(value) is int and value >= 0
        return None if is_count else f"prediction: is {str(value)[:40]!r}; it must be a whole number"

    @staticmethod
    def metrics(rows: Sequence[PredictionRow]) -> dict[str, float | int]:
        """`accuracy`, the share of right numbers; `within_1`; `close`, by which Molmo2's videos are scored:
        within 1, and 5 % of 20 and more."""
        # What cannot be read is further off than anything.
        off = np.array(
            [abs(row["prediction"] - row["count"]) if row["prediction"] is not None else np.inf for row in rows]
        )
        true = np.array([row["count"] for row in rows])
        return {
            "accuracy": 100 * float(np.mean(off == 0)),
            "within_1": 100 * float(np.mean(off <= 1)),
            "close": 100 * float(np.mean(off <= 1 + true // 20)),
        } | common_metrics(rows)


def read_count(text: str) -> int | None:
    """The number that an answer names; None where it names none, or several and no total."""
    words = _POINTS.sub(" ", text)
    if total := _TOTAL.search(words):
        numbers = _NUMBER.findall(words, total.end())
        return _value(numbers[0]) if numbers else None
    numbers = {_value(number) for number in _NUMBER.findall(words)}
    if numbers:
        return numbers.pop() if len(numbers) == 1 else None
    if says_none(words):
        return 0
    points = read_points(text, duration_s=inf).points
    return len({point.object_id for point in points}) or None


def _value(number: str) -> int:
    return WORDS.index(number.lower()) if number.lower() in WORDS else int(number)
