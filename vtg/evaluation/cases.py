"""Cases to score by a published preset: predictions beside the ground truth, in any published form of either."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vtg.annotations.conversion.convert_file import found_rows
from vtg.annotations.formats.published import is_published
from vtg.annotations.sources import SOURCES
from vtg.annotations.sources.json_elements import BrokenFile
from vtg.annotations.sources.recognition import recognize
from vtg.annotations.sources.source_row import FoundRow, NoRow
from vtg.annotations.sources.span_values import number_of
from vtg.evaluation.joining import difference_of, refuse_other_questions
from vtg.evaluation.presets.case import Case, Findings, Given, Window
from vtg.evaluation.published_predictions import Predictions

Parser = Callable[[Given, Case], list[Window]]


def cases_of(predictions: Predictions, *, annotations: str | None, findings: Findings) -> list[Case]:
    """A case for each question of the ground truth, or of the predictions where they hold their truth.

    Rows are joined by qid (compared as text), else by video and query, else by video where the predictions describe
    videos, else by their order. What fits nothing is a finding.

    Raises ValueError where nothing joins, where most predictions answer other questions, or a truth cannot be read.
    """
    for position, given in enumerate(predictions.rows):
        given.position = position
    if annotations is None:
        return _own_cases(predictions)
    cases = list(true_cases(annotations, findings))
    if not cases:
        left_out = next(iter(findings.get("annotations_left_out", ["it holds none"])))
        raise ValueError(
            f"{annotations}: no usable row ({left_out}); check it with python -m vtg.validate {annotations}"
        )
    if predictions.in_order:
        _join_in_order(cases, predictions, annotations)
        return cases
    if all(given.query is None and given.qid is None for given in predictions.rows):
        cases = _by_video(cases)
    _join(cases, predictions.rows, annotations, findings)
    return cases


def with_windows(cases: Sequence[Case], parser: Parser | None, *, preset: str) -> list[Case]:
    """The cases with the windows of rows that have text alone, as `parser` reads them; the given ones stay as they are.

    Raises ValueError, naming the place, where the preset reads no text.
    """
    return [
        replace(case, given=[_with_windows(case, given, parser, preset) for given in case.given])
        if any(given.windows is None and given.text is not None for given in case.given)
        else case
        for case in cases
    ]


def _with_windows(case: Case, given: Given, parser: Parser | None, preset: str) -> Given:
    if given.windows is not None or given.text is None:
        return given
    if parser is None:
        raise ValueError(
            f"{given.place}: has text alone, and preset {preset} takes numbers; name the form of the answers: "
            "--answer FORM, or take a preset that reads text"
        )
    return replace(given, windows=parser(given, case))


def _own_cases(predictions: Predictions) -> list[Case]:
    """Cases of rows that hold their own truth; rows with the same question are one case."""
    cases: dict[tuple, Case] = {}
    for given in predictions.rows:
        if given.truth is None:
            raise ValueError(f"{given.place}: holds no true window; give the ground truth: --annotations GT")
        if not all(math.isfinite(bound) for window in given.truth for bound in window):
            raise ValueError(f"{given.place}: its true window {list(given.truth[0])} is not finite; mend the row")
        key = (given.qid,) if given.qid is not None else (given.place,)
        case = cases.get(key)
        if case is None:
            cases[key] = case = Case(
                place=given.place,
                truth=given.truth,
                qid=given.qid,
                video=given.video,
                query=given.query,
                duration_s=given.duration_s,
                annotators=given.annotators,
            )
        case.given.append(given)
    return list(cases.values())


def true_cases(path: str, findings: Findings) -> Iterator[Case]:
    """Cases without predictions, from a file in any form that `vtg.convert` reads.

    The name of its form may stand before it (`qvhighlights:FILE`). Rows that cannot be read are findings. Raises
    OSError, and ValueError naming the place for a file in no known form, a true window that is none, and a qid that
    repeats.
    """
    name = None
    if is_published(path):
        name, _, path = path.partition(":")
    forms = recognize(path, name=name)
    if len(forms.forms) != 1:
        which = f"could be {' or '.join(forms.forms)}" if forms.forms else "is in no known form"
        raise ValueError(f"{path}: {which} (it is {forms.looks}); make it one of vtg's own with python -m vtg.convert")
    seen: dict[str, str] = {}
    try:
        for line, found in found_rows(path, SOURCES[forms.forms[0]], beside={}):
            if isinstance(found, NoRow):
                findings.setdefault("annotations_left_out", []).append(f"{path}:{line}: {found.text}")
                continue
            case = _true_case(f"{path}:{line}", found)
            if case.qid is not None and case.qid in seen:
                raise ValueError(f"{case.place}: qid {case.qid!r} is that of {seen[case.qid]} too; make qids differ")
            if case.qid is not None:
                seen[case.qid] = case.place
            yield case
    except BrokenFile as error:
        raise ValueError(f"{path}:{error.line}: {error}") from None


def _true_case(place: str, found: FoundRow) -> Case:
    return Case(
        place=place,
        truth=_windows(place, found.spans, found),
        qid=str(found.qid) if isinstance(found.qid, str | int) else None,
        video=found.video if isinstance(found.video, str) else None,
        query=found.query if isinstance(found.query, str) else None,
        duration_s=number_of(found.duration),
        annotators=None if found.annotators is None else _windows(place, found.annotators, found),
        metadata=found.metadata,
    )


def _windows(place: str, spans: Any, found: FoundRow) -> list[Window]:
    """True windows in seconds. Raises ValueError, naming the place, for what is no pair of finite numbers."""
    pairs = spans if isinstance(spans, list) else []
    if pairs and not isinstance(pairs[0], list):
        pairs = [pairs]
    windows = []
    for pair in pairs:
        bounds = [number_of(bound) for bound in pair] if isinstance(pair, list) else []
        if len(bounds) != 2 or None in bounds:
            raise ValueError(f"{place}: {str(pair)[:60]} is no [start, end] in seconds; see python -m vtg.convert")
        start, end = bounds
        if found.parts is not None:
            scale = (number_of(found.duration) or 0.0) / found.parts
            start, end = (start or 0.0) * scale, (end or 0.0) * scale
        windows.append((start, end))
    return windows  # type: ignore[return-value]


def _join(cases: Sequence[Case], rows: Sequence[Given], annotations: str, findings: Findings) -> None:
    by_qid = {case.qid: case for case in cases if case.qid is not None}
    by_question: dict[tuple, list[Case]] = defaultdict(list)
    # Forms may name a question by other words than its qid (TimeLens: video, query and truth).
    are_qids = any(given.qid in by_qid for given in rows)
    if not are_qids or any(given.qid is None for given in rows):
        for case in cases:
            by_question[_question(case.video, case.query)].append(case)
    joined, others = 0, []
    for given in rows:
        case = by_qid.get(given.qid) if given.qid is not None else None
        if case is not None and (difference := difference_of(_said(given, case), _said(case, given))):
            others.append(f"{given.place} (qid {given.qid!r}): {difference}")
        if case is None and (given.qid is None or not are_qids):
            same = by_question.get(_question(given.video, given.query), [])
            # Of a question that is asked twice, the first row answers the first.
            case = next((other for other in same if not other.given), same[-1] if same else None)
        if case is None:
            findings.setdefault("extra", []).append(given.qid or given.place)
        else:
            case.given.append(given)
            joined += 1
    # Official scripts join by qid and look at no question, so that a mended typo is none of ours to refuse.
    if 2 * len(others) > joined:
        refuse_other_questions(others, annotations)
    if others:
        findings.setdefault("other_questions", []).extend(others)
    if not joined:
        first, true = rows[0], cases[0]
        raise ValueError(
            f"no prediction (first: {first.place}, {first.qid or first.query!r}) is of a row of {annotations} (first: "
            f"{true.name!r}); give the annotations that were predicted on"
        )


def _join_in_order(cases: Sequence[Case], predictions: Predictions, annotations: str) -> None:
    if len(cases) != len(predictions.rows):
        raise ValueError(
            f"{predictions.rows[0].place}: {len(predictions.rows)} rankings for {len(cases)} rows of {annotations}; "
            "they are joined by their order, and both files must have as many"
        )
    for case, given in zip(cases, predictions.rows, strict=True):
        case.given.append(given)


def _by_video(cases: Sequence[Case]) -> list[Case]:
    """One case a video, with the windows of all its rows."""
    videos: dict[str | None, Case] = {}
    for case in cases:
        video = videos.setdefault(
            case.video, Case(place=case.place, truth=[], qid=None, video=case.video, duration_s=case.duration_s)
        )
        video.truth.extend(case.truth)
    return list(videos.values())


def _said(one: Given | Case, other: Given | Case) -> dict[str, str]:
    """What a side says of its question, as far as the other one does too."""
    said = {}
    if one.video is not None and other.video is not None:
        said["video"] = one.video
    if one.query is not None and other.query is not None:
        said["sentence"] = one.query
    return said


def _question(video: str | None, query: str | None) -> tuple:
    """Video without its folder and extension, and the words of the query."""
    return (Path(video).stem if video is not None else None, " ".join(query.split()) if query is not None else None)
