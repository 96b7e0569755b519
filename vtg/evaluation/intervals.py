"""How sure a score is: bootstrap intervals, videos drawn whole, of one run, the difference of two, and their ratio.

Questions about one video share what makes it hard, so drawing questions one by one gives intervals that are too narrow.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtg.evaluation.metrics import Interval

RESAMPLES = 2000
# Draws held at once: 64 MB of indices.
MAX_DRAWS = 8_000_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ratio:
    """A ratio of means, and the interval that holds it with the asked confidence."""

    ratio: float
    low: float
    high: float


def video_bootstrap(
    values: Floats, videos: Sequence[str], *, resamples: int = RESAMPLES, confidence: float = 95.0, seed: int = 0
) -> list[Interval]:
    """Percentile intervals of the means of `values`, `(N, measurements)`, whose rows belong to `videos`, `(N,)`.

    A row with NaN is left out. Below two videos the bounds are NaN: one does not say how far others are from it.
    Raises ValueError where no row is left.
    """
    whole = np.isfinite(values).all(axis=1)
    values = values[whole]
    if not len(values):
        raise ValueError("no question is left to draw from: the rules leave all of them out")
    drawn_from = np.array(videos, dtype=object)[whole]
    if len(set(drawn_from)) < 2:
        return [Interval(float(mean), math.nan, math.nan) for mean in values.mean(axis=0)]
    means = _resampled_means(values, drawn_from, resamples=resamples, seed=seed)
    return [
        Interval(*map(float, triple)) for triple in zip(values.mean(axis=0), *_bounds(means, confidence), strict=True)
    ]


def finite_bounds(intervals: Mapping[str, Interval]) -> dict[str, list[float]]:
    """[low, high] of each measurement that has an interval."""
    return {name: [one.low, one.high] for name, one in intervals.items() if math.isfinite(one.low)}


def bounds_text(bounds: Sequence[float] | None) -> str:
    """An interval for a table; `-` where there is none."""
    return "-" if bounds is None else f"{bounds[0]:.2f} - {bounds[1]:.2f}"


def ratio_bootstrap(
    values: Floats,
    reference: Floats,
    videos: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    confidence: float = 95.0,
    seed: int = 0,
) -> Ratio:
    """The mean of `values`, `(N,)`, over that of `reference`, and its percentile interval; `videos`: whose they are.

    Both are drawn together, so that a video that is hard for both says nothing about the ratio. NaN where the mean of
    the reference is 0, and for the bounds where that of any draw is, or there are fewer than two videos.
    """
    columns = np.stack([values, reference], axis=1)
    ratio = float(_quotients(columns.mean(axis=0)[None])[0])
    if len(set(videos)) < 2:
        return Ratio(ratio, math.nan, math.nan)
    means = _resampled_means(columns, np.array(videos, dtype=object), resamples=resamples, seed=seed)
    return Ratio(ratio, *map(float, _bounds(_quotients(means), confidence)))


def _quotients(means: Floats) -> Floats:
    """`(draws,)`: the first of two columns over the second; NaN where that is 0."""
    return np.divide(means[:, 0], means[:, 1], out=np.full(len(means), np.nan), where=means[:, 1] != 0)


def _resampled_means(values: Floats, videos: NDArray[np.object_], *, resamples: int, seed: int) -> Floats:
    """`(resamples, measurements)`: means over as many videos as there are, drawn with replacement."""
    _, group = np.unique(videos.astype(str), return_inverse=True)
    count = np.bincount(group).astype(np.float64)
    sums = np.stack([np.bincount(group, weights=column) for column in values.T], axis=1)
    rng = np.random.default_rng(seed)
    means = []
    chunk = max(1, MAX_DRAWS // len(count))
    for done in range(0, resamples, chunk):
        drawn = rng.integers(0, len(count), size=(min(chunk, resamples - done), len(count)))
        # Videos differ in their number of questions, so the denominator is drawn with them.
        means.append(sums[drawn].sum(axis=1) / count[drawn].sum(axis=1)[:, None])
    return np.concatenate(means)


def _bounds(draws: Floats, confidence: float) -> Floats:
    return np.percentile(draws, [50 - confidence / 2, 50 + confidence / 2], axis=0)
