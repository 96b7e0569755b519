"""Answers of other tasks than spans as `vtg.evaluation.task_scores` takes them, of rows of a file of predictions."""

import json
from contextlib import suppress

from vtg.annotations.sample import Problem, Sample, sample_of
from vtg.annotations.target import row_kind
from vtg.config.task_settings import TaskConfig
from vtg.evaluation.prediction_rows import PredictionRow, read_rows
from vtg.tasks.all_tasks import SPAN, TASKS, Tasks, task_name
from vtg.tasks.answer import Status
from vtg.tasks.span_task import SpanTask


def is_other(row: PredictionRow) -> bool:
    """Whether a prediction with its annotation's keys is of another task than `span`."""
    # Other projects call their spans `answer`, and much else: keys tell the task of what has an answer beside them.
    return task_name(row) != SPAN or (bool({"prediction", "text"} & row.keys()) and row_kind(row) is not None)


def task_named(path: str) -> str | None:
    """The first task other than `span` that a row of a file of predictions names; None for files of other forms."""
    with suppress(ValueError):
        return next((task_name(row) for _, row in read_rows(path) if task_name(row) != SPAN), None)
    return None


def own_sample(place: str, row: PredictionRow) -> Sample:
    """The sample of a prediction that has its annotation's keys beside it. Raises ValueError, naming the place."""
    path, _, line = place.rpartition(":")
    read = sample_of(json.dumps(row).encode(), path=path or place, line=int(line) if line.isdecimal() else 0)
    if isinstance(read, Problem):
        raise ValueError(f"{place}: {read.field}: {read.message}")
    return read


def answered(place: str, row: PredictionRow, sample: Sample, task: SpanTask | None) -> PredictionRow:
    """A sample's row with the answer of a prediction, whose text is read where it has no `prediction`.

    Raises ValueError, naming the place, for an answer that is none of its task.
    """
    if "prediction" not in row:
        if not isinstance(row.get("text"), str):
            raise ValueError(
                f"{place}: has neither prediction (of {sample.target.task}) nor text (the raw answer); give the "
                "predictions.jsonl of a run, or of vtg.predict"
            )
        read = Tasks(task or SpanTask(TaskConfig())).read(row["text"], sample)
        return sample.row() | {"prediction": read.value, "status": str(read.status), "text": row["text"]}
    value, status = row["prediction"], row.get("status")
    if status not in (None, *Status):
        raise ValueError(f"{place}: status: is {status!r}, not one of {', '.join(Status)}")
    if value is not None and (fault := TASKS[sample.target.task].fault(value)):
        raise ValueError(f"{place}: {fault}, or null where the answer cannot be read")
    return sample.row() | {"prediction": value, "status": status}


def unanswered(sample: Sample) -> PredictionRow:
    """The row of a sample that nobody predicted."""
    return sample.row() | {"prediction": None, "status": None}
