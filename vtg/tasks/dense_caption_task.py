"""The dense caption task: all that happens in the clip, each event with its times.

2.0 to 5.5 seconds: a man sits down
7.0 to 9.0 seconds: he opens a book
"""

import math
import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from vtg.annotations.sample import Sample
from vtg.annotations.text_targets import TimedCaptions
from vtg.config.task_settings import TaskConfig
from vtg.tasks.answer import MAX_MOMENTS, TOLERANCE_S, Status, check_int, judge, to_grid
from vtg.tasks.iou import temporal_ious
from vtg.tasks.matching import most_pairs
from vtg.tasks.prompts import plain_text
from vtg.tasks.task import LossGroup, PredictionRow, Reading, common_metrics
from vtg.tasks.text_overlap import token_f1

Event = tuple[float, float, str]

THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
"""Of IoU, as ActivityNet Captions is evaluated (Krishna et al., 2017)."""

# Bounded repetitions: a model that writes one digit for ever must not make a match slow.
_NUMBER = r"([0-9]{1,12}(?:\.[0-9]{1,9})?)"
_LINE = re.compile(rf"\s{{0,8}}{_NUMBER} {{0,2}}(?:to|-) {{0,2}}{_NUMBER} {{0,2}}(?:seconds|s)? {{0,2}}: {{0,2}}(\S.*)")


class DenseCaptionTask:
    """Events in order of time, one a line; their times in seconds with `task.decimals` decimals."""

    name: ClassVar[str] = "dense_caption"
    room: ClassVar[int] = 512
    headline: ClassVar[str] = "event_score"
    weighed_as: ClassVar[LossGroup | None] = "caption"
    wordings: ClassVar[tuple[str, ...]] = (
        "List what happens in the video in order of time, one event a line, as: START to END seconds: EVENT.",
        "Describe each event of the video on a line of its own, in the form: START to END seconds: EVENT.",
        "When does what happen in the video? Answer with lines of the form: START to END seconds: EVENT.",
    )

    def __init__(self, config: TaskConfig) -> None:
        check_int("task.decimals", config.decimals, low=0, high=6)
        self.decimals = config.decimals

    def prompts(self, sample: Sample) -> Sequence[str]:
        return (plain_text(sample.query),) if sample.query else self.wordings

    def write(self, sample: Sample) -> str:
        assert isinstance(sample.target, TimedCaptions), sample
        per_second = 10**self.decimals
        last, lines = math.ceil(sample.duration_s * per_second), []
        for start_s, end_s, text in sample.target.events:
            ((start, end),) = to_grid([(start_s, end_s)], sample.duration_s, steps_per_s=per_second, last=last)
            times = [f"{steps / per_second:.{self.decimals}f}" for steps in (start, end)]
            lines.append(f"{times[0]} to {times[1]} seconds: {' '.join(text.split())}")
        return "\n".join(lines)

    def read(self, text: str, sample: Sample) -> Reading:
        """The value is [[start_s, end_s, text], …] in the order written; lines of another form are passed over.

        One event that ends before it starts, or lies outside the clip, makes the answer unreadable: `judge`.
        """
        found = [match.groups() for line in text.splitlines() if (match := _LINE.match(line))]
        spans = [(float(start), float(end)) for start, end, _ in found]
        if len(spans) > MAX_MOMENTS:
            return Reading(None, Status.MALFORMED, text)
        slack_s = max(TOLERANCE_S, 10.0**-self.decimals)
        judged = judge(text, spans, duration_s=sample.duration_s, slack_s=slack_s)
        if judged.status != Status.OK:
            return Reading(None, judged.status, text)
        words = [caption.strip() for _, _, caption in found]
        events = [[start, end, caption] for (start, end), caption in zip(judged.spans, words, strict=True)]
        return Reading(events, Status.OK, text)

    @staticmethod
    def fault(value: object) -> str | None:
        is_read = isinstance(value, list) and all(map(_is_event, value))
        return None if is_read else f"prediction: is {str(value)[:40]!r}; it must be [[start, end, text], ...]"

    @staticmethod
    def metrics(rows: Sequence[PredictionRow]) -> dict[str, float | int]:
        """Means of rows: `F1@0.3` … `F1@0.9`, F1 of events where a predicted and a true one, each of one pair, overlap
        by that IoU; and `event_score`, see there."""
        scores = [_scores(row["prediction"] or (), _true_events(row)) for row in rows]
        means = {name: 100.0 * float(np.mean([one[name] for one in scores])) for name in scores[0]}
        return means | common_metrics(rows)

    def reward(self, reading: Reading, sample: Sample) -> float:
        """`event_score`, which grows with every event that is better placed or told."""
        assert isinstance(sample.target, TimedCaptions), sample
        return event_score(
            _overlaps(reading.value or (), sample.target.events), reading.value or (), sample.target.events
        )


def _is_event(event: object) -> bool:
    if not isinstance(event, list) or len(event) != 3 or not isinstance(event[2], str):
        return False
    return all(type(time) in (int, float) and math.isfinite(time) for time in event[:2])


def event_score(ious: np.ndarray, predicted: Sequence[Sequence], true: Sequence[Sequence]) -> float:
    """SODA (Fujita et al., 2020) with the F1 of words in place of METEOR, 0 to 1.

    Events are paired in order of time so that the sum of IoU times word F1 is the greatest; the score is the F1 of that
    sum over the predicted events and over the true ones. `ious`: (predicted, true), in the order given.
    """
    if not len(predicted):
        return 0.0
    rows, columns = (sorted(range(len(events)), key=lambda at: tuple(events[at][:2])) for events in (predicted, true))
    best = np.zeros(len(columns) + 1)  # of the first events of either, the greatest sum
    for row in rows:
        before, best = best, best.copy()
        for at, column in enumerate(columns):
            iou = ious[row, column]
            worth = iou * token_f1(predicted[row][2], true[column][2]) if iou > 0 else 0.0
            best[at + 1] = max(before[at + 1], best[at], before[at] + worth)
    return 2 * float(best[-1]) / (len(predicted) + len(true))


def _scores(predicted: Sequence[Sequence], true: Sequence[Sequence]) -> dict[str, float]:
    ious = _overlaps(predicted, true)
    scores = {
        f"F1@{threshold}": 2
        * most_pairs([np.flatnonzero(row >= threshold).tolist() for row in ious])
        / (len(predicted) + len(true))
        for threshold in THRESHOLDS
    }
    return scores | {"event_score": event_score(ious, predicted, true)}


def _overlaps(predicted: Sequence[Sequence], true: Sequence[Sequence]) -> np.ndarray:
    """IoU (predicted, true) of the events."""
    one, other = (np.array([event[:2] for event in events], np.float64).reshape(-1, 2) for events in (predicted, true))
    pairs = temporal_ious(np.repeat(one, len(other), axis=0), np.tile(other, (len(one), 1)))
    return pairs.reshape(len(one), len(other))


def _true_events(row: PredictionRow) -> list[Event]:
    return [(*event["timestamp"], event["caption"]) for event in row["captions"]]
