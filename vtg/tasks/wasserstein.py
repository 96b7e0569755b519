"""Wasserstein distance of sets of moments: how far the seconds of one must move to lie where the other has its own."""

from collections.abc import Sequence

import numpy as np

from vtg.annotations.target import Span


def wasserstein_s(a: Sequence[Span], b: Sequence[Span]) -> float:
    """W1 in seconds between the uniform distributions over two sets of windows; overlapping parts weigh double."""
    edges = np.unique(np.concatenate([np.ravel(a), np.ravel(b)]))
    # The cumulative shares are linear between edges: the area between two lines, which may cross once in each piece.
    gap = _share_before(a, edges) - _share_before(b, edges)
    left, right, width = gap[:-1], gap[1:], np.diff(edges)
    crossing = left * right < 0
    total = np.abs(left) + np.abs(right)
    area = np.where(crossing, (left**2 + right**2) / np.where(total > 0, total, 1.0), total) / 2
    return float((area * width).sum())


def _share_before(windows: Sequence[Span], times: np.ndarray) -> np.ndarray:
    """The share of all windows' seconds that lies before each time."""
    array = np.asarray(windows, dtype=np.float64)
    seconds = np.clip(times[:, None], array[None, :, 0], array[None, :, 1]) - array[None, :, 0]
    return seconds.sum(axis=1) / (array[:, 1] - array[:, 0]).sum()
