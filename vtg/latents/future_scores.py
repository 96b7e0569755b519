"""Scores of predicted latents: their errors by horizon in seconds beside those of the baselines, with intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vtg.evaluation.intervals import Ratio, ratio_bootstrap
from vtg.latents.latents import Latents
from vtg.latents.predictors.baselines import BASELINES
from vtg.latents.predictors.future_predictor import end_s
from vtg.latents.predictors.normalization import LatentNormalizer
from vtg.latents.predictors.prediction_errors import ERRORS, crps

MODEL = "model"
"""The name of the trained predictor among the baselines."""

# A horizon that is a bin's end but for rounding is in that bin.
ROUNDING_S = 1e-6


@dataclass(frozen=True)
class LatentErrors:
    """The errors of all predictions of one latent.

    Attributes:
        clip: whose it is: clips are drawn whole for intervals.
        horizon_s: its time after the last observed latent of the context.
        errors: predictor → error → mean over the grid.
    """

    clip: str
    horizon_s: float
    errors: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class HorizonScore:
    """Mean errors over latents of one range of horizons, over_s < horizon <= to_s; over all where `to_s` is None.

    Attributes:
        latents, clips: how many were scored.
        errors: predictor → error → mean, over latents.
        ratios: error → the model's over copy_last's, with a 95 % interval over clips; below 1 it is better. NaN where
            copy_last makes no error, and for the bounds over one clip.
    """

    over_s: float
    to_s: float | None
    latents: int
    clips: int
    errors: Mapping[str, Mapping[str, float]]
    ratios: Mapping[str, Ratio]

    def document(self) -> dict[str, Any]:
        """As JSON: {"over_s": 0, "to_s": 0.5, "latents": 64, "model": {"l2": …}, "copy_last": …, "ratio": …}; null for
        a ratio or bound that is no number."""
        ratios = {
            name: {"value": _number(one.ratio), "low": _number(one.low), "high": _number(one.high)}
            for name, one in self.ratios.items()
        }
        counts = {"over_s": self.over_s, "to_s": self.to_s, "latents": self.latents, "clips": self.clips}
        return counts | {name: dict(errors) for name, errors in self.errors.items()} | {"ratio": ratios}


def latent_errors(
    predicted: torch.Tensor,
    context: Latents,
    target: Latents,
    clips: Sequence[str],
    normalizer: LatentNormalizer,
    *,
    futures: torch.Tensor | None = None,
) -> list[LatentErrors]:
    """The errors of a prediction and of every baseline, for each observed latent of the target.

    In standard deviations of the training latents, so that no channel counts more for being large: an l2 of 1 is that
    of always saying the mean of the training latents.

    Args:
        predicted: (B, D, T2, H, W), the encoder's latents, as `FuturePredictor.predict` returns them.
        clips: (B,), names of the clips; windows of one clip share theirs.
        futures: (S, B, D, T2, H, W), as `FuturePredictor.futures` returns them, of which the model's crps is; None: of
            its prediction. That of a baseline, as of any single future, is its l1.
    """
    said = {MODEL: predicted} | {name: predict(context, target.times_s) for name, predict in BASELINES.items()}
    true = normalizer(target.values)
    tables = {
        name: {kind: error(normalizer(said[name]), true).mean(dim=(2, 3)).cpu() for kind, error in ERRORS.items()}
        for name in said
    }
    for table in tables.values():
        table["crps"] = table["l1"]  # to the bit: by that a table knows that nothing was drawn
    if futures is not None:
        tables[MODEL]["crps"] = crps(normalizer(futures), true).mean(dim=(2, 3)).cpu()
    horizons_s = (target.times_s - end_s(context)).cpu()
    return [
        LatentErrors(
            clips[row],
            float(horizons_s[row, step]),
            {name: {kind: float(one[row, step]) for kind, one in table.items()} for name, table in tables.items()},
        )
        for row, step in np.argwhere(target.observed.cpu().numpy()).tolist()
    ]


def horizon_scores(rows: Sequence[LatentErrors], *, bin_s: float) -> list[HorizonScore]:
    """Scores of each range of horizons `bin_s` wide that has latents, nearest first; the last one is of all.

    Rates differ between clips, so their latents have no horizons in common, only ranges of them.
    """
    bins: dict[int, list[LatentErrors]] = {}
    for row in rows:
        bins.setdefault(max(0, math.ceil((row.horizon_s - ROUNDING_S) / bin_s) - 1), []).append(row)
    found = [_score(bins[at], at * bin_s, (at + 1) * bin_s) for at in sorted(bins)]
    return [*found, _score(rows, 0.0, None)] if rows else []


def _score(rows: Sequence[LatentErrors], over_s: float, to_s: float | None) -> HorizonScore:
    clips = [row.clip for row in rows]
    columns = {
        name: {kind: np.array([row.errors[name][kind] for row in rows]) for kind in kinds}
        for name, kinds in rows[0].errors.items()
    }
    return HorizonScore(
        over_s=over_s,
        to_s=to_s,
        latents=len(rows),
        clips=len(set(clips)),
        errors={name: {kind: float(one.mean()) for kind, one in table.items()} for name, table in columns.items()},
        ratios={
            kind: ratio_bootstrap(errors, columns["copy_last"][kind], clips) for kind, errors in columns[MODEL].items()
        },
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
