"""Scores of predicted latents by seconds ahead, for a terminal and as JSON."""

import math
from collections.abc import Sequence
from typing import Any

from vtg.console import aligned
from vtg.evaluation.intervals import Ratio
from vtg.latents.future_scores import MODEL, HorizonScore
from vtg.latents.predictors.baselines import BASELINES

MEANINGS = {
    "l2": "squared error in variances of the training latents; 1: always their mean",
    "crps": "how far drawn futures are from what came, less half of how far from each other; of one answer its l1",
}
"""Error → what a table says of it."""


def score_table(scores: Sequence[HorizonScore]) -> list[str]:
    """Lines: a table of squared errors by horizon, and one of the crps where futures were drawn."""
    lines: list[str] = []
    # Of one answer the crps is its l1.
    drawn = any(score.errors[MODEL]["crps"] != score.errors[MODEL]["l1"] for score in scores)
    for kind in ("l2", "crps") if drawn else ("l2",):
        cells: list[tuple[str, ...]] = [("seconds ahead", "latents", MODEL, *BASELINES, "model / copy_last (95 %)")]
        for score in scores:
            cells.append(
                (
                    horizon_name(score),
                    str(score.latents),
                    *(f"{score.errors[name][kind]:.4f}" for name in (MODEL, *BASELINES)),
                    _ratio_text(score.ratios[kind]),
                )
            )
        lines += [*aligned(cells), f"{kind}: {MEANINGS[kind]}"]
    return lines


def _ratio_text(ratio: Ratio) -> str:
    """With its interval, where it has one: one clip does not say how far others are from it."""
    interval = f" ({ratio.low:.3f} to {ratio.high:.3f})" if math.isfinite(ratio.low) else ""
    return f"{ratio.ratio:.3f}{interval}"


def horizon_name(score: HorizonScore) -> str:
    """`0-1` seconds, or `all`."""
    return "all" if score.to_s is None else f"{score.over_s:g}-{score.to_s:g}"


def score_document(scores: Sequence[HorizonScore]) -> dict[str, Any]:
    """{"model": {"all": {"l2": …}, "0-1": {…}}, "copy_last": …, …, "ratio": …, "latents": …} by seconds ahead.

    `ratio` is the model's error over copy_last's, with a 95 % interval over clips.
    """
    by_horizon = {horizon_name(score): score.document() for score in [*scores[-1:], *scores[:-1]]}
    names = [MODEL, *BASELINES, "ratio", "latents", "clips"]
    return {name: {horizon: one[name] for horizon, one in by_horizon.items()} for name in names}
