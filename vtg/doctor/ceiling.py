"""Score ceilings: the best that a perfect model can reach, given the answer form and the sampled frames.

A model can neither write a time between two steps of its answer form nor see an event begin between two frames. Here
the ground truth is rounded to both and scored against itself.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from vtg.annotations.sample import Sample
from vtg.annotations.target import Span
from vtg.evaluation.metrics import grounding_metrics
from vtg.tasks.all_tasks import SPAN
from vtg.tasks.iou import temporal_ious
from vtg.tasks.span_task import SpanTask

# Metrics of a single answer: ranked ones would ask for more answers than a ceiling has.
SHOWN = ("R1@0.3", "R1@0.5", "R1@0.7", "mIoU", "samples")

Scores = dict[str, float | int]


def ceilings(
    samples: Sequence[Sample], *, task: SpanTask, frame_times_s: Mapping[int, np.ndarray]
) -> dict[str, Scores]:
    """Best reachable scores of spans, 0 to 100: of the `answer` form (all samples), of the `frames`, of both together.

    Args:
        frame_times_s: of those samples (by index) whose video was opened, the times (T,) of the sampled frames;
            `frames` and `both` are measured on these, and absent without any.
    """
    everything = [at for at, sample in enumerate(samples) if sample.target.task == SPAN]
    if not everything:
        return {}
    scores = {"answer": _scores(samples, {at: _round_trip(samples[at], samples[at].spans, task) for at in everything})}
    snapped = {
        at: _snap_to_frames(samples[at], times_s)
        for at, times_s in frame_times_s.items()
        if samples[at].target.task == SPAN
    }
    if snapped:
        scores["frames"] = _scores(samples, snapped)
        both = {at: _round_trip(samples[at], spans, task) for at, spans in snapped.items()}
        scores["both"] = _scores(samples, both)
    return scores


def snap(span: Span, times_s: np.ndarray) -> Span:
    """The span between two of the times (N,), N >= 2, increasing, that overlaps `span`, which lies among them, best."""
    # Rounding each end alone is not always best, and may give an empty span: all four candidates are compared.
    pairs = [(a, b) for a in _around(span[0], times_s) for b in _around(span[1], times_s) if a < b]
    return pairs[int(temporal_ious(pairs, span).argmax())]


def _around(time_s: float, times_s: np.ndarray) -> list[float]:
    """The two neighbouring times that `time_s` lies between."""
    after = int(np.searchsorted(times_s, time_s).clip(1, len(times_s) - 1))
    return times_s[after - 1 : after + 1].tolist()


def _snap_to_frames(sample: Sample, frame_times_s: np.ndarray) -> tuple[Span, ...]:
    # The clip's own start and end are known without a frame.
    edges_s = np.unique(np.concatenate([[0.0], frame_times_s, [sample.duration_s]]))
    return tuple(snap(span, edges_s) for span in sample.spans)


def _round_trip(sample: Sample, spans: Sequence[Span], task: SpanTask) -> tuple[Span, ...]:
    """The spans as they are read back from the answer text that training would teach."""
    return task.parse(task.encode(spans, duration_s=sample.duration_s), duration_s=sample.duration_s).spans


def _scores(samples: Sequence[Sample], answers: Mapping[int, Sequence[Span]]) -> Scores:
    metrics = grounding_metrics(list(answers.values()), [samples[at].spans for at in answers])
    return {key: metrics[key] for key in SHOWN}
