"""Evaluators of sets of moments: VUE-TR's own (Vidi), and TimeLens2's for VUE-TR, MomentSeeker and Ego4D-NLQ.

A question may have several true moments, and an answer several windows; all of them count, by the seconds that they
cover. Starts are rounded down to whole seconds and ends up, in predictions alone.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtg.evaluation.presets import answer_parsers
from vtg.evaluation.presets.case import Case, Findings, Given, Scores, Window
from vtg.evaluation.presets.preset import PublishedPreset

# Curves are over these, and a score is the area below one.
CURVE = np.linspace(0, 1, 101)
GROUPS = ("duration_category", "query_format", "query_modality")
"""Keys of VUE-TR's annotations by which its script prints the numbers once more."""

AREAS = ("Precision", "Recall", "IoU")
THRESHOLDS = (0.1, 0.2, 0.3, 0.5, 0.7)

Row = tuple[Case, list[Window]]
"""A question, and the windows of one row that answers it, in whole seconds."""


def vue_tr_scores(cases: Sequence[Case], *, decimals: int, empty_is_precise: bool) -> Scores:
    """What qa_eval.py prints, in percent: the areas below precision, recall and IoU over thresholds.

    `empty_is_precise`: a question without a moment that is answered so has precision 1; in the older script it has
    none.
    """
    findings: Findings = {}
    rows = _rows(cases, findings)
    areas = partial(_areas, decimals=decimals, empty_is_precise=empty_is_precise)
    printed: dict[str, Any] = areas(rows) | {"samples": len(rows)}
    for group in GROUPS:
        values = dict.fromkeys(case.metadata[group] for case, _ in rows if isinstance(case.metadata.get(group), str))
        if values:
            chosen = {value: [row for row in rows if row[0].metadata.get(group) == value] for value in values}
            printed[group] = {value: areas(some) | {"samples": len(some)} for value, some in chosen.items()}
    ious = np.array([set_iou(windows, case.truth) for case, windows in rows])
    common = _common(ious) | {name: printed[name] for name in AREAS if printed[name] is not None}
    return Scores(printed, _by_case(cases, rows, ious), common, findings)


def timelens2_set_scores(cases: Sequence[Case]) -> Scores:
    """What TimeLens2's VLMEvalKit datasets of sets print, in shares of 1: mIoU, and shares of IoU >= t."""
    findings: Findings = {}
    rows = _rows(cases, findings)
    ious = np.array([set_iou(windows, case.truth) for case, windows in rows])
    printed = {"mIoU": float(ious.mean())} | {f"R1@{at}": float((ious >= at).mean()) for at in THRESHOLDS}
    return Scores(printed | {"samples": len(rows)}, _by_case(cases, rows, ious), _common(ious), findings, decimals=4)


def set_iou(predicted: Sequence[Window], truth: Sequence[Window]) -> float:
    """Seconds in both over seconds in either, from 0 to 1. Predicted windows are joined first, true ones are not."""
    if not predicted or not truth:
        return float(not predicted and not truth)
    if not all(map(math.isfinite, (bound for window in predicted for bound in window))):
        return 0.0
    joined = [window for window in _joined(predicted) if window[0] <= window[1]]
    both = sum(max(0.0, min(end, b) - max(start, a)) for start, end in joined for a, b in truth)
    either = sum(end - start for start, end in [*joined, *truth]) - both
    return min(1.0, max(0.0, both / (either + 1e-16)))


def _joined(windows: Sequence[Window]) -> list[Window]:
    """Windows that touch made one, in order of their starts."""
    first, *others = sorted(windows, key=lambda window: window[0])
    joined = [first]
    for start, end in others:
        if start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _rows(cases: Sequence[Case], findings: Findings) -> list[Row]:
    rows: list[Row] = []
    for case in cases:
        if not case.given:
            findings.setdefault("not_predicted", []).append(case.name)
        if len(case.given) > 1:
            findings.setdefault("repeated_predictions", []).append(case.name)
        rows += [(case, _whole_seconds(case, given, findings)) for given in case.given]
    return rows


def _whole_seconds(case: Case, given: Given, findings: Findings) -> list[Window]:
    windows: list[Window] = []
    for start, end in given.windows or ():
        if not (math.isfinite(start) and math.isfinite(end)):
            findings.setdefault("nan_window", []).append(case.name)
            return [(math.nan, math.nan)]
        windows.append((float(math.floor(start)), float(math.ceil(end))))
    if not windows and case.truth:
        findings.setdefault("no_window", []).append(case.name)
    return windows


def _areas(rows: Sequence[Row], *, decimals: int, empty_is_precise: bool) -> dict[str, float | None]:
    """Percent; None for a precision or recall that no row has."""
    precisions, recalls = list[float](), list[float]()
    for case, windows in rows:
        truth, predicted = (_ordered(spans) for spans in (case.truth, windows))
        both, true_s, predicted_s = _seconds_in_both(truth, predicted), _seconds(truth), _seconds(predicted)
        if true_s:
            recalls.append(both / true_s)
        if predicted_s:
            precisions.append(both / predicted_s)
        elif empty_is_precise and not true_s:
            precisions.append(1.0)
    ious = [set_iou(windows, case.truth) for case, windows in rows]
    curves = {
        "Precision": _curve(precisions, lambda values, at: values >= at),
        "Recall": _curve(recalls, lambda values, at: values >= at),
        "IoU": _curve(ious, lambda values, at: values > at),
    }
    return {name: None if (area := curves[name]) is None else round(100 * area, decimals) for name in AREAS}


def _curve(values: list[float], is_hit: Callable[[NDArray[Any], float], NDArray[np.bool_]]) -> float | None:
    """The area below the share of values that are hits, over all thresholds."""
    if not values:
        return None
    measured = np.array(values)
    shares = np.array([is_hit(measured, at).mean() for at in CURVE])
    return float((np.diff(CURVE) * (shares[1:] + shares[:-1]) / 2).sum())


def _ordered(windows: Sequence[Window]) -> list[Window]:
    """Windows that run forward, in the order written; NaN as no time at all."""
    return [(min(window), max(window)) for window in windows if window[0] == window[0]]


def _seconds(windows: Sequence[Window]) -> float:
    return sum(end - start for start, end in windows)


def _seconds_in_both(one: Sequence[Window], other: Sequence[Window]) -> float:
    """By two pointers through both lists as they are written: the script does not sort them, nor does this."""
    total, i, j = 0.0, 0, 0
    while i < len(one) and j < len(other):
        total += max(0.0, min(one[i][1], other[j][1]) - max(one[i][0], other[j][0]))
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return total


def _by_case(cases: Sequence[Case], rows: Sequence[Row], ious: NDArray[Any]) -> list[float]:
    """The IoU of each case's last row; NaN where it has none."""
    last = {id(case): float(iou) for (case, _), iou in zip(rows, ious, strict=True)}
    return [last.get(id(case), math.nan) for case in cases]


def _common(ious: NDArray[Any]) -> dict[str, float]:
    return {f"R1@{at}": 100 * float((ious >= at).mean()) for at in THRESHOLDS[2:]} | {"mIoU": 100 * float(ious.mean())}


SETS = "all windows of an answer, joined, against all true ones, by the seconds that they cover"
PARSED = "all `[A, B]`, else all `A - B` and `A to B`, else all numbers in pairs"
INVALID = (
    "reversed windows cover nothing in the IoU and are turned round in precision and recall; a row with NaN counts 0"
)

PRESETS = (
    *(
        PublishedPreset(
            name=name,
            source=f"https://github.com/bytedance/vidi {folder}/qa_eval.py",
            threshold="> (precision, recall: >=)",
            order=f"{SETS}; starts rounded down to whole seconds, ends up; scores are areas over thresholds of 0 to 1",
            rounding=f"percent with {'one decimal' if decimals == 1 else 'two decimals'}",
            parser=f"none: windows are numbers; text as TimeLens2 reads it: {PARSED}",
            denominator=f"rows of predictions; precision: those that predict some time{more}; recall: those that have "
            "a true moment",
            missing="are left out and counted",
            duplicates="every row counts",
            invalid=INVALID,
            score=partial(vue_tr_scores, decimals=decimals, empty_is_precise=bool(more)),
            parse=answer_parsers.timelens2_sets,
        )
        for name, folder, decimals, more in (
            ("vue_tr", "VUE_TR", 1, ""),
            ("vue_tr_v2", "VUE_TR_V2", 2, ", or rightly none"),
        )
    ),
    PublishedPreset(
        name="timelens2_sets",
        source="https://github.com/MCG-NJU/TimeLens2 evaluation/vlmeval/dataset/vidi_vue_tr.py, moment_seeker.py, "
        "ego4d_nlq_v2.py",
        threshold=">=",
        order=f"{SETS}; starts rounded down to whole seconds, ends up",
        rounding="shares of 1, no rounding",
        parser=f"{PARSED} (there a judge model reads what has none)",
        denominator="rows of predictions",
        missing="are left out and counted",
        duplicates="every row counts",
        invalid="reversed windows cover nothing; a row with NaN counts 0",
        score=timelens2_set_scores,
        parse=answer_parsers.timelens2_sets,
    ),
)
