"""How sure a score is: bootstrap intervals, videos drawn whole, of one run and of the difference of two.

Questions about one video share what makes it hard, so drawing questions one by one gives intervals that are too narrow.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vtg.evaluation.metrics import Interval

RESAMPLES = 2000
# Draws held at once: 64 MB of indices.
MAX_DRAWS = 8_000_000

Floats = NDArray[np.float64]


def video_bootstrap(
    values: Floats, videos: Sequence[str], *, resamples: int = RESAMPLES, confidence: float = 95.0, seed: int = 0
) -> list[Interval]:
    """Percentile intervals of the means of `values`, `(N, measurements)`, whose rows belong to `videos`, `(N,)`.

    A row with NaN is left out. Raises ValueError where no row is left.
    """
    whole = np.isfinite(values).all(axis=1)
    values = values[whole]
    if not len(values):
        raise ValueError("no question is left to draw from: the rules leave all of them out")
    _, group = np.unique(np.array(videos, dtype=object)[whole].astype(str), return_inverse=True)
    count = np.bincount(group).astype(np.float64)
    sums = np.stack([np.bincount(group, weights=column) for column in values.T], axis=1)
    rng = np.random.default_rng(seed)
    means = []
    chunk = max(1, MAX_DRAWS // len(count))
    for done in range(0, resamples, chunk):
        drawn = rng.integers(0, len(count), size=(min(chunk, resamples - done), len(count)))
        # Videos differ in their number of questions, so the denominator is drawn with them.
        means.append(sums[drawn].sum(axis=1) / count[drawn].sum(axis=1)[:, None])
    bounds = np.percentile(np.concatenate(means), [50 - confidence / 2, 50 + confidence / 2], axis=0)
    return [Interval(*map(float, triple)) for triple in zip(values.mean(axis=0), *bounds, strict=True)]
