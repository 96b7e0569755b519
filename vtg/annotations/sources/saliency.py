"""Scores of shots, or moments without an end, as spans: what highlight detection publishes in place of spans."""

from collections.abc import Sequence
from itertools import pairwise

# Summaries of TVSum are as long as this share of the video (Song et al., CVPR 2015), and so are its highlights here.
SUMMARY_SHARE = 0.15


def best_shots(scores: Sequence[float], *, shot_s: float, share: float = SUMMARY_SHARE) -> list[list[float]]:
    """Spans in seconds of the best-scored shots, neighbours joined: so many shots as `share` holds, one at least.

    Shots that score as the last of these are in as well, so that the order of equals does not matter.
    """
    count = max(1, round(share * len(scores)))
    least = sorted(scores, reverse=True)[count - 1]
    return _joined([[at * shot_s, (at + 1) * shot_s] for at, score in enumerate(scores) if score >= least])


def spans_of_points(times_s: Sequence[float]) -> list[list[float]]:
    """Spans of sampled moments: each lasts until the next sample, which is the smallest distance between two of them.

    A lone moment lasts a second.
    """
    times = sorted(set(times_s))
    # To the millisecond: differences of decimals are not exact, and neighbours would not join.
    gaps = [round(later - earlier, 3) for earlier, later in pairwise(times)]
    step = min(gaps, default=1.0)
    return _joined([[time, round(time + step, 3)] for time in times])


def _joined(spans: list[list[float]]) -> list[list[float]]:
    joined: list[list[float]] = []
    for start, end in spans:
        if joined and start <= joined[-1][1] + 1e-3:
            joined[-1][1] = max(end, joined[-1][1])
        else:
            joined.append([start, end])
    return joined
