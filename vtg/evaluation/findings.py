"""What did not fit between predictions and annotations, as `vtg.evaluate` tells it."""

from typing import Any

from vtg.evaluation.presets.case import Findings

SHOWN = 20
"""Names of missing, extra and duplicate samples that a report spells out."""


def counted(findings: Findings) -> dict[str, Any]:
    """Of each finding how many there are, and the first `SHOWN`."""
    return {name: {"count": len(qids), "qids": qids[:SHOWN]} for name, qids in findings.items()}


def finding_lines(findings: Findings) -> list[str]:
    """A line for each finding."""
    meaning = {
        "annotations_left_out": "annotation rows cannot be read and are left out; `python -m vtg.validate` says more",
        "duplicate_annotations": "annotation rows repeat a qid; the first of each counts",
        "duplicate_predictions": "predictions repeat a qid or a question; the first of each counts",
        "missing": "samples have no prediction and score 0",
        "extra": "predictions belong to no sample and are left out",
        "other_questions": "predictions with the qid of a row have another video or query than it; the qid counts",
        "repeated_predictions": "questions have several rows of predictions; see the rule on duplicates",
        "no_window": "questions have a row without a window, which overlaps nothing",
        "no_score": "questions have windows without scores, which keep their order",
        "nan_window": "questions have a window with NaN; see the rule on invalid windows",
        "reversed_or_empty_window": "questions have a window that ends no later than it starts, and overlaps nothing",
        "empty_range": "ranges of lengths hold no true moment",
        "more_windows": "answers have several windows; the first of each counts",
        "more_true_windows": "questions have several true windows; the first of each counts",
        "left_out_of_miou": "questions have no answer and leave the mean of IoU, as in the official script",
        "not_predicted": "questions were not predicted and are left out, as in the official script",
        "truth_left_out": "questions have a true window that ends no later than it starts, and are left out",
        "moment_not_ranked": "questions have an annotator's moment that is not ranked, and stands behind all others",
    }
    lines: list[str] = []
    for name, qids in findings.items():
        # Enough to look one up; a wrong qid column makes as many as there are rows.
        more = f" and {len(qids) - 5} more" if len(qids) > 5 else ""
        lines.append(f"{len(qids)} {meaning[name]}: {', '.join(qids[:5])}{more}")
    return lines
