"""Prediction rows beside their ground truth: their own, or that of the annotation rows that were asked.

Annotation rows with a `qid` are joined by it, and the sentence and the part of the video must be the same on both sides
where the prediction says them. Rows without one are joined by what was asked: the video, its part and the sentence; of
equal ones the first prediction belongs to the first row, and so on. A line number says nothing about a row once another
line was removed.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vtg.annotations.conversion.durations import video_key
from vtg.annotations.formats import format_of
from vtg.annotations.sample import Problem, Sample
from vtg.evaluation.metrics import Spans
from vtg.evaluation.prediction_rows import Placed, PredictionRow, moments, predicted
from vtg.evaluation.task_answers import answered, is_other, own_sample, unanswered
from vtg.tasks.all_tasks import SPAN
from vtg.tasks.span_task import SpanTask

# Rows that an error names: enough to see a pattern, few enough for one line.
NAMED = 3

PARTS = ("video_start", "video_end")

# Of a row in its file (`row_at`).
PLACE = re.compile(r"\d+(\[\d+\])?")

# Kinds of problems of a ground truth whose rest cannot be read: rows are missing from it, and nothing says which.
UNREAD_REST = ("file-broken", "file-truncated", "file-after-end", "file-shard")

GIVE_THOSE = "give the annotations that were predicted on, or predict again"


@dataclass(slots=True)
class Joined:
    """Predictions beside their ground truth, one entry per sample, and what did not fit.

    Attributes:
        predictions, ground_truths, statuses: of samples of spans.
        rows: of every sample, whatever its task, as `vtg.evaluation.task_scores` takes them.
    """

    predictions: list[Spans | None] = field(default_factory=list)
    ground_truths: list[Spans] = field(default_factory=list)
    statuses: list[str | None] = field(default_factory=list)
    rows: list[PredictionRow] = field(default_factory=list)
    findings: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_of_spans(self) -> bool:
        """Whether all samples ask for spans."""
        return len(self.rows) == len(self.predictions)

    def note(self, finding: str, what: str) -> None:
        self.findings.setdefault(finding, []).append(what)


def join(rows: Sequence[Placed], *, annotations: str | None = None, task: SpanTask | None = None) -> Joined:
    """Lays predictions beside their ground truth: the rows' own, or that of the file `annotations`.

    A qid is compared as text, so that 12 and "12" are the same. Of several predictions for one question the first
    counts. A sample that nobody predicted has None.

    Raises:
        ValueError: naming the place, for a row that has nothing to score or to join by; where predictions answer other
            questions than the annotations ask; and where no row joins.
    """
    joined = Joined()
    if annotations is None:
        for place, row in _first_of_each(rows, joined):
            if is_other(row):
                joined.rows.append(answered(place, row, own_sample(place, row), task))
            else:
                _add(joined, place, row, truth=moments(place, row.get("timestamp")), task=task)
        return joined
    samples = _samples(annotations, joined)
    if not samples:
        first = next(iter(joined.findings.get("annotations_left_out", ["it holds none"])))
        raise ValueError(f"{annotations}: no usable row ({first}); check it with python -m vtg.validate {annotations}")
    matches = _Matches(rows, joined)
    # Rows that name their prediction come first, so that no other takes it.
    order = sorted(range(len(samples)), key=lambda at: not _has_qid(samples[at]))
    matched = {at: matches.of(samples[at]) for at in order}
    left = matches.left()
    refuse_other_questions(matches.others, annotations)
    if not any(matched.values()):
        raise ValueError(
            f"no prediction (first: {_named(rows[0][1])}) is of a row of {annotations} (first: "
            f"{_named(samples[0].row())}); {GIVE_THOSE}"
        )
    lone = [samples[at] for at in order if matched[at] is None and not _has_qid(samples[at])]
    strangers = [row for row in left if not _has_own_qid(row[1])]
    # Either alone may be a subset of the other file; both at once mean other annotations.
    if lone and strangers:
        raise ValueError(
            f"{len(lone)} rows of {annotations} have no prediction, and {len(strangers)} predictions are of no row of "
            f"it (without a qid they are joined by video and sentence): {lone[0].place} asks {_named(lone[0].row())}, "
            f"{strangers[0][0]} answers {_named(strangers[0][1])}; {GIVE_THOSE}"
        )
    for at, sample in enumerate(samples):
        match = matched[at]
        if match is None:
            joined.note("missing", sample.qid)
            joined.rows.append(unanswered(sample))
            if sample.target.task == SPAN:
                joined.predictions.append(None)
                joined.statuses.append(None)
                joined.ground_truths.append(sample.spans)
        elif sample.target.task == SPAN:
            place, row = match
            _add(joined, place, sample.row() | row | {"duration": sample.duration_s}, truth=sample.spans, task=task)
        else:
            joined.rows.append(answered(*match, sample, task))
    for place, row in left:
        joined.note("extra", _qid(row) or place)
    return joined


class _Matches:
    """Predictions that wait for the samples they answer.

    `others`: those that answer another question than the sample with their qid asks.
    """

    def __init__(self, rows: Sequence[Placed], joined: Joined) -> None:
        self.others: list[str] = []
        self._joined, self._rows = joined, rows
        self._by_qid: dict[str, Placed] = {}
        self._by_question: dict[tuple, list[Placed]] = defaultdict(list)
        self._used: set[str] = set()
        self._asked = [(_qid(row), _question(row)) for _, row in rows]
        for (place, row), (qid, question) in zip(rows, self._asked, strict=True):
            if qid is None and question is None:
                raise ValueError(
                    f"{place}: qid: is {row.get('qid')!r}, and video and sentence are missing; rows are joined by them"
                )
            if qid is not None:
                self._by_qid.setdefault(qid, (place, row))
            if question is not None:
                self._by_question[question].append((place, row))

    def of(self, sample: Sample) -> Placed | None:
        """The prediction for a sample, which no other sample gets then."""
        has_qid = _has_qid(sample)
        match = self._by_qid.get(sample.qid) if has_qid else None
        if match is not None and (difference := difference_of(match[1], sample.row())):
            self.others.append(f"{match[0]} (qid {sample.qid!r}): {difference}")
        if match is None:
            waiting = self._by_question.get(_question(sample.row()) or (), [])
            free = (p for p in waiting if p[0] not in self._used and not (has_qid and _has_own_qid(p[1])))
            match = next(free, None)
        if match is not None:
            self._used.add(match[0])
        return match

    def left(self) -> list[Placed]:
        """Predictions of no sample. Those that repeat a question, or a qid, are findings instead."""
        placed = list(zip(self._rows, self._asked, strict=True))
        taken = [asked for (place, _), asked in placed if place in self._used]
        qids, questions = {qid for qid, _ in taken}, {question for _, question in taken} - {None}
        left = []
        for (place, row), (qid, question) in placed:
            if place in self._used:
                continue
            if qid in qids if _has_own_qid(row) else question in questions:
                self._joined.note("duplicate_predictions", qid or place)
            else:
                left.append((place, row))
        return left


def refuse_other_questions(others: list[str], annotations: str) -> None:
    """Raises ValueError where predictions answer other questions than the rows with their qids ask."""
    if others:
        more = f"; and {len(others) - NAMED} more" if len(others) > NAMED else ""
        raise ValueError(
            f"{len(others)} predictions answer other questions than the rows of {annotations} with their qids: "
            f"{'; '.join(others[:NAMED])}{more}; {GIVE_THOSE}"
        )


def _first_of_each(rows: Sequence[Placed], joined: Joined) -> list[Placed]:
    """Without the rows that repeat a qid with its question, as files that were put together do."""
    seen: set[tuple] = set()
    first = []
    for place, row in rows:
        key = (_qid(row), _question(row), str(row.get("timestamp")))
        if key[0] and key in seen:
            joined.note("duplicate_predictions", key[0])
        else:
            first.append((place, row))
        seen.add(key)
    return first


def _samples(path: str, joined: Joined) -> list[Sample]:
    """Ground truth, the first of a qid; rows that cannot be read and repeated qids are findings.

    Raises ValueError, naming the place, for a file that was cut off or cannot be read to its end.
    """
    samples: dict[str, Sample] = {}
    item: Sample | Problem | None = None
    for item in format_of(path).samples(path):
        if isinstance(item, Problem) and item.kind in UNREAD_REST:
            raise ValueError(f"{item}; nothing is scored against a part of the ground truth")
        if isinstance(item, Problem):
            joined.note("annotations_left_out", str(item))
        elif item.qid in samples:
            joined.note("duplicate_annotations", item.qid)
        else:
            samples[item.qid] = item
    if isinstance(item, Problem) and item.kind == "row-truncated":  # lines have no end but that of the last row
        raise ValueError(f"{item}; nothing is scored against a part of the ground truth")
    return list(samples.values())


def _has_qid(sample: Sample) -> bool:
    """Whether the row has one of its own; else it is named after its file and place in it."""
    path, _, line = sample.place.rpartition(":")
    # Most qids do not end so, and taking the stem of a path for every row is a fifth of all joining.
    return not sample.qid.endswith(f":{line}") or sample.qid != f"{Path(path).stem}:{line}"


def _has_own_qid(prediction: PredictionRow) -> bool:
    """Whether its qid names it: FILE:LINE and FILE:LINE[N] may be one of a row without any."""
    qid = _qid(prediction)
    return qid is not None and not PLACE.fullmatch(qid.rpartition(":")[2])


def _qid(row: PredictionRow) -> str | None:
    qid = row.get("qid")
    return str(qid) if isinstance(qid, str | int) and not isinstance(qid, bool) and qid != "" else None


def _question(row: PredictionRow) -> tuple | None:
    """What a row asks: video, its part in seconds, sentence; None where it does not say."""
    video, sentence = row.get("video"), row.get("sentence")
    if not isinstance(video, str) or not isinstance(sentence, str):
        return None
    return video, _words(sentence), _seconds(row.get(PARTS[0])), _seconds(row.get(PARTS[1]))


def _seconds(value: object) -> float | None:
    # To the millisecond: a bound that was rounded, or stored as float32, is still the same one.
    return round(float(value), 3) if isinstance(value, int | float) else None


def difference_of(prediction: PredictionRow, annotation: PredictionRow) -> str | None:
    """How a prediction's question differs from that of the row with its qid, as far as it says."""
    for key, normal in NORMAL.items():
        if ("sentence" if key == "sentence" else "video") not in prediction:
            continue  # it does not say; a part of a video is said by leaving it out too
        mine, its = prediction.get(key), annotation.get(key)
        if mine != its and normal(mine) != normal(its):
            return f"{key} {_short(mine)}, not {_short(its)}"
    return None


def _words(sentence: object) -> str:
    return " ".join(str(sentence).split())


def _plain_words(sentence: object) -> str:
    return _words(sentence).casefold().rstrip(" .")


def _plain_name(video: object) -> str:
    # ActivityNet's videos are called with this prefix or without it.
    return video_key(str(video)).removeprefix("v_")


# How the values of a question are compared. Folders and endings may change, the video and its part may not.
NORMAL: dict[str, Callable[[object], object]] = {
    "sentence": _plain_words,
    "video": _plain_name,
    **dict.fromkeys(PARTS, _seconds),
}


def _short(value: object) -> str:
    return repr(value[:60]) if isinstance(value, str) else str(value)


def _named(row: PredictionRow) -> str:
    return repr(row["sentence"][:60] if isinstance(row.get("sentence"), str) else row.get("qid"))


def _add(joined: Joined, place: str, row: PredictionRow, *, truth: Spans, task: SpanTask | None) -> None:
    """A sample of spans."""
    spans, status = predicted(place, row, task)
    joined.rows.append(row | {"prediction": spans, "status": status, "timestamp": truth})
    joined.predictions.append(spans)
    joined.statuses.append(status)
    joined.ground_truths.append(truth)
