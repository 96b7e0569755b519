"""Recall among ranked proposals, after suppression of near ones: TALL's script for Charades-STA and TACoS, and
2D-TAN's, with which most papers on ActivityNet Captions are measured.
"""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vtg.evaluation.presets.case import Case, Findings, Given, Scores, Window
from vtg.evaluation.presets.overlap import Floats, hull_ious, length_ious
from vtg.evaluation.presets.preset import PublishedPreset

# TALL suppresses proposals that overlap by more than the threshold less this.
TALL_MARGIN = 0.05
TALL_RECALLS = (1, 5, 10)
TAN_RECALLS = (1, 5)
TAN_THRESHOLDS = (0.3, 0.5, 0.7)
# NMS_THRESH of 2D-TAN's configs for ActivityNet.
TAN_OVERLAP = 0.5


def tall_scores(cases: Sequence[Case], thresholds: Sequence[float]) -> Scores:
    """Shares of 1 of questions with a hit (IoU >= t) among the first n proposals left."""
    findings: Findings = {}
    ranked = [_ranked(_row(case, findings), later_first=True) for case in cases]
    truths = _truths(cases)
    printed: dict[str, float | int] = {}
    common: dict[str, float] = {}
    for threshold in thresholds:
        found = _first_hit(ranked, truths, lambda ious, at=threshold: ious >= at, threshold - TALL_MARGIN)
        for recall in TALL_RECALLS:
            printed[f"R@{recall}, IoU={threshold}"] = float((found < recall).sum() / len(cases))
        common[f"R1@{threshold}"] = 100 * float((found < 1).mean())
        common[f"R5@{threshold}"] = 100 * float((found < 5).mean())
    ious = _first_ious(ranked, truths)
    common["mIoU"] = 100 * float(ious.mean())
    return Scores(printed | {"samples": len(cases)}, ious.tolist(), common, findings, decimals=4)


def tan_scores(cases: Sequence[Case]) -> Scores:
    """Percent with two decimals of questions with a hit (IoU > t) among the first n proposals left; mIoU."""
    findings: Findings = {}
    kept, truths = [], []
    for case in cases:
        if len(case.truth) != 1:
            raise ValueError(
                f"{case.place}: {case.name} has {len(case.truth)} true windows; this script takes one each"
            )
        start, end = case.truth[0]
        if start >= end:  # the script's loader passes over such rows
            findings.setdefault("truth_left_out", []).append(case.name)
            continue
        duration_s = case.duration_s if case.duration_s is not None else math.inf
        kept.append(case)
        truths.append((max(start, 0.0), min(end, duration_s)))
    if not kept:
        raise ValueError("no row of the ground truth has a window that starts before it ends")
    ranked = [_ranked(_row(case, findings), later_first=False) for case in kept]
    true = np.array(truths, dtype=np.float64)
    shares: dict[tuple[int, float], float] = {}
    for threshold in TAN_THRESHOLDS:
        found = _first_hit(ranked, true, lambda ious, at=threshold: ious > at, TAN_OVERLAP)
        shares |= {(recall, threshold): 100 * float((found < recall).mean()) for recall in TAN_RECALLS}
    ious = _first_ious(ranked, true)
    printed: dict[str, float | int] = {f"Rank@{r},mIoU@{t}": float(f"{s:.2f}") for (r, t), s in shares.items()}
    printed |= {"mIoU": float(f"{100 * ious.mean():.2f}"), "samples": len(kept)}
    common = {f"R{recall}@{threshold}": share for (recall, threshold), share in shares.items()}
    by_case = dict(zip(map(id, kept), ious.tolist(), strict=True))
    common["mIoU"] = 100 * float(ious.mean())
    return Scores(printed, [by_case.get(id(case), math.nan) for case in cases], common, findings)


def _row(case: Case, findings: Findings) -> Given | None:
    if not case.given:
        findings.setdefault("missing", []).append(case.name)
        return None
    if len(case.given) > 1:
        findings.setdefault("repeated_predictions", []).append(case.name)
    if not case.given[-1].windows:
        findings.setdefault("no_window", []).append(case.name)
    return case.given[-1]


def _truths(cases: Sequence[Case]) -> Floats:
    for case in cases:
        if len(case.truth) != 1:
            raise ValueError(
                f"{case.place}: {case.name} has {len(case.truth)} true windows; this script takes one each"
            )
    return np.array([case.truth[0] for case in cases], dtype=np.float64)


def _ranked(row: Given | None, *, later_first: bool) -> list[Window]:
    """Windows by score, as listed without one; of equal scores the later one first, where the script's sort does so."""
    windows = row.windows if row is not None and row.windows else []
    if row is None or row.scores is None:
        return windows
    scores = [-math.inf if math.isnan(score) else score for score in row.scores]
    order = sorted(range(len(windows)), key=lambda at: (-scores[at], -at if later_first else at))
    return [windows[at] for at in order]


def _first_ious(ranked: Sequence[list[Window]], truths: Floats) -> Floats:
    first = np.array([windows[0] if windows else (math.nan, math.nan) for windows in ranked], dtype=np.float64)
    return hull_ious(first, truths)


def _first_hit(ranked: Sequence[list[Window]], truths: Floats, is_hit, overlap: float) -> NDArray[np.int64]:
    """How many proposals stand before the first hit, `(N,)`, those suppressed not counted; very many without a hit."""
    found = np.full(len(ranked), np.iinfo(np.int64).max)
    groups: dict[int, list[int]] = defaultdict(list)
    for at, windows in enumerate(ranked):
        if windows:
            groups[len(windows)].append(at)
    for members in groups.values():
        windows = np.array([ranked[at] for at in members], dtype=np.float64)
        stays = _left(windows, overlap)
        hits = stays & is_hit(hull_ious(windows, truths[members][:, None]))
        before = np.cumsum(stays, axis=1) - 1
        found[members] = np.where(hits, before, np.iinfo(np.int64).max).min(axis=1)
    return found


def _left(windows: Floats, overlap: float) -> NDArray[np.bool_]:
    """Which of ranked windows `(N, windows, 2)` no better one, itself left, overlaps by more than `overlap`."""
    stays = np.ones(windows.shape[:2], dtype=bool)
    for at in range(windows.shape[1] - 1):
        ious = length_ious(windows[:, at, None], windows[:, at + 1 :])
        # `not <=`: a NaN is suppressed in both scripts.
        stays[:, at + 1 :] &= ~(stays[:, at, None] & ~(ious <= overlap))
    return stays


def _tall(name: str, thresholds: tuple[float, ...]) -> PublishedPreset:
    return PublishedPreset(
        name=name,
        source="https://github.com/jiyanggao/TALL main.py",
        threshold=">=",
        order="by score, the later of equals first; proposals that overlap a better one by over t - .05 are dropped",
        rounding="shares of 1, no rounding",
        parser="none: windows are numbers",
        denominator="questions",
        missing="count 0",
        duplicates="the last row of a question counts",
        invalid="reversed or empty windows overlap nothing; without scores they stay as listed; a row without a window "
        "counts 0",
        score=lambda cases: tall_scores(cases, thresholds),
    )


PRESETS = (
    _tall("charades_sta", (0.3, 0.5, 0.7)),
    _tall("tacos", (0.1, 0.3, 0.5, 0.7)),
    PublishedPreset(
        name="activitynet",
        source="https://github.com/microsoft/VideoX 2D-TAN/lib/core/eval.py, lib/datasets/activitynet.py",
        threshold=">",
        order="by score; proposals that overlap a better one by more than .5 are dropped; mIoU of the first",
        rounding="percent with two decimals",
        parser="none: windows are numbers",
        denominator="questions whose true window starts before it ends, clipped to the video",
        missing="count 0",
        duplicates="the last row of a question counts",
        invalid="reversed or empty windows overlap nothing; without scores they stay as listed; a row without a window "
        "counts 0 (the script ends)",
        score=tan_scores,
    ),
)
