"""IoU as evaluators compute it: by the hull or by lengths, which differ in the last bit, at thresholds and for reversed
windows. `vtg.tasks.iou` is the project's own; a preset needs the bits of the script whose numbers it gives.

Windows are `(..., 2)` in seconds.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def hull_ious(a: Floats, b: Floats) -> Floats:
    """Overlap over hull, element by element: `(..., 2)` with `(..., 2)` gives `(...)`; 0 where the hull is empty."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        overlap = np.maximum(np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0]), 0.0)
        hull = np.maximum(a[..., 1], b[..., 1]) - np.minimum(a[..., 0], b[..., 0])
        # A reversed pair has a negative hull, and no overlap: 0, not -0.
        ious = np.divide(overlap, hull, out=np.zeros_like(hull), where=(hull > 0) & (overlap > 0))
    # Two infinite ends overlap by infinity over infinity.
    return np.nan_to_num(ious, nan=0.0, posinf=0.0, neginf=0.0)


def length_ious(a: Floats, b: Floats) -> Floats:
    """Overlap over the sum of lengths less the overlap; NaN where that is 0 over 0, and for windows with NaN."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        overlap = np.clip(np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0]), 0, None)
        return overlap / ((a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - overlap)


def best_ious(first: Floats, truths: list[list[tuple[float, float]]]) -> tuple[Floats, NDArray[np.int64]]:
    """Each window against the true one it overlaps most, `(N,)`, and which that is (the first of equals).

    The best is chosen by lengths and measured by the hull, as standalone_eval does; a NaN counts as best there, and
    measures 0 here.
    """
    counts = np.array([len(windows) for windows in truths])
    flat = np.array([window for windows in truths for window in windows], dtype=np.float64).reshape(-1, 2)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    ious = length_ious(np.repeat(first, counts, axis=0), flat)
    # Infinity ranks a NaN first, as argmax does.
    ranked = np.where(np.isnan(ious), np.inf, ious)
    best = np.maximum.reduceat(ranked, starts)
    is_best = ranked == np.repeat(best, counts)
    positions = np.where(is_best, np.arange(len(flat)), len(flat))
    at = np.minimum.reduceat(positions, starts)
    return hull_ious(first, flat[at]), at - starts
