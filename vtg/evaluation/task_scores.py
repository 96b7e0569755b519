"""The scores of answers, task by task."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vtg.evaluation.metrics import grounding_metrics, row_spans
from vtg.tasks.all_tasks import SPAN, TASKS, task_name

Row = dict[str, Any]
Metrics = dict[str, Any]
"""Those of spans under their own names, and of each other task that rows have a dict under its name."""


# Of answers as sets: not means over rows, or of some rows alone.
_OF_SETS = frozenset({"set_mIoU", "W1_s", "none_recall", "none_precision"})


def by_task(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Prediction rows by the names of their tasks."""
    parts: dict[str, list[Row]] = {}
    for row in rows:
        parts.setdefault(task_name(row), []).append(row)
    return parts


def span_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows whose answers are spans."""
    return [row for row in rows if task_name(row) == SPAN]


def score(rows: Sequence[Row]) -> Metrics:
    """The metrics of prediction rows: of spans `vtg.evaluation.metrics.grounding_metrics`, of other tasks their own.

    Where rows have other tasks there is `score` as well: the mean over tasks of the number that each is compared by
    (mIoU, accuracy, …), all of which are 0 to 100. Raises ValueError without rows.
    """
    parts = by_task(rows)
    spans = parts.pop(SPAN, [])
    metrics: Metrics = {}
    if spans or not parts:
        metrics |= grounding_metrics(
            [row["prediction"] for row in spans],
            [row_spans(row["timestamp"]) for row in spans],
            statuses=[row["status"] for row in spans],
        )
    metrics |= {name: TASKS[name].metrics(own) for name, own in sorted(parts.items())}
    return metrics | ({"score": float(np.mean(list(headlines(metrics).values())))} if parts else {})


def row_metrics(task: str, row: Row) -> dict[str, float]:
    """Of one row, the metrics that are means over rows: without counts, and of spans without those of sets."""
    metrics = score([row])
    own = metrics if task == SPAN else metrics[task]
    return {name: value for name, value in own.items() if isinstance(value, float) and name not in _OF_SETS}


def headlines(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Of each task that is scored the number by which it is compared."""
    of_spans = {SPAN: metrics["mIoU"]} if "mIoU" in metrics else {}
    return of_spans | {name: metrics[name][task.headline] for name, task in TASKS.items() if name in metrics}


def compared_by(metrics: Mapping[str, Any]) -> tuple[str, float]:
    """Name and value of the number by which sets of answers are compared: mIoU, or `score` where not all are spans."""
    name = "score" if "score" in metrics else "mIoU"
    return name, float(metrics[name])
