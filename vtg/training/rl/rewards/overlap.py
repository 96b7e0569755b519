"""How many seconds of the answer are right: IoU of the seconds covered, and their precision, recall and F1."""

from collections.abc import Iterable

from vtg.annotations.target import Span
from vtg.tasks.iou import set_iou
from vtg.training.rl.rewards.completion import Completion, length_s

MEASURES = ("precision", "recall", "f1")


def temporal_iou(completion: Completion, *, threshold: float = 0.0, binary: bool = False, scale: float = 1.0) -> float:
    """IoU times `scale`, in [0, scale]; 0 below `threshold`; with `binary`, `scale` for all that reach the threshold.

    No overlap is worth 0 even at threshold 0.
    """
    iou = 1.0 if completion.is_right_none else set_iou(completion.predicted, completion.truth)
    # Without `iou == 0`, a binary reward at the default threshold 0 would pay for every answer, however wrong.
    if iou == 0 or iou < threshold:
        return 0.0
    return scale * (1.0 if binary else iou)


def segment_overlap(completion: Completion, *, measure: str = "f1") -> float:
    """Seconds that are both predicted and true, in [0, 1].

    `precision`: as a share of the predicted seconds, `recall`: of the true ones, `f1`: their harmonic mean.
    """
    if completion.is_right_none:
        return 1.0
    # Recall alone teaches to answer with the whole video, which has recall 1: `warnings_of` says so.
    predicted, truth = union(completion.predicted), union(completion.truth)
    both_s = sum(max(0.0, min(p[1], t[1]) - max(p[0], t[0])) for p in predicted for t in truth)
    if both_s == 0:
        return 0.0
    of_s = {"precision": _seconds(predicted), "recall": _seconds(truth)}
    of_s["f1"] = (of_s["precision"] + of_s["recall"]) / 2
    # Rounding of the sums can lift a perfect answer above 1, and the range is promised.
    return min(1.0, both_s / of_s[measure])


def union(spans: Iterable[Span]) -> list[Span]:
    """The same seconds as sorted spans that do not touch, so that no second counts twice."""
    union: list[Span] = []
    for start, end in sorted(spans):
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], end))
        else:
            union.append((start, end))
    return union


def _seconds(spans: Iterable[Span]) -> float:
    return sum(map(length_s, spans))
