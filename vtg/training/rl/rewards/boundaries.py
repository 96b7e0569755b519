"""Rewards that also weigh how far the boundaries are off, so that an answer beside the moment still shows a direction.

With several moments, starts, ends and centres are those of the hull.
"""

from vtg.tasks.iou import set_iou
from vtg.training.rl.rewards.completion import Completion, hull, length_s


def timestamp_aware_iou(completion: Completion) -> float:
    """IoU * (1 - |start error| / duration) * (1 - |end error| / duration), in [0, 1]: Time-R1 (arXiv:2503.13377)."""
    if not completion.predicted or not completion.truth:
        return float(completion.is_right_none)
    predicted, truth = hull(completion.predicted), hull(completion.truth)
    reward = set_iou(completion.predicted, completion.truth)
    for guess_s, true_s in zip(predicted, truth, strict=True):
        # Clamped at 0: two negative factors would multiply to a positive reward.
        reward *= max(0.0, 1 - abs(guess_s - true_s) / completion.duration_s)
    return reward


def giou(completion: Completion) -> float:
    """IoU - gap / hull of both, in (-1, 1]; -1 where only one of answer and truth has a moment, or nothing is answered.

    The gap is the time between the hulls of what is predicted and what is true, 0 where these meet: GIoU
    (arXiv:1902.09630) in one dimension.
    """
    if not completion.predicted or not completion.truth:
        # No more than the farthest answer: unreadable text must not pay better than a wrong span.
        return 1.0 if completion.is_right_none else -1.0
    predicted, truth = hull(completion.predicted), hull(completion.truth)
    gap_s = max(0.0, max(predicted[0], truth[0]) - min(predicted[1], truth[1]))
    return set_iou(completion.predicted, completion.truth) - gap_s / length_s(hull([predicted, truth]))


def diou(completion: Completion) -> float:
    """IoU - (distance of the centres / hull of both)^2, in (-1, 1]; -1 as of `giou`.

    DIoU (arXiv:1911.08287) in one dimension.
    """
    if not completion.predicted or not completion.truth:
        return 1.0 if completion.is_right_none else -1.0
    predicted, truth = hull(completion.predicted), hull(completion.truth)
    distance_s = abs(sum(predicted) - sum(truth)) / 2
    return set_iou(completion.predicted, completion.truth) - (distance_s / length_s(hull([predicted, truth]))) ** 2
