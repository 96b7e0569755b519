"""Recall among the first windows of an answer at any IoU, and mean average precision, by this project's own rules."""

from collections.abc import Sequence

import numpy as np

from vtg.evaluation.presets.case import Case, Window
from vtg.evaluation.presets.mean_ap import THRESHOLDS, average_precisions
from vtg.evaluation.presets.overlap import hull_ious

RECALLS = (1, 5)
DEFAULT_IOUS = (0.1, 0.3, 0.5, 0.7, 0.9)


def ranked_metrics(cases: Sequence[Case], thresholds: Sequence[float] = DEFAULT_IOUS) -> dict[str, float]:
    """R1@t, R5@t (IoU >= t with any true window), and mAP over IoUs .5 to .95, in percent.

    Windows rank by score, or as listed without one; every question with a moment counts. Nothing where none has one.
    """
    cases = [case for case in cases if case.truth]
    if not cases:
        return {}
    ranked = [_ranked(case) for case in cases]
    best = {recall: np.array([_best(windows[:recall], case.truth) for windows, case in zip(ranked, cases, strict=True)])
            for recall in RECALLS}  # fmt: skip
    result = {
        f"R{recall}@{at:g}": 100 * float((ious >= at).mean()) for recall, ious in best.items() for at in thresholds
    }
    precisions = average_precisions(ranked, [case.truth for case in cases])
    result["mAP"] = 100 * float(precisions.mean())
    for at in (0.5, 0.75):
        result[f"mAP@{at}"] = 100 * float(precisions[:, THRESHOLDS.index(at)].mean())
    return result


def _ranked(case: Case) -> list[Window]:
    """Windows that are one, the best first."""
    row = case.given[-1] if case.given else None
    if row is None or not row.windows:
        return []
    scores = row.scores or [0.0] * len(row.windows)
    order = sorted(range(len(row.windows)), key=lambda at: -scores[at] if scores[at] == scores[at] else np.inf)
    # A window with NaN matches in average precision as the official scripts compute it; by these rules it cannot.
    return [row.windows[at] for at in order if row.windows[at][0] < row.windows[at][1]]


def _best(windows: Sequence[Window], truth: Sequence[Window]) -> float:
    if not windows or not truth:
        return 0.0
    return float(hull_ious(np.array(windows)[:, None], np.array(truth)[None]).max())
