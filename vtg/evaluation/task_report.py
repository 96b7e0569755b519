"""Answers of any tasks as `vtg.evaluate` reports them: each metric with its interval by video, and a second run's."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vtg.console import aligned
from vtg.evaluation.intervals import bounds_text, finite_bounds, video_bootstrap
from vtg.evaluation.metrics import Interval
from vtg.evaluation.task_scores import Row, by_task, row_metrics, score
from vtg.tasks.all_tasks import SPAN, TASKS


def report(rows: Sequence[Row], *, compare: Sequence[Row] | None = None) -> dict[str, Any]:
    """`tasks`: the metrics of each task; `intervals`: [low, high] of those that are means over questions, 95 % by
    video; `score`, where there is a task other than spans; and of a second run on the same questions `compared`.

    Raises ValueError without rows, and where two runs share no question.
    """
    metrics = score(rows)
    of_spans = {name: value for name, value in metrics.items() if not isinstance(value, dict) and name != "score"}
    tasks = {name: of_spans if name == SPAN else metrics[name] for name in by_task(rows)}
    document: dict[str, Any] = {
        "tasks": tasks,
        "intervals": {task: finite_bounds(found) for task, found in _intervals(rows).items()},
        "score": metrics.get("score"),
    }
    if compare is not None:
        document["compared"] = _compared(rows, compare)
    return document


def report_text(document: Mapping[str, Any]) -> str:
    """The report as a table: a line for each metric of each task."""
    lines = [["task", "metric", "score", "95% by video", "samples"]]
    for task, metrics in sorted(document["tasks"].items()):
        for name, value in metrics.items():
            if name in ("samples", "missing"):
                continue
            interval = bounds_text(document["intervals"][task].get(name))
            lines.append([task, name, f"{value:.2f}", interval, str(metrics["samples"])])
    text = aligned(lines)
    if document["score"] is not None and len(document["tasks"]) > 1:
        text.append(f"score, the mean over tasks: {document['score']:.2f}")
    for task, found in document.get("compared", {}).items():
        low, high = found["interval"]
        interval = f"95 % by video {low:+.2f} to {high:+.2f}" if math.isfinite(low) else "no interval by video"
        text.append(
            f"{task}: second run less the first, {found['samples']} questions of both: {found['metric']} "
            f"{found['difference']:+.2f}, {interval}"
        )
    return "\n".join(text)


def _intervals(rows: Sequence[Row]) -> dict[str, dict[str, Interval]]:
    """By task, then by metric, of the metrics that are means over rows."""
    found: dict[str, dict[str, Interval]] = {}
    for task, own in by_task(rows).items():
        of_rows = [row_metrics(task, row) for row in own]
        videos = [str(row.get("video")) for row in own]
        found[task] = {}
        for name in dict.fromkeys(name for one in of_rows for name in one):
            values = np.array([[one.get(name, np.nan)] for one in of_rows])  # not every row has it: NaN is left out
            (found[task][name],) = video_bootstrap(values, videos)
    return found


def _compared(rows: Sequence[Row], others: Sequence[Row]) -> dict[str, Any]:
    """By task, what the second run is better by in the number that the task is compared by, paired by question."""
    second = {_key(row): row for row in others}
    found: dict[str, Any] = {}
    for task, own in by_task(rows).items():
        pairs = [(row, second[_key(row)]) for row in own if _key(row) in second]
        if not pairs:
            continue
        name = "mIoU" if task == SPAN else TASKS[task].headline
        gains = [[row_metrics(task, after)[name] - row_metrics(task, before)[name]] for before, after in pairs]
        (gain,) = video_bootstrap(np.array(gains), [str(before.get("video")) for before, _ in pairs])
        found[task] = {
            "metric": name,
            "difference": gain.difference,
            "interval": [gain.low, gain.high],
            "samples": len(pairs),
        }
    if not found:
        raise ValueError("the two files share no question; give two files of answers to the same rows")
    return found


def _key(row: Row) -> tuple[str, ...]:
    qid = row.get("qid")
    return (str(qid),) if qid is not None else (str(row.get("video")), str(row.get("sentence")))
