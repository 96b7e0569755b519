"""Why an answer is wrong, in one short sentence: unreadable, elsewhere, too long, too short, or shifted."""

from vtg.evaluation.metrics import Spans, row_ious, row_spans
from vtg.report.run_reader import JsonRow
from vtg.tasks.answer import Status

# Answers of at least this tIoU are right, as in the strictest R1 of papers.
RIGHT_TIOU = 0.7

# A moment of this share of the truth's length, or of its inverse, has its length wrong, else its place.
LENGTH_RATIO = 1.5

UNREADABLE = {
    Status.MALFORMED: "no times could be read",
    Status.REVERSED: "the end lies before the start",
    Status.OUT_OF_RANGE: "leaves the clip",
}


def why_wrong(row: JsonRow) -> str:
    """Why a row of predictions scores less than a tIoU of 0.7; empty for one that does not."""
    status = str(row.get("status", Status.OK))
    if reason := UNREADABLE.get(Status(status) if status in list(Status) else Status.OK):
        return reason
    truth, predicted = _finite(row_spans(row["timestamp"])), _finite(row_spans(row["prediction"]))
    if not truth:
        return "names a moment, and there is none" if predicted else ""
    if not predicted:
        return "says that there is no such moment" if status == Status.NONE else "no moment was named"
    # Before the tIoU, which is that of the first answer and the moment that it fits best.
    if len(truth) > 1 and len(predicted) != len(truth):
        return f"names {_moments(len(predicted))}, and there are {len(truth)}"
    if float(row_ious([row])[0]) >= RIGHT_TIOU:
        return ""
    return _of_spans(truth[0], predicted[0]) if len(truth) == 1 else "some moments lie elsewhere"


def _of_spans(truth: tuple[float, float], predicted: tuple[float, float]) -> str:
    (start_s, end_s), (from_s, to_s) = truth, predicted
    if to_s <= start_s:
        return f"another event: it ends {start_s - to_s:.1f} s before the moment"
    if from_s >= end_s:
        return f"another event: it starts {from_s - end_s:.1f} s after the moment"
    ratio = (to_s - from_s) / (end_s - start_s)
    if ratio >= LENGTH_RATIO:
        return f"too long: {ratio:.1f} times the moment"
    if ratio <= 1 / LENGTH_RATIO:
        return f"too short: {ratio:.1f} times the moment"
    shift_s = (from_s + to_s - start_s - end_s) / 2
    return f"shifted by {shift_s:+.1f} s"


def _finite(spans: Spans) -> list[tuple[float, float]]:
    """Spans of some length; NaN is in none."""
    return [(float(start), float(end)) for start, end in spans if 0 < end - start < float("inf")]


def _moments(count: int) -> str:
    return f"{count} moment{'' if count == 1 else 's'}"
