"""Average precision of ranked windows against several true ones, as the detection evaluators of ActivityNet, MMAction2
and standalone_eval define it, for all queries at once.

Each window, best score first, takes the free true window it overlaps most, if that IoU reaches the threshold; average
precision is the area under the interpolated curve.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vtg.evaluation.presets.case import Window
from vtg.evaluation.presets.overlap import Floats, length_ious

THRESHOLDS = tuple(float(f"{threshold:.2f}") for threshold in np.linspace(0.5, 0.95, 10))

PAIRWISE = 8

# Queries x windows x true windows x thresholds held at once: about 100 MB.
MAX_CELLS = 4_000_000


def average_precisions(
    ranked: Sequence[Sequence[Window]], truths: Sequence[Sequence[Window]], thresholds: Sequence[float] = THRESHOLDS
) -> Floats:
    """Average precision `(N, thresholds)` of N queries; `ranked` has the best window first. 0 for no windows."""
    result = np.zeros((len(ranked), len(thresholds)))
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for at, (windows, truth) in enumerate(zip(ranked, truths, strict=True)):
        if windows and truth:
            groups[len(windows), len(truth)].append(at)
    # Queries with equal counts need no padding, and the sort below gives the official order of equal IoUs.
    for (windows, truth), members in groups.items():
        chunk = max(1, MAX_CELLS // (windows * truth * len(thresholds)))
        for begin in range(0, len(members), chunk):
            part = members[begin : begin + chunk]
            predicted = np.array([ranked[at] for at in part], dtype=np.float64)
            true = np.array([truths[at] for at in part], dtype=np.float64)
            ious = length_ious(predicted[:, :, None], true[:, None])
            result[part] = _areas(_hits(ious, np.asarray(thresholds)), truth)
    return result


def _hits(ious: Floats, thresholds: Floats) -> NDArray[np.bool_]:
    """Which window takes a true one, `(N, windows, thresholds)`, from IoUs `(N, windows, truth)`."""
    queries, windows, truth = ious.shape
    free = np.ones((queries, len(thresholds), truth), dtype=bool)
    hits = np.zeros((queries, windows, len(thresholds)), dtype=bool)
    # The same sort as the official script's, turned round: of equal IoUs the later true window comes first.
    order = np.argsort(ious, axis=-1)[..., ::-1]
    for window in range(windows):
        open_to = np.ones((queries, len(thresholds)), dtype=bool)
        for rank in range(truth):
            at = order[:, window, rank]
            iou = np.take_along_axis(ious[:, window], at[:, None], axis=1)
            # `not <`, since the official comparison lets a NaN pass.
            open_to &= ~(iou < thresholds)
            takes = open_to & np.take_along_axis(free, at[:, None, None], axis=2)[..., 0]
            np.put_along_axis(
                free, at[:, None, None], (np.take_along_axis(free, at[:, None, None], 2)[..., 0] & ~takes)[..., None], 2
            )
            hits[:, window] |= takes
            open_to &= ~takes
            if not open_to.any():
                break
    return hits


def _areas(hits: NDArray[np.bool_], truth: int) -> Floats:
    """Area under the interpolated curves of hits `(N, windows, thresholds)`: `(N, thresholds)`."""
    found = np.cumsum(hits, axis=1)
    precision = found / np.arange(1, hits.shape[1] + 1)[None, :, None]
    interpolated = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = found / float(truth)
    terms = np.diff(recall, axis=1, prepend=0.0) * interpolated
    areas = terms.sum(axis=1)
    # numpy adds eight numbers and more in another order, which the official sum over the hits alone goes through.
    for query, threshold in zip(*np.nonzero(found[:, -1] + 1 >= PAIRWISE), strict=True):
        chosen = terms[query, hits[query, :, threshold], threshold]
        rest = [0.0] if recall[query, -1, threshold] != 1 else []
        areas[query, threshold] = np.sum(np.concatenate([chosen, rest]))
    return areas
