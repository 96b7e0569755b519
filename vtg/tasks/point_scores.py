"""How well predicted points and tracks agree with the true ones.

Published scores ask whether a point lies in the object's mask (Molmo2, arXiv 2601.10611). Rows have no masks: here a
point is right within `NEAR` of the true one, the widest threshold of TAP-Vid (Doersch et al. 2022, 16 of 256 pixels), x
and y as shares of the frame. As with Molmo2 it has to be of the same frame.
"""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from vtg.annotations.point import Point
from vtg.tasks.matching import heaviest_pairs, most_pairs

NEAR = 16 / 256

# Half a step of Molmo2's two frames a second: what is nearer in time is of the same frame.
SAME_FRAME_S = 0.25

# A reward of one threshold would be the same for nearly all rollouts of a model that begins to learn.
REWARD_DISTANCES = (4 / 256, 8 / 256, 16 / 256, 32 / 256, 64 / 256)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Shares, 0 to 1. All are 1 where nothing is predicted and nothing is true."""

    precision: float
    recall: float
    f1: float

    @classmethod
    def of(cls, hits: int, *, predicted: int, true: int) -> "Agreement":
        """Of counts of points."""
        if not predicted and not true:
            return cls(1.0, 1.0, 1.0)
        return cls(hits / max(predicted, 1), hits / max(true, 1), 2 * hits / (predicted + true))


@dataclass(frozen=True, slots=True)
class TrackAgreement:
    """Of tracks: the agreement of their points, as the mean over frames, and HOTA with its parts; shares, 0 to 1."""

    points: Agreement
    hota: float
    detection: float
    association: float


def point_agreement(predicted: Sequence[Point], true: Sequence[Point], *, near: float = NEAR) -> Agreement:
    """Of points, each matched with one true point at most: as many pairs as there can be."""
    candidates = [
        [at for at, there in enumerate(true) if abs(one.at - there.at) <= SAME_FRAME_S and _is_near(one, there, near)]
        for one in predicted
    ]
    return Agreement.of(most_pairs(candidates), predicted=len(predicted), true=len(true))


def track_agreement(predicted: Sequence[Point], true: Sequence[Point], *, near: float = NEAR) -> TrackAgreement:
    """Of tracks. HOTA (Luiten et al. 2021) where two points are alike or not, so that all its thresholds are one."""
    frames = _frames(predicted, true)
    if not frames:
        return TrackAgreement(Agreement(1.0, 1.0, 1.0), 1.0, 1.0, 1.0)
    rows, columns = _indices(true), _indices(predicted)
    # (rows, 1), (1, columns): frames in which each track is; (rows, columns): in which two are matched.
    seen, shown = np.zeros((len(rows), 1)), np.zeros((1, len(columns)))
    possible, matched = np.zeros((len(rows), len(columns))), np.zeros((len(rows), len(columns)))
    alike: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
    for ours, theirs in frames:
        at = np.array([rows[point.object_id] for point in theirs], dtype=np.int64)
        to = np.array([columns[point.object_id] for point in ours], dtype=np.int64)
        similar = np.array([[_is_near(there, one, near) for one in ours] for there in theirs], dtype=np.float64)
        similar = similar.reshape(len(at), len(to))
        either = similar.sum(0)[None] + similar.sum(1)[:, None] - similar
        possible[np.ix_(at, to)] += np.divide(similar, either, out=np.zeros_like(similar), where=either > 0)
        seen[at] += 1
        shown[:, to] += 1
        alike.append((at, to, similar))
    # A pair that could be one in many frames comes first: an object keeps its number where it can.
    alignment = possible / (seen + shown - possible)
    agreements = []
    for at, to, similar in alike:
        pairs = [(i, j) for i, j in heaviest_pairs(alignment[np.ix_(at, to)] * similar) if similar[i, j]]
        agreements.append(Agreement.of(len(pairs), predicted=len(to), true=len(at)))
        for i, j in pairs:
            matched[at[i], to[j]] += 1
    hits = matched.sum()
    detection = float(hits / (seen.sum() + shown.sum() - hits))
    association = float((matched**2 / (seen + shown - matched)).sum() / max(hits, 1))
    means = np.mean([astuple(agreement) for agreement in agreements], axis=0).tolist()
    return TrackAgreement(Agreement(*means), (detection * association) ** 0.5, detection, association)


def _frames(predicted: Iterable[Point], true: Iterable[Point]) -> list[tuple[list[Point], list[Point]]]:
    """(predicted, true) points of each frame; an object that stands twice in one counts once."""
    truth: dict[float, dict[int, Point]] = {}
    for point in true:
        truth.setdefault(point.at, {}).setdefault(point.object_id, point)
    times = np.array(sorted(truth))
    ours: dict[float, dict[int, Point]] = {time: {} for time in truth}
    for point in predicted:
        nearest = float(times[np.argmin(abs(times - point.at))]) if len(times) else point.at
        frame = nearest if abs(nearest - point.at) <= SAME_FRAME_S else point.at
        ours.setdefault(frame, {}).setdefault(point.object_id, point)
    return [(list(marks.values()), list(truth.get(time, {}).values())) for time, marks in sorted(ours.items())]


def _indices(points: Iterable[Point]) -> dict[int, int]:
    """A number from 0 for each object, in order of appearance."""
    return {object_id: index for index, object_id in enumerate(dict.fromkeys(point.object_id for point in points))}


def _is_near(one: Point, other: Point, near: float) -> bool:
    return (one.x - other.x) ** 2 + (one.y - other.y) ** 2 <= near**2
