"""Evaluators of language models: R1 and mIoU of the first window of an answer against one true window.

Time-R1, TimeLens, TimeLens2 (VLMEvalKit), lmms-eval's TimeLens tasks, and TimeChat's temporal grounding. They differ in
`>` or `>=`, in their parsers, and in what they divide by.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtg.evaluation.presets import answer_parsers
from vtg.evaluation.presets.case import Case, Findings, Given, Scores
from vtg.evaluation.presets.dense_captions import localization_scores
from vtg.evaluation.presets.overlap import Floats, hull_ious
from vtg.evaluation.presets.preset import PublishedPreset

THRESHOLDS = (0.3, 0.5, 0.7)


def first_ious(cases: Sequence[Case]) -> tuple[Floats, NDArray[np.bool_], Findings]:
    """IoU of each case's first window (of its last row) with its first true one, whether there was one, findings."""
    findings: Findings = {}
    windows = np.full((len(cases), 2), np.nan)
    truths = np.full((len(cases), 2), np.nan)
    for at, case in enumerate(cases):
        if not case.truth:
            raise ValueError(f"{case.place}: {case.name} has no true window; leave such rows out of the ground truth")
        truths[at] = case.truth[0]
        if len(case.truth) > 1:
            findings.setdefault("more_true_windows", []).append(case.name)
        if not case.given:
            findings.setdefault("missing", []).append(case.name)
            continue
        if len(case.given) > 1:
            findings.setdefault("repeated_predictions", []).append(case.name)
        listed = case.given[-1].windows
        if not listed:
            findings.setdefault("no_window", []).append(case.name)
            continue
        if len(listed) > 1:
            findings.setdefault("more_windows", []).append(case.name)
        windows[at] = listed[0]
        start, end = listed[0]
        if start != start or end != end:
            findings.setdefault("nan_window", []).append(case.name)
        elif end <= start:
            findings.setdefault("reversed_or_empty_window", []).append(case.name)
    answered = np.array(~np.isnan(windows).all(axis=1))
    return hull_ious(windows, truths), answered, findings


def time_r1_scores(cases: Sequence[Case]) -> Scores:
    """What eval_all.py prints: shares of IoU > t, mIoU, and the mean of the four."""
    ious, answered, findings = first_ious(cases)
    printed = {f"R1@{at}": int((ious > at).sum()) / len(ious) * 100.0 for at in THRESHOLDS}
    printed["mIoU"] = float(np.mean(ious)) * 100
    common = dict(printed)
    printed["avg"] = sum((printed["mIoU"], *(printed[f"R1@{at}"] for at in THRESHOLDS))) / 4
    return Scores(printed | _counts(cases, answered), ious.tolist(), common, findings)


def timelens_scores(cases: Sequence[Case]) -> Scores:
    """What compute_metrics.py of TimeLens, and lmms-eval's tasks, print: shares of IoU >= t, and mIoU."""
    ious, answered, findings = first_ious(cases)
    printed = {f"R1@{at}": int((ious >= at).sum()) * 100 / len(ious) for at in THRESHOLDS}
    # Python's sum, as there: numpy's pairwise one differs in the last digit that is printed.
    printed["mIoU"] = sum(ious.tolist()) * 100 / len(ious)
    return Scores(printed | _counts(cases, answered), ious.tolist(), printed, findings)


def timelens2_scores(cases: Sequence[Case]) -> Scores:
    """What its VLMEvalKit dataset prints, in shares of 1: R1 over all rows, mIoU over those that have an answer."""
    ious, _, findings = first_ious(cases)
    # A row without text is not scored, and leaves the mean; text without times counts 0 and stays.
    scored = np.array([bool(case.given) and _has_answer(case.given[-1]) for case in cases])
    if not scored.all():
        findings["left_out_of_miou"] = [
            case.name for case, is_scored in zip(cases, scored, strict=True) if not is_scored
        ]
    shares = {at: float(((ious >= at) & scored).sum() / len(ious)) for at in THRESHOLDS}
    miou = float(np.mean(ious[scored])) if scored.any() else 0.0
    printed: dict[str, Any] = {"miou": round(miou, 4)}
    printed |= {f"r1_{str(at).replace('.', '')}": round(share, 4) for at, share in shares.items()}
    printed |= {"scored_count": int(scored.sum()), "total_count": len(cases)}
    common = {f"R1@{at}": 100 * share for at, share in shares.items()} | {"mIoU": 100 * miou}
    return Scores(printed, ious.tolist(), common, findings, decimals=4)


def timechat_scores(cases: Sequence[Case]) -> Scores:
    """What eval_tvg.py prints; for rows that describe whole videos, where eval_dvc.py finds their events."""
    if all(case.query is None for case in cases):
        return localization_scores(cases)
    asked = [case for case in cases if case.given]
    ious, answered, findings = first_ious(asked)
    if len(asked) < len(cases):
        findings["not_predicted"] = [case.name for case in cases if not case.given]
    printed = {f"IOU {at}": int((ious >= at).sum()) * 100 / len(asked) for at in THRESHOLDS}
    common = {f"R1@{at}": printed[f"IOU {at}"] for at in THRESHOLDS} | {"mIoU": 100 * float(np.mean(ious))}
    measured = iter(ious.tolist())
    by_case = [next(measured) if case.given else math.nan for case in cases]
    return Scores(printed | _counts(asked, answered), by_case, common, findings)


def _has_answer(given: Given) -> bool:
    return given.text is not None or given.windows is not None


def _counts(cases: Sequence[Case], answered: NDArray[np.bool_]) -> dict[str, float | int]:
    missing = sum(not case.given for case in cases)
    return {
        "parse_failures": 100 * float(len(cases) - missing - answered.sum()) / len(cases),
        "missing": missing,
        "samples": len(cases),
    }


ONE_WINDOW = "the first window of an answer against the first true one, by overlap over hull"
LAST = "the last row of a question counts, as in the script's dict"
UNSEEN = "count 0 (the script sees no ground truth but the rows')"
INVALID = (
    "no window, or a reversed, empty or NaN one, overlaps nothing (0 over 0 ends the script, or makes its mean NaN)"
)
PARSED = "all clock times in pairs, else all `A - B`, else all `A to B`, else all numbers in pairs; the first pair"

PRESETS = (
    PublishedPreset(
        name="time_r1",
        source="https://github.com/xiaomi-research/time-r1 src/vllm_inference/eval_all.py",
        threshold=">",
        order=ONE_WINDOW,
        rounding="no rounding",
        parser="the last `A to B` or `A and B` of the text",
        denominator="questions",
        missing=UNSEEN,
        duplicates=LAST,
        invalid=INVALID,
        score=time_r1_scores,
        parse=answer_parsers.time_r1,
    ),
    PublishedPreset(
        name="timelens",
        source="https://github.com/TencentARC/TimeLens evaluation/compute_metrics.py",
        threshold=">=",
        order=ONE_WINDOW,
        rounding="no rounding",
        parser=PARSED,
        denominator="questions",
        missing=UNSEEN,
        duplicates=LAST,
        invalid=INVALID,
        score=timelens_scores,
        parse=answer_parsers.timelens,
    ),
    PublishedPreset(
        name="timelens2",
        source="https://github.com/MCG-NJU/TimeLens2 evaluation/vlmeval/dataset/timelens.py",
        threshold=">=",
        order=ONE_WINDOW,
        rounding="shares of 1 with four decimals",
        parser=f"in the last answer tag, if any: {PARSED}",
        denominator="R1: all questions; miou: those with an answer, as there",
        missing="count as no hit, and leave the mean of IoU, as rows without text do there",
        duplicates=LAST,
        invalid=INVALID,
        score=timelens2_scores,
        parse=answer_parsers.timelens2,
    ),
    PublishedPreset(
        name="lmms_eval",
        source="https://github.com/EvolvingLMMs-Lab/lmms-eval lmms_eval/tasks/timelens/utils.py",
        threshold=">=",
        order=ONE_WINDOW,
        rounding="no rounding",
        parser=f"{PARSED}; a number may end with its point",
        denominator="questions; a row that cannot be read is an error here (there it leaves the denominator)",
        missing=UNSEEN,
        duplicates=LAST,
        invalid=INVALID,
        score=timelens_scores,
        parse=answer_parsers.lmms_eval,
    ),
    PublishedPreset(
        name="timechat",
        source="https://github.com/RenShuhuai-Andy/TimeChat metrics/tvg/eval_tvg.py, metrics/dvc/eval_dvc.py",
        threshold=">= (videos with captions: >)",
        order=f"{ONE_WINDOW}; of captions all windows, by precision, recall and F1 in each video",
        rounding="no rounding; captions: shares of 1",
        parser="none: windows are numbers",
        denominator="questions that were predicted, as with --sample there; captions: all videos",
        missing="are left out and counted; a video without captions counts 0",
        duplicates=LAST,
        invalid=f"{INVALID}; captions: the ends of reversed windows change places",
        score=timechat_scores,
    ),
)
