"""Scores of answers that are sets of windows, where a question may have several moments."""

import math
from collections.abc import Sequence

import numpy as np

from vtg.evaluation.presets.case import Window
from vtg.evaluation.presets.overlap import hull_ious
from vtg.tasks.matching import most_pairs
from vtg.tasks.wasserstein import wasserstein_s

THRESHOLDS = (0.3, 0.5, 0.7)


def set_metrics(predicted: Sequence[Sequence[Window]], truths: Sequence[Sequence[Window]]) -> dict[str, float]:
    """F1@t: twice the matched pairs over all windows, by the largest one-to-one matching with IoU >= t; the share of
    answers with the right count; W1: the distance in seconds that windows' seconds have to move, spread evenly over
    each set (of answers that have a window). Means over questions; shares in percent.
    """
    f1 = np.zeros((len(predicted), len(THRESHOLDS)))
    counted, distances = np.zeros(len(predicted)), []
    for at, (windows, truth) in enumerate(zip(predicted, truths, strict=True)):
        valid = [window for window in windows if math.isfinite(window[0] + window[1]) and window[0] < window[1]]
        counted[at] = len(valid) == len(truth)
        if valid and truth:
            ious = hull_ious(np.array(valid)[:, None], np.array(truth)[None])
            pairs = [most_pairs([np.flatnonzero(row).tolist() for row in ious >= each]) for each in THRESHOLDS]
            f1[at] = [2 * count / (len(valid) + len(truth)) for count in pairs]
            distances.append(wasserstein_s(valid, truth))
    result = {f"F1@{at}": 100 * float(f1[:, column].mean()) for column, at in enumerate(THRESHOLDS)}
    result["count_accuracy"] = 100 * float(counted.mean())
    return result | ({"W1_s": float(np.mean(distances))} if distances else {})
