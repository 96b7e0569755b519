"""DiDeMo's evaluator: a ranking of the 21 moments of a video, in pieces of five seconds, against several annotators.

Pieces count from 0, and a moment holds its last piece: [1, 3] is seconds 5 to 20.
"""

from collections.abc import Sequence

import numpy as np

from vtg.evaluation.presets.case import Case, Findings, Scores, Window
from vtg.evaluation.presets.preset import PublishedPreset

# Of the four annotators, the three that agree most with a prediction count.
KEPT = 3
PIECE_S = 5.0


def score(cases: Sequence[Case]) -> Scores:
    """Shares of 1 with six decimals: mean rank at most 1 and 5, and mean IoU of the first moment."""
    findings: Findings = {}
    ranks, ious = np.full(len(cases), np.inf), np.zeros(len(cases))
    for at, case in enumerate(cases):
        if not case.annotators:
            raise ValueError(
                f"{case.place}: {case.name} has no annotators' moments; give DiDeMo's own file of annotations"
            )
        times = [(start / PIECE_S, end / PIECE_S - 1) for start, end in case.annotators]
        listed = case.given[-1].windows if case.given else None
        if not listed:
            findings.setdefault("no_window" if case.given else "missing", []).append(case.name)
            continue
        if len(case.given) > 1:
            findings.setdefault("repeated_predictions", []).append(case.name)
        place = {moment: rank for rank, moment in reversed(list(enumerate(listed, 1)))}
        unlisted = [moment for moment in times if moment not in place]
        if unlisted:
            findings.setdefault("moment_not_ranked", []).append(case.name)
        # Behind all that are listed, and never within the first five.
        last = max(len(listed), 21) + 1
        ranks[at] = np.mean(sorted(place.get(moment, last) for moment in times)[:KEPT])
        ious[at] = np.mean(sorted(_iou(listed[0], moment) for moment in times)[-KEPT:])
    printed: dict[str, float | int] = {
        "Average rank@1": float(f"{(ranks <= 1).mean():f}"),
        "Average rank@5": float(f"{(ranks <= 5).mean():f}"),
        "Average iou": float(f"{ious.mean():f}"),
        "samples": len(cases),
    }
    common = {"rank@1": 100 * float((ranks <= 1).mean()), "rank@5": 100 * float((ranks <= 5).mean())}
    return Scores(printed, ious.tolist(), common | {"mIoU": 100 * float(ious.mean())}, findings, decimals=6)


def _iou(a: Window, b: Window) -> float:
    overlap = max(0.0, min(a[1], b[1]) + 1 - max(a[0], b[0]))
    hull = max(a[1], b[1]) + 1 - min(a[0], b[0])
    return overlap / hull if hull > 0 else 0.0


PRESETS = (
    PublishedPreset(
        name="didemo",
        source="https://github.com/LisaAnne/LocalizingMoments utils/eval.py",
        threshold="(none: mean rank <= 1 and <= 5 instead)",
        order="ranked moments of five-second pieces, ends included; the three best-agreeing annotators' mean",
        rounding="shares of 1 with six decimals",
        parser="none: moments are pairs of whole numbers",
        denominator="questions",
        missing="count 0 (the script passes over what is behind the shorter list)",
        duplicates="the last row of a question counts",
        invalid="an annotator's moment that is not ranked stands behind the 21 (the script ends)",
        score=score,
        in_seconds=False,
    ),
)
