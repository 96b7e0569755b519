"""Highlights of QVHighlights: how saliency scores rank a clip's two-second pieces, by three annotators' ratings.

HIT@1: whether the best-scored piece is a highlight to any annotator; mAP: the mean over questions and annotators of the
interpolated average precision.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from vtg.evaluation.presets.case import Case
from vtg.evaluation.presets.overlap import Floats

# QVHighlights rates pieces of two seconds from 0, very bad, to 4, very good.
PIECE_S = 2
LEAST = {"Fair": 2, "Good": 3, "VeryGood": 4}
ANNOTATORS = 3


def highlight_scores(cases: Sequence[Case]) -> dict[str, dict[str, float]]:
    """HL-mAP and HL-Hit1 at each least rating, in percent with two decimals; empty where nobody gives saliency.

    Raises ValueError, naming the place, for ratings or scores that cannot be laid on the clip.
    """
    rated = [case for case in cases if isinstance(case.metadata.get("saliency_scores"), list)]
    if not rated or not any(case.given and case.given[-1].saliency for case in rated):
        return {}
    # Pieces of equal count are scored together: (questions, pieces).
    groups: dict[int, list[tuple[Floats, Floats, int]]] = defaultdict(list)
    for case in rated:
        ratings, scores = _ratings(case), _scores(case)
        padded = np.zeros(len(ratings))
        padded[: len(scores)] = scores[: len(ratings)]
        # Of the scores as given: a piece behind the clip's end may be the best, and misses.
        groups[len(ratings)].append((ratings, padded, int(scores.argmax())))
    result = {}
    for name, least in LEAST.items():
        precisions, hits = [], []
        for members in groups.values():
            positive = np.stack([ratings for ratings, _, _ in members]) >= least  # (N, pieces, annotators)
            scores = np.stack([padded for _, padded, _ in members])
            best = np.array([best for _, _, best in members])
            inside = best < positive.shape[1]
            hits.append(positive[np.arange(len(members)), np.where(inside, best, 0)].any(axis=1) & inside)
            precisions.append(interpolated_precision(scores, positive))
        result[f"HL-min-{name}"] = {
            "HL-mAP": float(f"{100 * np.mean(np.concatenate(precisions)):.2f}"),
            "HL-Hit1": float(f"{100 * np.mean(np.concatenate(hits)):.2f}"),
        }
    return result


def interpolated_precision(scores: Floats, positive: Any) -> Floats:
    """Mean interpolated precision over the scores at which recall rises: `(N, pieces)` and `(N, pieces, annotators)`
    give `(N, annotators)`. Pieces of equal score are taken at once. 0 without a positive.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=1)
    found = np.cumsum(np.take_along_axis(positive, order[..., None], axis=1), axis=1)  # (N, pieces, annotators)
    pieces = scores.shape[1]
    is_last = np.ones(ranked.shape, dtype=bool)  # of the pieces with its score
    is_last[:, :-1] = ranked[:, :-1] != ranked[:, 1:]
    precision = np.where(is_last[..., None], found / np.arange(1, pieces + 1)[None, :, None], 0.0)
    interpolated = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # Positives up to the score before: carried over the pieces inside a group of equal scores.
    closed = np.where(is_last[..., None], found, 0)
    before = np.maximum.accumulate(np.concatenate([np.zeros_like(closed[:, :1]), closed[:, :-1]], axis=1), axis=1)
    rises = is_last[..., None] & (found > before)
    count = rises.sum(axis=1)
    return np.divide((interpolated * rises).sum(axis=1), count, out=np.zeros(count.shape), where=count > 0)


def _ratings(case: Case) -> Floats:
    """Ratings of all pieces, `(pieces, annotators)`; 0 outside the rated ones."""
    if case.duration_s is None or math.isnan(case.duration_s):
        raise ValueError(f"{case.place}: duration: is missing; highlights are laid on the clip's pieces of {PIECE_S} s")
    ratings = np.zeros((int(case.duration_s / PIECE_S), ANNOTATORS))
    pieces, values = case.metadata.get("relevant_clip_ids"), case.metadata["saliency_scores"]
    shape = _shape(values)
    if not isinstance(pieces, list) or shape != (len(pieces), ANNOTATORS):
        raise ValueError(
            f"{case.place}: saliency_scores: shape {shape} needs {ANNOTATORS} ratings for each of relevant_clip_ids"
        )
    if any(type(piece) is not int for piece in pieces):
        raise ValueError(f"{case.place}: relevant_clip_ids: {str(pieces)[:60]} must be whole numbers")
    if any(not 0 <= piece < len(ratings) for piece in pieces):
        raise ValueError(
            f"{case.place}: relevant_clip_ids: {max(pieces)} is outside {len(ratings)} pieces of {case.duration_s:g} s"
        )
    if pieces:
        ratings[pieces] = values
    return ratings


def _shape(values: Any) -> tuple[int, ...]:
    """The shape of a list of equal lists of numbers; () for anything else."""
    if not isinstance(values, list) or not all(isinstance(row, list) for row in values):
        return ()
    widths = {len(row) for row in values}
    # Ratings are 0 to 4; the bound keeps out integers that no float holds.
    whole = all(type(value) in (int, float) and abs(value) < 1e9 for row in values for value in row)
    return (len(values), widths.pop() if widths else ANNOTATORS) if whole and len(widths) <= 1 else ()


def _scores(case: Case) -> Floats:
    given = case.given[-1] if case.given else None
    saliency = given.saliency if given is not None and given.saliency else []
    numbers = all(type(value) in (int, float) for value in saliency)
    scores = np.asarray(saliency if numbers else [], dtype=np.float64)
    if not len(scores) or not np.isfinite(scores).all():
        place = case.place if given is None else given.place
        raise ValueError(f"{place}: pred_saliency_scores: must be a list of finite numbers, one for each {PIECE_S} s")
    return scores
