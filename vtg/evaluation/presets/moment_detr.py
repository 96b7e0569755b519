"""QVHighlights' evaluator, standalone_eval of Moment-DETR, and its variants in UniVTG and Lighthouse.

Mean average precision over ranked windows, R1 (and R5), by the length of the true moments, and highlights: average
precision and HIT@1 of the clips' saliency. All shares have two decimals, as printed there.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vtg.evaluation.presets.case import Case, Findings, Given, Scores, Window
from vtg.evaluation.presets.highlights import highlight_scores
from vtg.evaluation.presets.mean_ap import THRESHOLDS, average_precisions
from vtg.evaluation.presets.overlap import Floats, best_ious, hull_ious, length_ious
from vtg.evaluation.presets.preset import PublishedPreset

# More windows of a row than these are not looked at for mAP.
MAX_WINDOWS = 10

NOWHERE: Window = (math.nan, math.nan)


@dataclass(frozen=True)
class Variant:
    """How the three scripts differ.

    Attributes:
        ranges: name → (more than, at most) seconds of a true moment; None: all moments.
        empty_range_is_all: a range without a moment shows the numbers of all of them, as UniVTG's does in silence.
        recalls: how many windows R may look at.
        suffix: of the names of the numbers over all moments.
    """

    ranges: dict[str, tuple[float, float] | None]
    empty_range_is_all: bool = False
    recalls: tuple[int, ...] = (1,)
    lowest: float = 0.5
    has_miou: bool = False
    suffix: str = ""

    @property
    def recall_thresholds(self) -> tuple[float, ...]:
        count = round((0.95 - self.lowest) / 0.05) + 1
        return tuple(float(f"{threshold:.2f}") for threshold in np.linspace(self.lowest, 0.95, count))


MOMENT_DETR = Variant({"short": (0, 10), "middle": (10, 30), "long": (30, 150), "full": None})
UNIVTG = Variant(
    {"short": (0, 10), "middle": (10, 30), "long": (30, math.inf), "full": None},
    empty_range_is_all=True,
    recalls=(1, 5),
    lowest=0.3,
    has_miou=True,
    suffix="-key",
)
# Its only range leaves out moments of no length, and longer ones than any data set has.
LIGHTHOUSE = Variant({"full": (0, 1500)})


def score(cases: Sequence[Case], variant: Variant) -> Scores:
    """The scores of a variant. Raises ValueError for questions without a row, and for cases without a true window."""
    refuse_missing(cases)
    # In the order of the predictions, as in the scripts' dicts: where a mean ends in 5, the order of its sum rounds it.
    order = sorted(range(len(cases)), key=lambda at: cases[at].given[0].position)
    cases = [cases[at] for at in order]
    findings = _noted(cases)
    first = [case.given[-1] for case in cases]
    printed: dict[str, Any] = {}
    brief: dict[str, float | None] = {}
    ious = np.zeros(len(cases))
    common: dict[str, float] = {}
    if first[0].windows is not None:
        ranked = [_ranked(case.given) for case in cases]
        for name in variant.ranges:
            printed[name] = _range_scores(cases, ranked, variant, name, findings)
        brief = _brief(printed, variant)
        ious = _first_ious(first, [case.truth for case in cases])
        common = _common(cases, ranked, ious)
    if highlights := highlight_scores(cases):
        marked = ("HL-min-VeryGood-mAP", "HL-min-VeryGood-Hit1") if variant.suffix else ()
        for group, numbers in highlights.items():
            for key, value in numbers.items():
                name = f"{group}-{key.split('-')[1]}"
                brief[name + variant.suffix * (name in marked)] = value
        printed |= highlights
    if not printed:
        raise ValueError(f"{first[0].place}: has neither pred_relevant_windows nor pred_saliency_scores to score")
    given_order = np.zeros(len(cases))
    given_order[order] = ious
    return Scores({"brief": brief, **printed}, given_order.tolist(), common, findings)


def refuse_missing(cases: Sequence[Case]) -> None:
    """Raises ValueError where a question has no row, or no true window: the scripts end there as well."""
    missed = [case for case in cases if not case.given]
    if missed:
        raise ValueError(
            f"{len(missed)} of {len(cases)} questions have no prediction (first: {missed[0].place}, {missed[0].name}), "
            "and the official script refuses such files; predict them, or score with --preset default, where they are 0"
        )
    bare = next((case for case in cases if not case.truth), None)
    if bare is not None:
        raise ValueError(f"{bare.place}: {bare.name} has no true window; leave such rows out of the ground truth")


def _noted(cases: Sequence[Case]) -> Findings:
    """What the rules do with rows that the scripts crash on, or pass over in silence."""
    findings: Findings = {}
    # A language model's answers have none at all, which needs no word.
    some_scores = any(given.scores for case in cases for given in case.given)
    for case in cases:
        if len(case.given) > 1:
            findings.setdefault("repeated_predictions", []).append(case.name)
        for given in case.given:
            if given.windows == []:
                findings.setdefault("no_window", []).append(case.name)
            elif some_scores and given.windows and given.scores is None:
                findings.setdefault("no_score", []).append(case.name)
            if any(math.isnan(start) or math.isnan(end) for start, end in given.windows or ()):
                findings.setdefault("nan_window", []).append(case.name)
            elif any(end <= start for start, end in given.windows or ()):
                findings.setdefault("reversed_or_empty_window", []).append(case.name)
    return findings


def _range_scores(
    cases: Sequence[Case], ranked: Sequence[list[Window]], variant: Variant, name: str, findings: Findings
) -> dict[str, Any]:
    """The numbers of one range of lengths; each None where no moment is of such a length."""
    limits = variant.ranges[name]
    chosen, windows, truths = list(cases), list(ranked), [case.truth for case in cases]
    if limits is not None:
        low, high = limits
        inside = [[window for window in truth if low < window[1] - window[0] <= high] for truth in truths]
        kept = [at for at, truth in enumerate(inside) if truth]
        if kept or not variant.empty_range_is_all:
            chosen, windows = [cases[at] for at in kept], [ranked[at] for at in kept]
            truths = [inside[at] for at in kept]
        else:
            findings.setdefault("empty_range", []).append(f"{name}: the numbers of all moments are shown")
    if not chosen:
        findings.setdefault("empty_range", []).append(f"{name}: no number")
    precisions = average_precisions(windows, truths)
    last = [case.given[-1] for case in chosen]
    first = _first_ious(last, truths)
    by_threshold = precisions.mean(axis=0) if len(chosen) else np.full(len(THRESHOLDS), np.nan)
    numbers: dict[str, Any] = {"MR-mIoU": _percent(first)} if variant.has_miou else {}
    numbers["MR-mAP"] = {str(at): _percent(value) for at, value in zip(THRESHOLDS, by_threshold, strict=True)}
    numbers["MR-mAP"]["average"] = _percent(by_threshold)
    for recall in variant.recalls:
        ious = first if recall == 1 else _ious_of_several(last, truths, recall)
        numbers[f"MR-R{recall}"] = {str(at): _percent(ious >= at) for at in variant.recall_thresholds}
    return numbers


def _percent(values: Any) -> float | None:
    """The mean as a share of 100 with two decimals; None of nothing."""
    mean = float(np.mean(values)) if np.size(values) else math.nan
    return None if math.isnan(mean) else float(f"{100 * mean:.2f}")


def _ranked(given: Sequence[Given]) -> list[Window]:
    """The windows of all rows of a query, ten of each, the best score first and equal ones in their order."""
    windows = [window for row in given for window in (row.windows or [])[:MAX_WINDOWS]]
    if any(row.windows and row.scores is None for row in given):
        return windows
    scores = [score for row in given for score in (row.scores or [])[:MAX_WINDOWS]]
    # NaN last: sorting by it would leave the order to chance.
    order = sorted(range(len(windows)), key=lambda at: math.inf if math.isnan(scores[at]) else -scores[at])
    return [windows[at] for at in order]


def _first_ious(rows: Sequence[Given], truths: Sequence[list[Window]]) -> Floats:
    """IoU of the first window that a row lists, whatever its score, with the true one it overlaps most."""
    if not rows:
        return np.zeros(0)
    first = np.array([row.windows[0] if row.windows else NOWHERE for row in rows], dtype=np.float64)
    return best_ious(first, list(truths))[0]


def _ious_of_several(rows: Sequence[Given], truths: Sequence[list[Window]], count: int) -> Floats:
    """IoU of the best pair of a true window and one of the first `count` listed."""
    best = np.zeros(len(rows))
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for at, (row, truth) in enumerate(zip(rows, truths, strict=True)):
        if row.windows:
            groups[min(count, len(row.windows)), len(truth)].append(at)
    for (windows, _), members in groups.items():
        predicted = np.array([(rows[at].windows or [])[:windows] for at in members], dtype=np.float64)
        true = np.array([truths[at] for at in members], dtype=np.float64)
        ious = np.nan_to_num(length_ious(predicted[:, :, None], true[:, None]), nan=0.0)
        pair = ious.reshape(len(members), -1).argmax(axis=1)
        row, column = np.divmod(pair, true.shape[1])
        every = np.arange(len(members))
        best[members] = hull_ious(predicted[every, row], true[every, column])
    return best


def _brief(groups: dict[str, Any], variant: Variant) -> dict[str, float | None]:
    """The numbers that tables in papers show."""
    brief: dict[str, float | None] = {}
    for name, numbers in groups.items():
        mark = variant.suffix if name == "full" else ""
        brief[f"MR-{name}-mAP{mark}"] = numbers["MR-mAP"]["average"]
        if variant.has_miou:
            brief[f"MR-{name}-mIoU{mark}"] = numbers["MR-mIoU"]
        if name == "full":
            brief |= {f"MR-full-mAP@{at}{mark}": numbers["MR-mAP"][at] for at in ("0.5", "0.75")}
            at_recall = ("0.3", "0.5", "0.7") if variant.lowest < 0.5 else ("0.5", "0.7")
            for recall in variant.recalls:
                brief |= {f"MR-full-R{recall}@{at}{mark}": numbers[f"MR-R{recall}"][at] for at in at_recall}
    return dict(sorted(brief.items()))


def _common(cases: Sequence[Case], ranked: Sequence[list[Window]], ious: Floats) -> dict[str, float]:
    precisions = average_precisions(ranked, [case.truth for case in cases])
    common = {f"R1@{at}": 100 * float(np.mean(ious >= at)) for at in (0.3, 0.5, 0.7)}
    return common | {"mIoU": 100 * float(np.mean(ious)), "mAP": 100 * float(precisions.mean())}


def _preset(name: str, source: str, variant: Variant, ranges: str) -> PublishedPreset:
    return PublishedPreset(
        name=name,
        source=source,
        threshold=">=",
        order="R1 takes the first window listed, mAP the first ten by score; against the true window it overlaps most",
        rounding="percent with two decimals",
        parser="none: windows are numbers",
        denominator=f"questions; {ranges}",
        missing="refused, as there; a row without a window counts 0 (the script crashes)",
        duplicates="mAP ranks the windows of all rows of a qid, R1 takes the last row; qids are compared as text",
        invalid="reversed or empty windows overlap nothing; a NaN window is a hit in mAP, as there, and a miss in R1 "
        "and mIoU; windows without a score keep their order (the script crashes)",
        score=lambda cases: score(cases, variant),
    )


EVAL = "standalone_eval/eval.py"
PRESETS = (
    _preset(
        "moment_detr",
        f"https://github.com/jayleicn/moment_detr {EVAL}",
        MOMENT_DETR,
        "short, middle and long hold moments of (0, 10], (10, 30], (30, 150] s; no number where none is (the script "
        "crashes)",
    ),
    _preset(
        "univtg",
        "https://github.com/showlab/UniVTG eval/eval.py",
        UNIVTG,
        "short, middle and long hold moments of (0, 10], (10, 30], (30, inf) s; a range without any shows the numbers "
        "of all, as there",
    ),
    _preset(
        "lighthouse",
        f"https://github.com/line/lighthouse training/{EVAL}",
        LIGHTHOUSE,
        "true moments of no length, or over 1500 s, are left out",
    ),
)
