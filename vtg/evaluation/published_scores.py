"""Scores by the rules of published evaluators: one preset, or all of them side by side."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import compress
from typing import Any

import numpy as np

from vtg.evaluation.cases import Parser, cases_of, true_cases, with_windows
from vtg.evaluation.metrics import PRESETS, grounding_metrics, top1_ious
from vtg.evaluation.presets.case import Case, Findings, Given, Scores, Window
from vtg.evaluation.presets.preset import PublishedPreset
from vtg.evaluation.presets.table import PUBLISHED
from vtg.evaluation.published_predictions import read_predictions
from vtg.evaluation.ranked_metrics import DEFAULT_IOUS
from vtg.evaluation.score_context import Rules, Sampling, context
from vtg.tasks.answer import Status
from vtg.tasks.span_task import SpanTask

OWN = "default"
"""This project's own rules, among the presets of `scores_by_all`."""


@dataclass(slots=True)
class Asked:
    """The questions of a file of predictions, and what did not fit."""

    form: str
    cases: list[Case]
    findings: Findings = field(default_factory=dict)


def asked(predictions: str, *, annotations: str | None, field: str | None) -> Asked:
    """Reads both files, in whatever published forms. Raises OSError, and ValueError naming the place."""
    findings: Findings = {}
    read = read_predictions(predictions, field=field)
    return Asked(read.form, cases_of(read, annotations=annotations, findings=findings), findings)


def scores_by(preset: PublishedPreset, cases: Sequence[Case], *, task: SpanTask | None = None) -> Scores:
    """The scores of one preset. `task` reads answers in text instead of the preset's own parser."""
    return preset.score(with_windows(cases, _parser(preset, task), preset=preset.name))


def scores_in_context(
    predictions: str,
    *,
    preset: str,
    annotations: str | None,
    field: str | None = None,
    task: SpanTask | None = None,
    train: str | None = None,
    sampling: Sampling | None = None,
    compare: str | None = None,
    ious_asked: Sequence[float] = DEFAULT_IOUS,
) -> tuple[Asked, Scores, dict[str, Any]]:
    """The questions, their scores by a preset (this project's own too), and what `--statistics` shows beside them.

    `train`: annotations to learn the best blind answer from; `compare`: predictions of a second run. Raises OSError,
    and ValueError naming the place.
    """
    # The older name, whose rules for rows of this project's form are those of time_r1.
    published = PUBLISHED.get("time_r1" if preset == "timer1" else preset)
    own = "vtg" if preset == OWN else preset
    score = partial(own_scores, preset=own) if published is None else published.score
    rules = Rules(
        score=score,
        inclusive=PRESETS[own].inclusive if published is None else published.inclusive,
        in_seconds=published is None or published.in_seconds,
    )

    def read(path: str) -> tuple[Asked, Scores]:
        one = asked(path, annotations=annotations, field=field)
        parser = _own_parser(task) if published is None else _parser(published, task)
        one.cases = with_windows(one.cases, parser, preset=preset)
        return one, score(one.cases)

    first, scores = read(predictions)
    second = None if compare is None else read(compare)
    report = context(
        first.cases,
        scores,
        rules,
        training=None if train is None else list(true_cases(train, {})),
        training_path=train or "",
        sampling=sampling,
        other=None if second is None else (second[0].cases, second[1]),
        ious_asked=ious_asked,
    )
    return first, scores, report


def scores_by_all(cases: Sequence[Case], *, task: SpanTask | None = None) -> tuple[dict[str, Scores], dict[str, str]]:
    """The scores of each preset, this project's own first; and for each that refuses the cases, why."""
    scores: dict[str, Scores] = {}
    refused: dict[str, str] = {}
    for name in (OWN, *PUBLISHED):
        try:
            scores[name] = own_scores(cases, task=task) if name == OWN else scores_by(PUBLISHED[name], cases, task=task)
        except ValueError as error:
            refused[name] = str(error)
    return scores, refused


def own_scores(cases: Sequence[Case], *, task: SpanTask | None = None, preset: str = "vtg") -> Scores:
    """This project's own rules: the first window of the first row of a question; every question counts whose true
    windows are moments.

    `preset`: one of `vtg.evaluation.metrics.PRESETS`, whose thresholds count.
    """
    # As where this project's rows are joined: such a row of the annotations is an error, and left out.
    is_kept = np.array([all(map(_is_moment, case.truth)) for case in cases], dtype=bool)
    findings: Findings = {}
    if left_out := [case.name for case, is_whole in zip(cases, is_kept, strict=True) if not is_whole]:
        findings["truth_left_out"] = left_out
    kept = with_windows(list(compress(cases, is_kept)), _own_parser(task), preset=OWN)
    if missing := [case.name for case in kept if not case.given]:
        findings["missing"] = missing
    predictions = [case.given[0].windows or [] if case.given else None for case in kept]
    truths = [case.truth for case in kept]
    metrics = grounding_metrics(predictions, truths, preset=preset)
    common = {name: float(value) for name, value in metrics.items() if name.startswith("R1@") or name == "mIoU"}
    ious = np.full(len(cases), np.nan)
    ious[is_kept] = top1_ious(predictions, truths)
    return Scores(dict(metrics), ious.tolist(), common, findings)


def _is_moment(window: Window) -> bool:
    start, end = window
    return math.isfinite(start) and math.isfinite(end) and start < end


def spread(scores: dict[str, Scores]) -> dict[str, float]:
    """How far conventions alone move each number that several presets give: the largest less the smallest."""
    names = Counter(name for one in scores.values() for name in one.common)
    return {
        name: max(values) - min(values)
        for name, count in names.items()
        if count > 1 and (values := [one.common[name] for one in scores.values() if name in one.common])
    }


def rules_of(name: str) -> str:
    """Every rule of a preset, in words."""
    if name in PUBLISHED:
        return PUBLISHED[name].describe()
    return f"preset {name}\n{PRESETS['vtg' if name == OWN else name].convention}"


def _own_parser(task: SpanTask | None) -> Parser | None:
    return None if task is None else partial(_asked, task)


def _parser(preset: PublishedPreset, task: SpanTask | None) -> Parser | None:
    if task is not None:
        return partial(_asked, task)
    parse = preset.parse
    return None if parse is None else lambda given, case: parse(given.text or "")


def _asked(task: SpanTask, given: Given, case: Case) -> list[Window]:
    duration_s = given.duration_s if given.duration_s is not None else case.duration_s
    if duration_s is None or not duration_s > 0:
        raise ValueError(f"{given.place}: duration: is {duration_s}; parsing text needs the clip's length in seconds")
    answer = task.parse(given.text or "", duration_s=duration_s)
    if answer.status == Status.MALFORMED and not case.truth:
        return [(math.nan, math.nan)]  # no window would be the right answer here
    return list(answer.spans)
