"""Predictions of vtg in the form that a benchmark's own evaluator, or its server, takes.

A row without an answer stays in: evaluators take what is missing out of the mean, or crash. Where a form cannot hold
"no answer" it becomes a span of no length, which scores 0.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard

from vtg.annotations.conversion.durations import video_key
from vtg.annotations.sources.didemo import PIECE_S
from vtg.annotations.sources.file_entries import entries
from vtg.annotations.sources.json_elements import BrokenFile
from vtg.annotations.sources.source_row import BadEntry, Entry, is_number

Row = dict[str, Any]
NO_ANSWER = [0.0, 0.0]

# DiDeMo ranks all [first, last] of its six pieces of five seconds.
PIECES = [(first, last) for first in range(6) for last in range(first, 6)]


class CannotSubmit(ValueError):
    """A prediction that lacks what the form needs: says the key, and where it comes from."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A form of submission.

    Attributes:
        lines: whether the file is one object a line rather than one document.
        needs: the keys of a row that it cannot do without.
        make: the lines, or the document, of all rows.
        key: by which the form knows a row, where it takes one answer under each.
    """

    title: str
    needs: tuple[str, ...]
    make: Callable[[Iterable[Row]], Any]
    key: Callable[[Row], Any] | None = None
    lines: bool = False


def spans_of_row(row: Row, place: str) -> list[list[float]]:
    """What a row predicts, best first. Raises CannotSubmit for a row without a prediction in finite numbers."""
    value = row.get("prediction")
    if "prediction" not in row:
        raise CannotSubmit(f"{place}: prediction: is missing; give the predictions.jsonl of a run, or of vtg.predict")
    pairs = [value] if isinstance(value, list) and len(value) == 2 and all(map(is_number, value)) else value or []
    is_fine = isinstance(pairs, list) and all(
        isinstance(p, list) and len(p) == 2 and all(map(is_number, p)) for p in pairs
    )
    if not is_fine:
        raise CannotSubmit(f"{place}: prediction: {str(value)[:60]} must be [[start, end], …] in seconds, or null")
    if not all(math.isfinite(bound) for pair in pairs for bound in pair):
        raise CannotSubmit(f"{place}: prediction: {str(value)[:60]} is not finite; correct it, or give null")
    return [[float(start), float(end)] for start, end in pairs]


def _are_finite(scores: Any) -> TypeGuard[list[float]]:
    return isinstance(scores, list) and all(is_number(score) and math.isfinite(score) for score in scores)


def _windows(rows: Iterable[Row]) -> Iterator[Row]:
    for row in rows:
        spans, scores = row["spans"] or [NO_ANSWER], row.get("scores")
        if not _are_finite(scores) or len(scores) != len(spans):
            scores = [1 / rank for rank in range(1, len(spans) + 1)] if row["spans"] else [0.0]
        windows = [[*span, score] for span, score in zip(spans, scores, strict=True)]
        yield {
            "qid": row["qid"],
            "query": row["sentence"],
            "vid": video_key(row["video"]),
            "pred_relevant_windows": windows,
        }


def _detections(rows: Iterable[Row]) -> Row:
    results: dict[str, list[Row]] = {}
    for row in rows:
        found = results.setdefault(video_key(row["video"]).removeprefix("v_"), [])
        for rank, span in enumerate(row["spans"], 1):
            found.append({"label": row["sentence"], "score": 1 / rank, "segment": span})
    return {"version": "VERSION 1.3", "results": results, "external_data": {"used": False, "details": ""}}


def _ego4d(rows: Iterable[Row]) -> Row:
    keys = ("clip_uid", "annotation_uid", "query_idx")
    results = [{key: row[key] for key in keys} | {"predicted_times": row["spans"] or [NO_ANSWER]} for row in rows]
    return {"version": "1.0", "challenge": "ego4d_nlq_challenge", "results": results}


def _vue_tr(rows: Iterable[Row]) -> list[Row]:
    return [
        {
            "query_id": row["qid"],
            "video_id": video_key(row["video"]),
            "duration": row["duration"],
            "query": row["sentence"],
            "answer": row["spans"],
            "task": row.get("task", "temporal_retrieval"),
        }
        for row in rows
    ]


def _timelens_key(row: Row) -> str:
    truth = row["timestamp"]
    truth = truth[0] if isinstance(truth[0], list) else truth
    return f"{video_key(row['video'])}>>>{row['sentence']}>>>{truth}"


def _timelens(rows: Iterable[Row]) -> Row:
    return {_timelens_key(row): {"timestamps": row["spans"], "answers": row.get("text", "")} for row in rows}


def _qid(row: Row) -> str:
    return str(row["qid"])


def _timechat(rows: Iterable[Row]) -> Row:
    return {
        _qid(row): {"timestamp": row["spans"], "query": row["sentence"], "vid": os.path.basename(row["video"])}
        for row in rows
    }


def _didemo(rows: Iterable[Row]) -> list[list[list[int]]]:
    ranked = []
    for row in rows:
        spans = row["spans"] or [NO_ANSWER]
        order = sorted(PIECES, key=lambda piece: (-max(_overlap(piece, span) for span in spans[:1]), piece))
        ranked.append([list(piece) for piece in order])
    return ranked


def _overlap(piece: tuple[int, int], span: list[float]) -> float:
    start, end = piece[0] * PIECE_S, (piece[1] + 1) * PIECE_S
    both = max(0.0, min(end, span[1]) - max(start, span[0]))
    return both / (max(end, span[1]) - min(start, span[0]))


def _next_gqa(rows: Iterable[Row]) -> Row:
    return {_qid(row): (row["spans"] or [NO_ANSWER])[0] for row in rows}


def _prompt_and_video(row: Row) -> tuple[str, str]:
    return row["sentence"], os.path.basename(row["video"])


def _hirest(rows: Iterable[Row]) -> Row:
    found: dict[str, Row] = {}
    for row in rows:
        prompt, video = _prompt_and_video(row)
        found.setdefault(prompt, {})[video] = {"bounds": (row["spans"] or [NO_ANSWER])[0]}
    return found


SUBMISSIONS: dict[str, Submission] = {
    "qvhighlights": Submission(
        title="moment_detr's standalone_eval; UniVTG, Lighthouse",
        needs=("qid", "sentence", "video"),
        make=_windows,
        key=_qid,
        lines=True,
    ),
    "action_detection": Submission(
        title="ActivityNet's and THUMOS' detection", needs=("sentence", "video"), make=_detections
    ),
    "ego4d_nlq": Submission(
        title="Ego4D's NLQ challenge", needs=("clip_uid", "annotation_uid", "query_idx"), make=_ego4d
    ),
    "vue_tr": Submission(
        title="VUE-TR's qa_eval.py", needs=("qid", "sentence", "video", "duration"), make=_vue_tr, key=_qid
    ),
    "timelens": Submission(
        title="TimeLens' compute_metrics.py",
        needs=("sentence", "video", "timestamp"),
        make=_timelens,
        key=_timelens_key,
    ),
    "timechat": Submission(
        title="TimeChat's eval_tvg.py", needs=("qid", "sentence", "video"), make=_timechat, key=_qid
    ),
    "didemo": Submission(title="DiDeMo's eval.py: rows in the order of the published file", needs=(), make=_didemo),
    "next_gqa": Submission(title="NExT-GQA's eval_ground.py", needs=("qid",), make=_next_gqa, key=_qid),
    "hirest": Submission(
        title="HiREST's evaluate.py, moment retrieval",
        needs=("sentence", "video"),
        make=_hirest,
        key=_prompt_and_video,
    ),
}
"""Name → form of submission."""


def prediction_rows(path: str) -> Iterator[tuple[str, Row]]:
    """(place, row) of a file of predictions. Raises CannotSubmit for what is no row, and OSError."""
    try:
        for entry in entries(path):
            place = f"{path}:{entry.line}"
            if not isinstance(entry, Entry) or not isinstance(entry.value, dict):
                text = entry.text if isinstance(entry, BadEntry) else "is not an object"
                raise CannotSubmit(f"{place}: {text}; give the predictions.jsonl of a run, or of vtg.predict")
            yield place, entry.value
    except BrokenFile as error:
        raise CannotSubmit(f"{path}:{error.line}: {error}") from None


def with_spans(rows: Iterable[tuple[str, Row]], submission: Submission) -> Iterator[Row]:
    """The rows, each with its `spans`.

    Raises:
        CannotSubmit: one lacks what the form needs, or would take the place of another one; names where it stands.
    """
    places: dict[Any, str] = {}
    for place, row in rows:
        for key in submission.needs:
            if row.get(key) in (None, "", []):
                raise CannotSubmit(
                    f"{place}: {key}: is missing, which {submission.title} needs; predict on rows that vtg.convert "
                    "made of the published file"
                )
            if isinstance(row[key], float) and not math.isfinite(row[key]):
                raise CannotSubmit(f"{place}: {key}: is {row[key]}, which JSON does not allow; give a finite number")
        spans = spans_of_row(row, place)
        if submission.key is not None:
            key = submission.key(row)
            if key in places:
                raise CannotSubmit(
                    f"{place}: {key!r} is answered at {places[key]} already, and {submission.title} takes one answer; "
                    "drop one of both rows"
                )
            places[key] = place
        yield row | {"spans": spans}
