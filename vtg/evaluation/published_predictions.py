"""Predictions in the forms in which models and benchmarks publish them, as `Given` rows: told by what the rows hold.

docs/scoring.md lists the forms. Each reader takes one row, or one member of an object, and gives what it says.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from vtg.annotations.sources.recognition import OWN_ROWS
from vtg.annotations.sources.span_values import number_of
from vtg.evaluation.answer_tables import ENDINGS, table_rows
from vtg.evaluation.prediction_rows import Placed, decoded, rows_of, text_of, with_field
from vtg.evaluation.presets.case import Given, Window
from vtg.tasks.answer import Status

KEY_SEPARATOR = ">>>"
"""Between video, query and true window in the keys of TimeLens and lmms-eval."""


class Predictions(NamedTuple):
    """Rows of a file, the name of their form, and whether they stand in the order of the ground truth."""

    form: str
    rows: list[Given]
    in_order: bool = False


def read_predictions(path: str, *, field: str | None = None) -> Predictions:
    """Rows of a file of predictions of any known form; `field`: the key that holds the windows, or the text.

    Raises OSError, and ValueError naming the place for what cannot be read.
    """
    if path.endswith(ENDINGS):
        return _rows_of_table(path)
    text = text_of(path)
    document = _one_document(path, text)
    if document is None:
        return _rows(rows_of(path, text), field)
    for form, fits, read in DOCUMENTS:
        if fits(document):
            return Predictions(form, list(read(path, document)), in_order=form == "rankings")
    return _rows(rows_of(path, text), field)


def _rows(placed: list[Placed], field: str | None) -> Predictions:
    for place, row in placed:
        if not isinstance(row, dict):
            raise ValueError(f"{place}: {str(row)[:40]!r} is not an object; every row needs a prediction")
    place, first = placed[0]
    if first and all(KEY_SEPARATOR in key for key in first):
        return Predictions("timelens", [given for at, row in placed for given in _timelens(at, row)])
    if field is not None:
        return Predictions(f"rows, field {field}", [_field_row(at, row, field) for at, row in placed])
    for form, keys, read in ROWS:
        if any(key in first for key in keys):
            return Predictions(form, [read(at, row) for at, row in placed])
    known = ", ".join(key for _, keys, _ in ROWS for key in keys)
    raise ValueError(f"{place}: has none of {known}; name the key that holds the prediction: --field KEY")


def _one_document(path: str, text: str) -> Any:
    """The value of a file that is one JSON document, and no array of objects; None for rows."""
    begin = text.lstrip()
    if begin[:1] == "[":
        return decoded(path, text) if begin[1:].lstrip()[:1] == "[" else None
    first, _, rest = begin.partition("\n")
    is_rows = _is_whole(first) and bool(rest.strip())
    if begin[:1] != "{" or is_rows or not _is_whole(text):
        return None  # broken text too: read as rows, its message names the line
    return decoded(path, text)


def _is_whole(text: str) -> bool:
    try:
        json.loads(text, parse_int=float)  # integers of any number of digits, as `decoded` reads them
    except (json.JSONDecodeError, RecursionError):
        return False
    return True


def windows_of(place: str, key: str, value: Any) -> tuple[list[Window], list[float] | None]:
    """Windows and scores of `[[start, end(, score)], …]` or one `[start, end]`; null bounds mean no window.

    Raises ValueError for anything else, and where only some windows have a score.
    """
    pairs = [] if value is None else value
    if isinstance(pairs, list) and pairs and not isinstance(pairs[0], list):
        pairs = [] if None in pairs[:2] else [pairs]
    if not isinstance(pairs, list) or not all(map(_is_window, pairs)):
        raise ValueError(f"{place}: {key}: {str(value)[:60]} must be [[start, end], …] or [[start, end, score], …]")
    lengths = {len(pair) for pair in pairs}
    if len(lengths) > 1:
        raise ValueError(f"{place}: {key}: only some of its {len(pairs)} windows have a score; give all of them one")
    scores = [float(pair[2]) for pair in pairs] if lengths == {3} else None
    return [(float(pair[0]), float(pair[1])) for pair in pairs], scores


def _is_window(pair: Any) -> bool:
    if not isinstance(pair, list) or len(pair) not in (2, 3):
        return False
    return all(isinstance(number, int | float) and not isinstance(number, bool) for number in pair)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _name(value: Any) -> str | None:
    """A qid as text, so that 12 and "12" are the same; None for what is no name."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None


def _given(place: str, row: Mapping[str, Any], *, value: Any = None, key: str = "", text: Any = None) -> Given:
    """A row with the names that most forms share."""
    windows, scores = (None, None) if not key else windows_of(place, key, value)
    truth_key = next((name for name in ("timestamp", "relevant_windows", "target", "gt") if name in row), None)
    truth = None
    if truth_key is not None and row[truth_key] is not None:
        truth = windows_of(place, truth_key, row[truth_key])[0]
    if windows == [] == truth and row.get("status") not in (None, Status.NONE):
        windows = [(math.nan, math.nan)]  # an answer that cannot be read: no window would be the right one
    people = row.get("all_worker_windows")
    return Given(
        place=place,
        qid=_name(row.get("qid", row.get("annotation_id", row.get("query_id")))),
        video=_text(row.get("video", row.get("vid", row.get("video_id")))),
        query=_text(row.get("sentence", row.get("query"))),
        windows=windows,
        scores=scores,
        text=_text(text),
        duration_s=_number(row.get("duration")),
        truth=truth,
        annotators=None if people is None else windows_of(place, "all_worker_windows", people)[0],
    )


def _field_row(place: str, row: Mapping[str, Any], field: str) -> Given:
    """A row whose prediction is under a key the user names, or in the `kwargs` where LWT235's guides keep it."""
    row = with_field(place, dict(row), field)
    if "prediction" not in row or isinstance(row.get("text"), str):
        return _given(place, row, text=row["text"])
    return _given(place, row, value=row["prediction"], key=field)


def _own(place: str, row: Mapping[str, Any]) -> Given:
    if "prediction" in row and not isinstance(row["prediction"], str):
        given = _given(place, row, value=row["prediction"], key="prediction")
        given.text = _text(row.get("text"))
        return given
    return _given(place, row, text=row.get("text", row.get("prediction")))


def _moment_detr(place: str, row: Mapping[str, Any]) -> Given:
    has_windows = "pred_relevant_windows" in row
    given = _given(place, row, value=row.get("pred_relevant_windows"), key="pred_relevant_windows" * has_windows)
    saliency = row.get("pred_saliency_scores")
    given.saliency = saliency if isinstance(saliency, list) else None
    return given


def _time_r1(place: str, row: Mapping[str, Any]) -> Given:
    if "pred" in row:
        return _given(place, row, value=row["pred"], key="pred")
    return _given(place, row, text=row.get("output_text"))


def _lmms_eval(place: str, row: Mapping[str, Any]) -> Given:
    """A line of lmms-eval's samples: the benchmark's row is under `doc`."""
    asked = row["doc"] if isinstance(row.get("doc"), dict) else {}
    responses = row.get("filtered_resps", row.get("resps"))
    while isinstance(responses, list) and responses:
        responses = responses[0]
    span = asked.get("span", asked.get("timestamp", row.get("target")))
    span = decoded(place, span) if isinstance(span, str) else span
    return Given(
        place=place,
        video=_text(asked.get("video_path", asked.get("video"))),
        query=_text(asked.get("query", asked.get("caption"))),
        text=_text(responses),
        windows=None if isinstance(responses, str) else [],
        duration_s=_number(asked.get("duration")),
        truth=None if span is None else windows_of(place, "doc.span", span)[0],
    )


def _vlmevalkit(place: str, row: Mapping[str, Any]) -> Given:
    answer = row.get("answer")
    answer = decoded(place, answer) if isinstance(answer, str) else answer
    text = row.get("prediction")
    return Given(
        place=place,
        qid=_name(row.get("index")),
        video=_text(row.get("video")),
        query=_text(row.get("question")),
        text=text if isinstance(text, str) and text != "" else None,
        duration_s=number_of(row.get("duration")),
        truth=None if answer is None else windows_of(place, "answer", answer)[0],
    )


def _vue_tr(place: str, row: Mapping[str, Any]) -> Given:
    answer = row["answer"]
    return _given(place, row, value=[] if answer == [[]] else answer, key="answer")


def _ranking(place: str, row: Mapping[str, Any]) -> Given:
    return _given(place, row, value=row.get("segments"), key="segments")


ROWS: tuple[tuple[str, tuple[str, ...], Callable[[str, Mapping[str, Any]], Given]], ...] = (
    ("moment_detr", ("pred_relevant_windows", "pred_saliency_scores"), _moment_detr),
    ("lmms_eval", ("filtered_resps", "resps"), _lmms_eval),
    ("vlmevalkit", ("question",), _vlmevalkit),
    (OWN_ROWS, ("prediction", "text"), _own),
    ("time_r1", ("pred", "output_text"), _time_r1),
    ("vue_tr", ("answer",), _vue_tr),
    ("rankings", ("segments",), _ranking),
)
"""(form, keys that tell it, reader) of files of rows; the first that fits."""


def _rows_of_table(path: str) -> Predictions:
    """VLMEvalKit's table of answers."""
    rows: list[Given] = []
    for place, row in table_rows(path):
        if not {"question", "prediction"} <= row.keys():
            raise ValueError(
                f"{path}:1: has no columns question and prediction, as VLMEvalKit's tables of answers have"
            )
        rows.append(_vlmevalkit(place, row))
    if not rows:
        raise ValueError(f"{path}: holds no predictions; check the path and the run that wrote it")
    return Predictions("vlmevalkit", rows)


def _timelens(place: str, document: Mapping[str, Any]) -> Iterator[Given]:
    """`{"VIDEO>>>QUERY>>>[start, end]": {"timestamps": …, "answers": "…"}}`, or the answer itself."""
    for key, value in document.items():
        parts = key.rsplit(KEY_SEPARATOR, 1)
        video, separator, query = parts[0].partition(KEY_SEPARATOR)
        if len(parts) != 2 or not separator:
            raise ValueError(f"{place}: {key[:60]!r} must be VIDEO>>>QUERY>>>[start, end]")
        # Written by Python's str(), which puts pairs in parentheses.
        span = decoded(f"{place}: {key[:60]!r}", parts[1].replace("(", "[").replace(")", "]"))
        truth = windows_of(place, key[:60], span)[0]
        # Keys hold the annotation, so that two truths of one query are two questions.
        given = Given(place=f"{place} {key[:60]!r}", qid=key, video=video, query=query, truth=truth)
        if isinstance(value, dict) and "timestamps" in value:
            given.windows, _ = windows_of(place, "timestamps", value["timestamps"])
        else:
            given.text = _text(value.get("answers") if isinstance(value, dict) else value)
        yield given


def _timechat(path: str, document: Mapping[str, Any]) -> Iterator[Given]:
    for qid, row in document.items():
        if not isinstance(row, dict) or "timestamp" not in row:
            raise ValueError(
                f"{path}: {qid!r}: {str(row)[:40]} has no timestamp, which is [] where nothing was predicted"
            )
        windows, _ = windows_of(f"{path}: {qid!r}", "timestamp", row["timestamp"])
        yield Given(
            place=f"{path}: {qid!r}", qid=str(qid), video=row.get("vid"), query=row.get("query"), windows=windows
        )


def _dense_captions(path: str, document: Mapping[str, Any]) -> Iterator[Given]:
    for video, events in document.items():
        windows, _ = windows_of(f"{path}: {video!r}", "timestamp", [event["timestamp"] for event in events])
        yield Given(place=f"{path}: {video!r}", video=video, windows=windows)


def _rankings(path: str, document: list[Any]) -> Iterator[Given]:
    for at, moments in enumerate(document):
        yield Given(place=f"{path}[{at}]", windows=windows_of(f"{path}[{at}]", "moments", moments)[0])


def _row_list(path: str, document: Mapping[str, Any]) -> Iterator[Given]:
    return iter(_rows([(f"{path}: rows[{at}]", row) for at, row in enumerate(document["rows"])], None).rows)


def _first_value(document: Any) -> Any:
    return next(iter(document.values()), None) if isinstance(document, dict) else None


def _is_events(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(event, dict) and "timestamp" in event for event in value)


DOCUMENTS: tuple[tuple[str, Callable[[Any], bool], Callable[[str, Any], Iterator[Given]]], ...] = (
    (
        "timelens",
        lambda it: isinstance(it, dict) and bool(it) and all(KEY_SEPARATOR in key for key in it),
        lambda path, it: _timelens(path, it),
    ),
    (
        "timechat",
        lambda it: isinstance(_first_value(it), dict) and "timestamp" in _first_value(it),
        _timechat,
    ),
    (
        "dense_captions",
        lambda it: isinstance(it, dict) and bool(it) and all(map(_is_events, it.values())),
        _dense_captions,
    ),
    ("rankings", lambda it: isinstance(it, list), _rankings),
    (
        "row list",
        lambda it: isinstance(it, dict) and isinstance(it.get("rows"), list) and bool(it["rows"]),
        _row_list,
    ),
)
"""(form, whether a document is in it, reader) of files that are one document; the first that fits."""
