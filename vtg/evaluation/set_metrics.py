"""Scores of answers that are sets of windows, where a question may have several moments or none."""

import math
from collections.abc import Sequence

import numpy as np

from vtg.evaluation.presets.case import Window
from vtg.evaluation.presets.overlap import hull_ious
from vtg.tasks.matching import most_pairs
from vtg.tasks.wasserstein import wasserstein_s

THRESHOLDS = (0.3, 0.5, 0.7)


def set_metrics(predicted: Sequence[Sequence[Window] | None], truths: Sequence[Sequence[Window]]) -> dict[str, float]:
    """F1@t: twice the matched pairs over all windows, by the largest one-to-one matching with IoU >= t, and 1 for no
    window where there is none; count_accuracy: the share of answers with the right count; W1_s: the distance in seconds
    that windows' seconds have to move, spread evenly over each set (of answers that have a window). Means over
    questions; shares in percent.

    Where some question has no moment, none_recall: the share of those questions that are answered by no window; and
    where some are answered so, none_precision: the share of those answers that is right.

    Args:
        predicted: None is no answer, or one that cannot be read: it is never right.
    """
    f1 = np.zeros((len(predicted), len(THRESHOLDS)))
    counted, distances = np.zeros(len(predicted)), []
    for at, (windows, truth) in enumerate(zip(predicted, truths, strict=True)):
        if windows is None:
            continue
        if not len(windows) and not len(truth):
            counted[at] = f1[at] = 1.0
            continue
        valid = [window for window in windows if math.isfinite(window[0] + window[1]) and window[0] < window[1]]
        counted[at] = len(valid) == len(truth) > 0
        if valid and truth:
            ious = hull_ious(np.array(valid)[:, None], np.array(truth)[None])
            pairs = [most_pairs([np.flatnonzero(row).tolist() for row in ious >= each]) for each in THRESHOLDS]
            f1[at] = [2 * count / (len(valid) + len(truth)) for count in pairs]
            distances.append(wasserstein_s(valid, truth))
    result = {f"F1@{at}": 100 * float(f1[:, column].mean()) for column, at in enumerate(THRESHOLDS)}
    result["count_accuracy"] = 100 * float(counted.mean())
    return result | ({"W1_s": float(np.mean(distances))} if distances else {}) | _none_metrics(predicted, truths)


def _none_metrics(predicted: Sequence[Sequence[Window] | None], truths: Sequence[Sequence[Window]]) -> dict[str, float]:
    absent = np.array([not len(truth) for truth in truths], dtype=bool)
    if not absent.any():
        return {}
    none = np.array([windows is not None and not len(windows) for windows in predicted], dtype=bool)
    metrics = {"none_recall": 100 * float(none[absent].mean())}
    return metrics | ({"none_precision": 100 * float(absent[none].mean())} if none.any() else {})
