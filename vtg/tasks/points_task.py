"""The tasks `points` and `tracks`: where it is, at some times or followed over time; in Molmo2's text form."""

from collections.abc import Sequence
from math import inf
from typing import ClassVar

import numpy as np

from vtg.annotations.point import Point
from vtg.annotations.point_targets import Points, Tracks, points_of, rows_of
from vtg.annotations.row_target import RowFault
from vtg.annotations.sample import Sample
from vtg.config.task_settings import TaskConfig
from vtg.tasks.point_scores import NEAR, REWARD_DISTANCES, point_agreement, track_agreement
from vtg.tasks.point_text import read_points, write_points, write_tracks
from vtg.tasks.prompts import normalise_query
from vtg.tasks.task import LossGroup, PredictionRow, Reading, common_metrics

FORM = (
    'Answer as <{0} coords="t id x y id x y;t id x y">label</{0}>: t {when}, ids from 1, x and y three '
    "digits, in thousandths of the frame's width and height. If there are none, answer: There are none."
)


class PointsTask:
    """Where things are, at the times at which they are asked for or seen.

    The value of an answer is its points as the rows have them; `object_id` is the answer's number.
    """

    name: ClassVar[str] = "points"
    room: ClassVar[int] = 256
    headline: ClassVar[str] = "F1"
    weighed_as: ClassVar[LossGroup | None] = "point"

    def __init__(self, config: TaskConfig) -> None:
        del config  # what it sets is of other tasks

    def prompts(self, sample: Sample) -> Sequence[str]:
        """The row's question: with the form of the answer, for a model that has not learned it, and alone."""
        question = normalise_query(sample.query)
        when = "the number of the picture, from 1" if sample.is_still else "in seconds"
        return f"{question}\n{FORM.format(self.name, when=when)}", question

    def write(self, sample: Sample) -> str:
        """The points as text; their label is the row's, or else its question."""
        target = sample.target
        assert isinstance(target, Points | Tracks), target
        label = normalise_query(target.label or sample.query)
        write = write_tracks if isinstance(target, Tracks) else write_points
        return write(target.points, label, stills=target.stills)

    def read(self, text: str, sample: Sample) -> Reading:
        """The points that `text` names."""
        answer = read_points(text, duration_s=sample.duration_s, stills=sample.is_still)
        return Reading(rows_of(answer.points, stills=sample.is_still) if answer.is_read else None, answer.status, text)

    def reward(self, reading: Reading, sample: Sample) -> float:
        """The headline, as the mean over `REWARD_DISTANCES`."""
        target = sample.target
        assert isinstance(target, Points | Tracks), target
        if reading.value is None:
            return 0.0
        predicted, true = _points(reading.value), _visible(target.points)
        return float(
            np.mean([self._scores(predicted, true, near=near)[self.headline] for near in REWARD_DISTANCES]) / 100
        )

    @staticmethod
    def fault(value: object) -> str | None:
        try:
            _points(value)
        except RowFault as fault:
            return str(fault)
        return None

    @classmethod
    def metrics(cls, rows: Sequence[PredictionRow]) -> dict[str, float | int]:
        """The scores as means over rows."""
        scores = [
            cls._scores(_points(row["prediction"]), _visible(_points(row[cls.name])))
            if row["prediction"] is not None
            else dict.fromkeys(cls._scores((), ()), 0.0)
            for row in rows
        ]
        return {name: float(np.mean([one[name] for one in scores])) for name in scores[0]} | common_metrics(rows)

    @staticmethod
    def _scores(predicted: Sequence[Point], true: Sequence[Point], *, near: float = NEAR) -> dict[str, float]:
        """Scores of one answer, 0 to 100."""
        agreement = point_agreement(predicted, true, near=near)
        return {
            "F1": 100 * agreement.f1,
            "precision": 100 * agreement.precision,
            "recall": 100 * agreement.recall,
        }


class TracksTask(PointsTask):
    """Where things are over time, each under a number of its own."""

    name: ClassVar[str] = "tracks"
    room: ClassVar[int] = 512
    headline: ClassVar[str] = "HOTA"

    @staticmethod
    def _scores(predicted: Sequence[Point], true: Sequence[Point], *, near: float = NEAR) -> dict[str, float]:
        agreement = track_agreement(predicted, true, near=near)
        return {
            "HOTA": 100 * agreement.hota,
            "DetA": 100 * agreement.detection,
            "AssA": 100 * agreement.association,
            "F1": 100 * agreement.points.f1,
        }


def _points(rows: object) -> tuple[Point, ...]:
    points, _ = points_of(rows, "prediction", duration_s=inf, numbered=False)
    return points


def _visible(points: Sequence[Point]) -> list[Point]:
    return [point for point in points if not point.occluded]
