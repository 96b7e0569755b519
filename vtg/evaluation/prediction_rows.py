"""Rows of predictions.jsonl, as vtg, models and people write them: read, and what they predict."""

import io
import json
import math
import re
from contextlib import suppress
from typing import Any

import msgspec

from vtg.annotations.raw_rows import opened
from vtg.evaluation.metrics import Spans
from vtg.tasks.answer import Status
from vtg.tasks.answer_forms import CODECS
from vtg.tasks.span_task import SpanTask

OTHER_NAMES = ("pred_relevant_windows", "predicted_times", "pred", "predictions", "answer")
"""What others call `prediction`: named in the message about a row without one."""

# Digits of an integer that may be too large for a float, which ends at 1.8e308.
BEYOND_FLOAT = 300
_LONG_NUMBER = re.compile(rf"\d{{{BEYOND_FLOAT}}}")

PredictionRow = dict[str, Any]
Placed = tuple[str, PredictionRow]
"""A prediction and its place, path:line."""


class AnswerForm(ValueError):
    """Rows have text alone, and nobody said in which form (--answer); or somebody did, and none has."""


def read_rows(path: str) -> list[Placed]:
    """(place, row) of every row of a JSONL file or a JSON array. NaN is read: models and peers write it.

    Raises OSError when the file cannot be read, and ValueError naming the place for what is not a JSON object.
    """
    return rows_of(path, text_of(path))


def text_of(path: str) -> str:
    """A file of predictions. Raises OSError when it cannot be read, and ValueError when it is no UTF-8 text."""
    try:
        with opened(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig") as reader:
            return reader.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8 text ({error.reason}); give predictions as JSONL") from None


def rows_of(path: str, text: str) -> list[Placed]:
    """`read_rows` of a file that is read."""
    lines = [(f"{path}:{number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if text.lstrip().startswith("["):
        array = decoded(path, text)
        rows = [(f"{path}[{index}]", row) for index, row in enumerate(array)]
    elif len(lines) > 1 and lines[0][1].strip() == "{":  # the only row, laid over several lines
        rows = [(lines[0][0], decoded(lines[0][0], text))]
    else:
        rows = [(place, decoded(place, line)) for place, line in lines]
    if not rows:
        raise ValueError(f"{path}: holds no predictions; check the path and the run that wrote it")
    for place, row in rows:
        if not isinstance(row, dict):
            raise ValueError(f"{place}: {str(row)[:40]!r} is not an object; every row needs a prediction")
    return rows


def needs_parsing(row: PredictionRow) -> bool:
    """Whether a row has a text and no prediction."""
    return "prediction" not in row and isinstance(row.get("text"), str)


def with_field(place: str, row: PredictionRow, field: str) -> PredictionRow:
    """A row whose prediction, or text, is that under `field`, as annotations keep a base model's under `pred`.

    LWT235's guides keep what is optional in `kwargs`. Raises ValueError, naming the place, for a row without it.
    """
    holder = row if field in row else row.get("kwargs")
    if not isinstance(holder, dict) or field not in holder:
        raise ValueError(f"{place}: has no {field!r}; --field names a key of every row, and it has: {', '.join(row)}")
    return row | {"text" if isinstance(holder[field], str) else "prediction": holder[field]}


def moments(place: str, value: object) -> Spans:
    """The true moments under the key `timestamp`, none of `[]`. Raises ValueError without it, and for a wrong one."""
    spans = _spans(place, "timestamp", value)
    if value is None:
        raise ValueError(f"{place}: timestamp: is missing; add it to the row, or give --annotations")
    for start, end in spans:
        if not (math.isfinite(start) and math.isfinite(end) and start < end):
            raise ValueError(f"{place}: timestamp: [{start:g}, {end:g}] is no moment: it must start before it ends")
    return spans


def predicted(place: str, row: PredictionRow, task: SpanTask | None) -> tuple[Spans, str | None]:
    """A row's spans in seconds, and its status where it has one; `task` reads rows that have text alone.

    Raises ValueError, naming the place, for a row without either, and AnswerForm for text without a `task`.
    """
    if "prediction" in row:
        status = row.get("status")
        if status not in (None, *Status):
            raise ValueError(f"{place}: status: is {status!r}, not one of {', '.join(Status)}")
        return _spans(place, "prediction", row["prediction"]), status
    text, duration_s = row.get("text"), row.get("duration")
    if task is None and isinstance(text, str):
        raise AnswerForm(f"{place}: has text and no prediction; name its form: --answer {{{','.join(CODECS)}}}")
    if task is None or not isinstance(text, str):
        other = next((name for name in OTHER_NAMES if name in row), None)
        remedy = (
            f"; rename {other!r}, which this row has"
            if other
            else "; give the predictions.jsonl of a run, or of vtg.predict"
        )
        raise ValueError(
            f"{place}: has neither prediction ([[start, end], ...] in seconds) nor text (the raw answer){remedy}"
        )
    if isinstance(duration_s, bool) or not isinstance(duration_s, int | float) or not 0 < duration_s < math.inf:
        raise ValueError(f"{place}: duration: is {duration_s!r}; parsing text needs the clip's length in seconds")
    answer = task.parse(text, duration_s=float(duration_s))
    return answer.spans, answer.status.value


def _spans(place: str, key: str, value: object) -> list[tuple[float, float]]:
    """The spans under a key: [[start, end], ...] or one [start, end]; none for null or []. A null bound becomes NaN."""
    pairs = [] if value is None else value
    if isinstance(pairs, list) and pairs and not isinstance(pairs[0], list):
        pairs = [pairs]
    if not isinstance(pairs, list) or not all(_is_pair(pair) for pair in pairs):
        raise ValueError(f"{place}: {key}: {str(value)[:60]} must be [[start, end], ...] in seconds, or null")
    return [(_bound(start), _bound(end)) for start, end in pairs]


def _bound(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _is_pair(pair: object) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(type(bound) in (int, float, type(None)) for bound in pair)


def decoded(place: str, text: str) -> Any:
    """A JSON value; integers too large for a float become infinite. Raises ValueError, naming the place."""
    # A third of the time of json, which reads what msgspec refuses and models write: NaN, numbers beyond a float.
    if len(text) < BEYOND_FLOAT or not _LONG_NUMBER.search(text):
        with suppress(msgspec.MsgspecError, UnicodeError, RecursionError):
            return msgspec.json.decode(text)
    try:
        return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < BEYOND_FLOAT else float(digits))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{place}: is not JSON ({error}); give JSONL, one object a line, or one array") from None
