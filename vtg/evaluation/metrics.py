"""Grounding metrics. Pure NumPy: lists of spans in, a dict of numbers out; every share is 0 to 100.

Conventions, because published numbers differ in them:
- a sample's score is the IoU of its first predicted span with the ground-truth moment it overlaps most;
- a sample without a prediction, or whose first span is reversed, empty or not finite, scores 0 and stays in the mean;
- nothing is rounded; whether R1@t counts `IoU >= t` or `IoU > t` is the preset's choice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vtg.tasks.answer import Status
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
    """`top1_ious` of rows of predictions.jsonl, by their keys `prediction` and `timestamp`."""
    return top1_ious([row_spans(row["prediction"]) for row in rows], [row_spans(row["timestamp"]) for row in rows])


def top1_ious(predictions: Sequence[Spans | None], ground_truths: Sequence[Spans]) -> NDArray[np.float64]:
    """IoU of every sample, `(N,)`: its first predicted span against the ground-truth moment it overlaps most.

    None is a sample nothing was predicted for. Raises ValueError for lists of different lengths, and for a sample
    without a ground-truth moment.
    """
    if len(predictions) != len(ground_truths):
        raise ValueError(f"{len(predictions)} predictions for {len(ground_truths)} samples: give one or None for each")
    counts = np.array([len(moments) for moments in ground_truths], dtype=np.int64)
    if not len(counts):
        return np.zeros(0)
    if not counts.all():
        raise ValueError(f"sample {int(np.argmin(counts))} has no ground-truth moment: leave it out")
    nowhere = (np.nan, np.nan)
    first = np.array([spans[0] if spans is not None and len(spans) else nowhere for spans in predictions], np.float64)
    moments = np.array([moment for moments in ground_truths for moment in moments], dtype=np.float64)
    ious = temporal_ious(np.repeat(first, counts, axis=0), moments)
    return np.maximum.reduceat(ious, np.concatenate([[0], np.cumsum(counts)[:-1]]))


def grounding_metrics(
    predictions: Sequence[Spans | None],
    ground_truths: Sequence[Spans],
    *,
    statuses: Sequence[str | None] | None = None,
    preset: str = "vtg",
) -> dict[str, float | int]:
    """R1 at the preset's thresholds, mIoU, parse_failures (shares), samples and missing (counts).

    parse_failures: the share of samples whose answer has a status other than `ok`; an answer without a status fails if
    it has no usable first span. A sample nothing was predicted for is `missing`, not a parse failure.
    set_mIoU is there where some sample has several spans: the mean IoU of all predicted with all true moments.
    Raises ValueError for no samples, an unknown preset, or lists of different lengths.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset = {preset!r}: must be one of {', '.join(PRESETS)}")
    if not len(ground_truths):
        raise ValueError("no samples to evaluate: the file of ground truth, or of predictions, is empty")
    rule = PRESETS[preset]
    ious = top1_ious(predictions, ground_truths)
    metrics: dict[str, float | int] = {
        f"R1@{threshold}": float(np.mean(rule.hits(ious, threshold))) * 100 for threshold in rule.thresholds
    }
    metrics["mIoU"] = float(np.mean(ious)) * 100
    if rule.average:
        metrics["avg"] = sum(metrics.values()) / len(metrics)
    if any(len(spans) > 1 for spans in (*ground_truths, *predictions) if spans is not None):
        pairs = zip(predictions, ground_truths, strict=True)
        overlaps = [0.0 if spans is None else set_iou(spans, truth) for spans, truth in pairs]
        metrics["set_mIoU"] = float(np.mean(overlaps)) * 100
    failed = [_failed(spans, status) for spans, status in _with_statuses(predictions, statuses)]
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


def _failed(spans: Spans | None, status: str | None) -> bool:
    if spans is None:
        return False  # nobody asked: counted as `missing`
    if status is not None:
        return status != Status.OK
    return not len(spans) or not (np.isfinite(spans[0]).all() and spans[0][0] < spans[0][1])
