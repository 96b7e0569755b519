"""Published rewards of answers that are sets of moments; they rank answers which miss the truth altogether, too."""

import math

import numpy as np
from numpy.typing import NDArray

from vtg.annotations.target import Span
from vtg.tasks.wasserstein import wasserstein_s
from vtg.training.rl.rewards.completion import Completion, length_s
from vtg.training.rl.rewards.overlap import union


def wasserstein(completion: Completion, *, beta: float = 1.0) -> float:
    """exp(-`beta` * W1 / seconds that are true), in [0, 1]; 0 for an answer that is not `ok`.

    W1 is how far the predicted seconds would have to move to become the true ones, each spread evenly over its own set;
    seconds named twice count once. From TimeLens2 (arXiv:2607.17423; `temporal_wasserstein_reward` in
    grpo/timelens/rewards/metrics.py of github.com/MCG-NJU/TimeLens2), which trains with `beta` 1.
    """
    predicted, truth = union(completion.predicted), union(completion.truth)
    if not predicted or not truth:
        return float(completion.is_right_none)
    # The true seconds alone: were the predicted ones in it too, a broader answer would be forgiven more.
    return math.exp(-beta * wasserstein_s(predicted, truth) / sum(map(length_s, truth)))


def soft_iou(completion: Completion) -> float:
    """Mean signed IoU of moments matched one to one in order of time, in [-1, 1]; -1 for an answer that is not `ok`.

    Signed: two moments that do not meet get -(gap between them) / (hull of both) instead of 0, the soft IoU of TAR-TVG
    (arXiv:2508.07683). For sets (ours): of all matchings in order of time the one with the largest sum; each moment
    without a partner counts as -1, so that to leave one out or to add one is never free.
    """
    if not completion.predicted or not completion.truth:
        return 1.0 if completion.is_right_none else -1.0
    scores = _signed_ious(completion.predicted, completion.truth)
    fewer, more = sorted(scores.shape)
    best = np.zeros(more + 1)  # of the first j moments of the longer side, once the rows so far have theirs
    for row in scores if len(scores) == fewer else scores.T:
        best = np.concatenate([[-math.inf], np.maximum.accumulate(best[:-1] + row)])
    return float(best[-1] - (more - fewer)) / more


def ordered_giou(completion: Completion) -> float:
    """Mean of (1 + GIoU) / 2 of the k-th predicted with the k-th true moment, in [0, 1]; 0 for one without a partner.

    The local matching of MUSEG (arXiv:2505.20715; `reward_local_matching` of src/train.py, github.com/THUNLP-MT/MUSEG).
    Here both sides are sorted by start first, as TimeLens2's `ngiou` does; MUSEG takes them as they are written.
    """
    if not completion.predicted or not completion.truth:
        return float(completion.is_right_none)
    scores = _signed_ious(completion.predicted, completion.truth)
    return float((1 + np.diagonal(scores)).sum()) / 2 / max(scores.shape)


def _signed_ious(predicted: tuple[Span, ...], truth: tuple[Span, ...]) -> NDArray[np.float64]:
    """(predicted, true) in order of time: IoU, or minus the gap over the hull; in one dimension that is GIoU."""
    a, b = np.array(sorted(predicted))[:, None], np.array(sorted(truth))[None]
    overlap_s = np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0])
    return overlap_s / (np.maximum(a[..., 1], b[..., 1]) - np.minimum(a[..., 0], b[..., 0]))
