"""Boundaries of a signal over time, and how many of them are true ones."""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def pick_peaks(times_s: np.ndarray, scores: np.ndarray, *, threshold: float, min_gap_s: float) -> np.ndarray:
    """(P,) indices, in order of time, of scores above `threshold`, the highest of those nearer than `min_gap_s`.

    Args:
        times_s, scores: (N,), times increasing.
    """
    taken_s: list[float] = []
    chosen: list[int] = []
    # The highest first: a lower one beside it is the same change, seen a little before or after.
    for at in np.argsort(-scores, kind="stable"):
        if not scores[at] > threshold:
            break
        time_s = float(times_s[at])
        place = bisect_left(taken_s, time_s)
        if all(abs(time_s - near_s) >= min_gap_s for near_s in taken_s[max(0, place - 1) : place + 1]):
            insort(taken_s, time_s)
            chosen.append(int(at))
    return np.array(sorted(chosen), dtype=np.int64)


def uniform_cuts(count: int, duration_s: float) -> list[float]:
    """The times of so many cuts that part a video evenly."""
    return [duration_s * (at + 1) / (count + 1) for at in range(count)]


@dataclass(frozen=True)
class BoundaryCounts:
    """Found boundaries, true ones, and how many of both are the same. Sums are over videos.

    Attributes:
        hits: pairs of a found and a true one, each in one pair at most.
    """

    found: int = 0
    true: int = 0
    hits: int = 0

    @classmethod
    def of(cls, found_s: Sequence[float], true_s: Sequence[float], *, tolerance_s: float) -> "BoundaryCounts":
        """Of one video: as many pairs as can be made of times no further apart than `tolerance_s`."""
        found, true = sorted(found_s), sorted(true_s)
        hits = at = 0
        # In order of time: the first true one in reach may be taken, as it is the one that later ones reach least.
        for time_s in found:
            while at < len(true) and true[at] < time_s - tolerance_s:
                at += 1
            if at < len(true) and true[at] <= time_s + tolerance_s:
                hits, at = hits + 1, at + 1
        return cls(len(found), len(true), hits)

    def __add__(self, other: "BoundaryCounts") -> "BoundaryCounts":
        return BoundaryCounts(self.found + other.found, self.true + other.true, self.hits + other.hits)

    @property
    def precision(self) -> float:
        """Of those found; 0 where none is."""
        return self.hits / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """Of the true ones; 0 where there is none."""
        return self.hits / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        """Their harmonic mean."""
        return 2 * self.hits / (self.found + self.true) if self.found + self.true else 0.0
