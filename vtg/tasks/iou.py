"""Temporal IoU, in one place: rewards, metrics and pictures all measure overlap with these functions.

A span is `(start, end)` in seconds. A degenerate span (`end <= start`, or a bound that is not finite) overlaps nothing,
so it scores 0 against everything, itself included; nothing here raises on what a model wrote.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def temporal_ious(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """IoU of spans, element by element under broadcasting: `(..., 2)` with `(..., 2)` gives `(...)`, values in [0, 1].

    All pairs of `(N, 2)` with `(M, 2)`: `temporal_ious(a[:, None], b[None])`.
    Where two spans overlap their union is their hull, and the hull needs no sum: equal spans give exactly 1.0.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # huge and non-finite bounds are dealt with by `valid`
        overlap = np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0])
        hull = np.maximum(a[..., 1], b[..., 1]) - np.minimum(a[..., 0], b[..., 0])
        valid = (a[..., 1] > a[..., 0]) & (b[..., 1] > b[..., 0]) & (overlap > 0) & np.isfinite(hull)
    return np.divide(overlap, hull, out=np.zeros_like(hull), where=valid)


def temporal_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """IoU of two spans."""
    return float(temporal_ious(a, b))


def set_iou(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> float:
    """IoU of two sets of spans: seconds covered by both over seconds covered by either.

    Overlapping spans of one set count once, so the order and any splitting of the moments do not matter.
    """
    if len(a) == 1 and len(b) == 1:
        return temporal_iou(a[0], b[0])
    a_edges, b_edges = _valid(a), _valid(b)
    if not len(a_edges) or not len(b_edges):
        return 0.0
    edges = np.unique(np.concatenate([a_edges.ravel(), b_edges.ravel()]))
    in_a, in_b = _covers(a_edges, edges[:-1]), _covers(b_edges, edges[:-1])
    lengths_s = np.diff(edges)
    return float(lengths_s[in_a & in_b].sum() / lengths_s[in_a | in_b].sum())


def _valid(spans: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """The spans that are not degenerate, `(N, 2)`."""
    array = np.asarray(spans, dtype=np.float64).reshape(-1, 2)
    return array[np.isfinite(array).all(axis=1) & (array[:, 1] > array[:, 0])]


def _covers(spans: NDArray[np.float64], starts_s: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the stretch that begins at each of `starts_s` (all edges are among them) lies in one of the spans."""
    started = np.searchsorted(np.sort(spans[:, 0]), starts_s, side="right")
    ended = np.searchsorted(np.sort(spans[:, 1]), starts_s, side="right")
    return started > ended
