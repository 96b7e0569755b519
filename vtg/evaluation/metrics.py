"""Grounding metrics. Pure NumPy: lists of spans in, a dict of numbers out; every share is 0 to 100.

Conventions, because published numbers differ in them:
- a sample's score is the IoU of its first predicted span with the ground-truth moment it overlaps most; that of a
  sample without a moment is 1 for the answer that there is none, and 0 for any other;
- a sample without a prediction, or whose first span is reversed, empty or not finite, scores 0 and stays in the mean;
- nothing is rounded; whether R1@t counts `IoU >= t` or `IoU > t` is the preset's choice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vtg.evaluation.set_metrics import set_metrics
from vtg.tasks.answer import Status, is_answer
from vtg.tasks.iou import set_iou, temporal_ious

Spans = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class Preset:
    """How one evaluator turns IoUs into numbers."""

    name: str
    inclusive: bool
    average: bool = False
    thresholds: tuple[float, ...] = (0.3, 0.5, 0.7)

    @property
    def convention(self) -> str:
        """One line for reports."""
        sign = ">=" if self.inclusive else ">"
        return f"R1@t counts IoU {sign} t; first predicted span against its best ground-truth moment; no rounding"

    def hits(self, ious: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
        """Which samples count as found at `threshold`."""
        return ious >= threshold if self.inclusive else ious > threshold


PRESETS = {
    "vtg": Preset("vtg", inclusive=True),
    "timer1": Preset("timer1", inclusive=False, average=True),
}
"""`vtg` is this project's own; `timer1` is what Time-R1's evaluator prints, with its mean of the four scores."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference of means, and the interval that holds it with the asked confidence."""

    difference: float
    low: float
    high: float


def row_spans(value: Any) -> Spans:
    """The spans of a row's field: one pair, a list of pairs, or nothing."""
    if not value:
        return []
    return value if isinstance(value[0], list | tuple) else [value]


def row_ious(rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """`top1_ious` of rows of predictions.jsonl, by their keys `prediction`, `timestamp` and `status`."""
    return top1_ious(
        [row_spans(row["prediction"]) for row in rows],
        [row_spans(row["timestamp"]) for row in rows],
        statuses=[row.get("status") for row in rows],
    )


def top1_ious(
    predictions: Sequence[Spans | None],
    ground_truths: Sequence[Spans],
    *,
    statuses: Sequence[str | None] | None = None,
) -> NDArray[np.float64]:
    """IoU of every sample, `(N,)`: its first predicted span against the ground-truth moment it overlaps most.

    A sample without a moment gets 1 for an empty prediction whose status, where there is one, is `none`, else 0. None
    is a sample nothing was predicted for. Raises ValueError for lists of different lengths.
    """
    if len(predictions) != len(ground_truths):
        raise ValueError(f"{len(predictions)} predictions for {len(ground_truths)} samples: give one or None for each")
    counts = np.array([len(moments) for moments in ground_truths], dtype=np.int64)
    nowhere = (np.nan, np.nan)
    first = np.array([spans[0] if spans is not None and len(spans) else nowhere for spans in predictions], np.float64)
    moments = np.array([moment for moments in ground_truths for moment in moments], dtype=np.float64).reshape(-1, 2)
    ious = temporal_ious(np.repeat(first.reshape(-1, 2), counts, axis=0), moments)
    scores = np.zeros(len(counts))
    if (present := counts > 0).any():
        # Samples without a moment have no piece of `ious`, and reduceat would give them their neighbour's.
        scores[present] = np.maximum.reduceat(ious, np.concatenate([[0], np.cumsum(counts)[:-1]])[present])
    if not present.all():
        paired = _with_statuses(predictions, statuses)
        scores[~present] = [_says_none(*paired[at]) for at in np.flatnonzero(~present)]
    return scores


def grounding_metrics(
    predictions: Sequence[Spans | None],
    ground_truths: Sequence[Spans],
    *,
    statuses: Sequence[str | None] | None = None,
    preset: str = "vtg",
) -> dict[str, float | int]:
    """R1 at the preset's thresholds, mIoU, parse_failures (shares), samples and missing (counts).

    parse_failures: the share of samples whose answer has a status other than `ok` and `none`; an answer without a
    status fails if it has no usable first span, unless it is empty and some sample has no moment. A sample nothing was
    predicted for is `missing`, not a parse failure.
    Where some sample has no moment, or several spans, there are also set_mIoU, the mean IoU of all predicted with all
    true moments, and what `vtg.evaluation.set_metrics` counts.
    Raises ValueError for no samples, an unknown preset, or lists of different lengths.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset = {preset!r}: must be one of {', '.join(PRESETS)}")
    if not len(ground_truths):
        raise ValueError("no samples to evaluate: the file of ground truth, or of predictions, is empty")
    rule = PRESETS[preset]
    paired = _with_statuses(predictions, statuses)
    ious = top1_ious(predictions, ground_truths, statuses=statuses)
    metrics: dict[str, float | int] = {
        f"R1@{threshold}": float(np.mean(rule.hits(ious, threshold))) * 100 for threshold in rule.thresholds
    }
    metrics["mIoU"] = float(np.mean(ious)) * 100
    if rule.average:
        metrics["avg"] = sum(metrics.values()) / len(metrics)
    takes_none = any(not len(truth) for truth in ground_truths) or any(status == Status.NONE for _, status in paired)
    if takes_none or any(len(spans) > 1 for spans in (*ground_truths, *predictions) if spans is not None):
        metrics |= _of_sets(paired, ground_truths)
    failed = [_failed(spans, status, takes_none=takes_none) for spans, status in paired]
    metrics["parse_failures"] = float(np.mean(failed)) * 100
    metrics["missing"] = sum(spans is None for spans in predictions)
    metrics["samples"] = len(ious)
    return metrics


def paired_bootstrap(
    a: ArrayLike, b: ArrayLike, *, resamples: int = 10_000, confidence: float = 95.0, seed: int = 0
) -> Interval:
    """Percentile interval of mean(b) - mean(a) for two scores of the same samples, both `(N,)`.

    Samples are drawn in pairs, so that what is hard for both does not widen the interval. Raises ValueError for arrays
    that are not of one and the same length.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ValueError(f"scores of shapes {a.shape} and {b.shape}: give two arrays of one score per sample each")
    differences = b - a
    rng = np.random.default_rng(seed)
    n = len(differences)
    chunk = max(1, 1_000_000 // n)  # keeps memory flat however many samples there are
    means = [
        differences[rng.integers(0, n, size=(min(chunk, resamples - done), n))].mean(axis=1)
        for done in range(0, resamples, chunk)
    ]
    low, high = np.percentile(np.concatenate(means), [50 - confidence / 2, 50 + confidence / 2])
    return Interval(float(differences.mean()), float(low), float(high))


def _with_statuses(
    predictions: Sequence[Spans | None], statuses: Sequence[str | None] | None
) -> list[tuple[Spans | None, str | None]]:
    given = [None] * len(predictions) if statuses is None else statuses
    if len(given) != len(predictions):
        raise ValueError(f"{len(given)} statuses for {len(predictions)} predictions: give one (or None) for each")
    return list(zip(predictions, given, strict=True))


def _of_sets(paired: Sequence[tuple[Spans | None, str | None]], ground_truths: Sequence[Spans]) -> dict[str, float]:
    """The metrics of answers as sets."""
    # An answer that cannot be read has no span either, and must not pass for "none".
    sets = [
        spans if spans is not None and (len(spans) or _says_none(spans, status)) else None for spans, status in paired
    ]
    overlaps = [
        float(spans is not None and not len(spans)) if not len(truth) else set_iou(spans or (), truth)
        for spans, truth in zip(sets, ground_truths, strict=True)
    ]
    windows = [None if spans is None else [(span[0], span[1]) for span in spans] for spans in sets]
    truths = [[(span[0], span[1]) for span in truth] for truth in ground_truths]
    return {"set_mIoU": float(np.mean(overlaps)) * 100} | set_metrics(windows, truths)


def _says_none(spans: Spans | None, status: str | None) -> bool:
    """Whether an answer is that there is no moment."""
    return spans is not None and not len(spans) and status in (None, Status.NONE)


def _failed(spans: Spans | None, status: str | None, *, takes_none: bool) -> bool:
    if spans is None:
        return False  # nobody asked: counted as `missing`
    if status is not None:
        return not is_answer(status)
    if not len(spans):
        return not takes_none
    return not (np.isfinite(spans[0]).all() and spans[0][0] < spans[0][1])
