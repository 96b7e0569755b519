"""Rewards of answers with several moments: how many are right, how many there are, and their order."""

from itertools import pairwise

from vtg.tasks.iou import temporal_ious
from vtg.tasks.matching import most_pairs
from vtg.training.rl.rewards.completion import Completion


def matched_f1(completion: Completion, *, threshold: float = 0.5) -> float:
    """F1 of moments, in [0, 1]: predicted and true ones matched one to one at IoU >= `threshold` (and above 0).

    The matching is a maximum one: no other has more pairs.
    """
    predicted, truth = completion.predicted, completion.truth
    if not predicted or not truth:
        return float(completion.is_right_none)
    ious = temporal_ious([[moment] for moment in truth], [predicted])
    # `iou > 0`: at threshold 0 two moments that share no second must not make a pair.
    candidates = [[j for j, iou in enumerate(row) if iou > 0 and iou >= threshold] for row in ious.tolist()]
    return 2 * most_pairs(candidates) / (len(predicted) + len(truth))


def moment_count(completion: Completion) -> float:
    """1 where as many moments are predicted as are true, else 1 - |difference| / the larger of both; in [0, 1]."""
    predicted, true = len(completion.predicted), len(completion.truth)
    if not true:  # an answer that cannot be read predicts none too
        return float(completion.is_right_none)
    return 1 - abs(predicted - true) / max(predicted, true)


def step_consistency(completion: Completion) -> float:
    """1 for moments that start before they end, lie inside the clip and follow one another without overlap, else 0.

    1 for a right "none" too. Where annotated moments overlap each other, the truth itself gets 0: leave this reward out
    for such data.
    """
    # The parser already refuses spans that end before they start or leave the clip; only their order is left to check.
    spans = completion.predicted
    in_order = bool(spans) and all(before[1] <= after[0] for before, after in pairwise(spans))
    return float(in_order or completion.is_right_none)
