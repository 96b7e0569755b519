"""One span of a score along time."""

import numpy as np


def best_span(scores: np.ndarray, edges_s: np.ndarray, *, threshold: float) -> tuple[float, float]:
    """The span over which scores above `threshold` outweigh those below most, each by the time it stands for.

    The maximum-sum interval (Kadane's algorithm in Bentley, 1984). Where no score is above, that of the highest one.

    Args:
        scores: (T,), T >= 1.
        edges_s: (T + 1,), increasing: each score is of the time between two.
    """
    gains = (scores - threshold) * np.diff(edges_s)
    if not (gains > 0).any():
        at = int(np.argmax(scores))
        return float(edges_s[at]), float(edges_s[at + 1])
    best = total = 0.0
    first, span = 0, (0, 1)
    for at, gain in enumerate(gains.tolist()):
        if total <= 0:
            total, first = 0.0, at
        total += gain
        if total > best:
            best, span = total, (first, at + 1)
    return float(edges_s[span[0]]), float(edges_s[span[1]])
