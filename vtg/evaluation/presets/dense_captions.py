"""Where the events of dense captions are found: precision and recall of all windows of a video, after TimeChat's
eval_dvc.py (the scores of the captions' words are not computed: METEOR needs Java).
"""

from collections.abc import Sequence

import numpy as np

from vtg.evaluation.presets.case import Case, Findings, Scores, Window

THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
# Added to the union there, so that two empty windows divide by something.
EPSILON = 1e-8


def localization_scores(cases: Sequence[Case]) -> Scores:
    """Means over videos, in shares of 1: precision and recall at each IoU, their means, and F1 of these means."""
    findings: Findings = {}
    precision = np.zeros((len(cases), len(THRESHOLDS)))
    recall = np.zeros_like(precision)
    counts = np.zeros(len(cases))
    best = np.zeros(len(cases))
    for at, case in enumerate(cases):
        if not case.truth:
            raise ValueError(f"{case.place}: {case.name} has no true window; leave such videos out of the ground truth")
        windows = case.given[-1].windows if case.given else None
        if not windows:
            findings.setdefault("missing", []).append(case.name)
            continue
        ious = _ious(windows, case.truth)
        hits = ious[..., None] > np.array(THRESHOLDS)
        precision[at], recall[at] = hits.any(axis=1).mean(axis=0), hits.any(axis=0).mean(axis=0)
        counts[at] = len(windows)
        best[at] = ious.max(axis=0).mean()
    mean_precision, mean_recall = precision.mean(axis=1), recall.mean(axis=1)
    total = mean_precision + mean_recall
    f1 = np.divide(2 * mean_precision * mean_recall, total, out=np.zeros_like(total), where=total > 0)
    printed: dict[str, float | int] = {}
    for column, threshold in enumerate(THRESHOLDS):
        printed[f"Precision@{threshold}"] = float(precision[:, column].mean())
        printed[f"Recall@{threshold}"] = float(recall[:, column].mean())
    printed |= {"Precision_Mean": float(mean_precision.mean()), "Recall_Mean": float(mean_recall.mean())}
    printed |= {"F1_Score": float(f1.mean()), "n_preds": float(counts.mean()), "videos": len(cases)}
    return Scores(printed, best.tolist(), {"F1": 100 * float(f1.mean())}, findings, decimals=4)


def _ious(windows: Sequence[Window], truth: Sequence[Window]) -> np.ndarray:
    """IoU `(windows, truth)`, ends in order; the union is at most the sum of both lengths."""
    a, b = np.sort(np.array(windows, dtype=np.float64)), np.sort(np.array(truth, dtype=np.float64))
    start, end = a[:, None], b[None]
    overlap = np.maximum(np.minimum(start[..., 1], end[..., 1]) - np.maximum(start[..., 0], end[..., 0]), 0)
    hull = np.maximum(start[..., 1], end[..., 1]) - np.minimum(start[..., 0], end[..., 0])
    lengths = np.diff(a)[:, 0][:, None] + np.diff(b)[:, 0][None]
    return overlap / (np.minimum(hull, lengths) + EPSILON)
