"""Scores of predicted latents, checked by hand: by horizon, over clips, beside baselines."""

import json
import math

import pytest
import torch
from made_latents import hidden, random_latents

from vtg.latents.future_scores import HorizonScore, LatentErrors, horizon_scores, latent_errors
from vtg.latents.predictors.normalization import LatentNormalizer

KINDS = {"l1", "l2", "cosine", "crps"}


def row(clip: str, horizon_s: float, model: float, copied: float) -> LatentErrors:
    return LatentErrors(clip, horizon_s, {"model": {"l2": model}, "copy_last": {"l2": copied}})


def test_errors_are_in_deviations_of_training_and_of_observed_targets_alone():
    context, target = hidden(random_latents(2, 4), 3), hidden(random_latents(2, 2, seed=1, start_s=2.0), 1)
    normalizer = LatentNormalizer(3)
    normalizer.std.fill_(2.0)
    normalizer.mean.fill_(1.0)
    said = target.values + 4.0
    futures = torch.stack([target.values, said])
    rows = latent_errors(said, context, target, ["a", "b"], normalizer, futures=futures)
    assert [one.clip for one in rows] == ["a", "b", "b"]
    # The last observed latent of clip a is at 1 s, of b at 1.5 s.
    assert [one.horizon_s for one in rows] == [1.0, 0.5, 1.0]
    for one in rows:
        assert set(one.errors) == {"model", "copy_last", "mean", "linear"}
        assert all(set(errors) == KINDS for errors in one.errors.values())
        assert (one.errors["model"]["l1"], one.errors["model"]["l2"]) == pytest.approx((2.0, 4.0))
        # Futures 0 and 2 deviations off: 1 on average, less half of the 2 between them.
        assert one.errors["model"]["crps"] == pytest.approx(0.0, abs=1e-6)
        assert one.errors["copy_last"]["crps"] == one.errors["copy_last"]["l1"]
    moved = (context.values[1, :, 3] - target.values[1, :, 1]) / 2
    assert rows[2].errors["copy_last"]["l2"] == pytest.approx(moved.square().mean().item(), rel=1e-5)
    alone = latent_errors(said, context, target, ["a", "b"], normalizer)
    assert [one.errors["model"]["crps"] for one in alone] == [one.errors["model"]["l1"] for one in alone]


def test_horizons_fall_into_ranges_up_to_their_ends_and_empty_ones_are_left_out():
    rows = [row("a", 0.5 + 1e-9, 1, 2), row("a", 0.1, 3, 2), row("b", 0.51, 1, 4), row("b", 2.0, 5, 4)]
    scores = horizon_scores(rows, bin_s=0.5)
    assert [(one.over_s, one.to_s, one.latents, one.clips) for one in scores] == [
        (0.0, 0.5, 2, 1),
        (0.5, 1.0, 1, 1),
        (1.5, 2.0, 1, 1),
        (0.0, None, 4, 2),
    ]
    assert [one.errors["model"]["l2"] for one in scores] == [2.0, 1.0, 5.0, 2.5]
    assert [one.errors["copy_last"]["l2"] for one in scores] == [2.0, 4.0, 4.0, 3.0]
    # Clips a, b or both are drawn: 4 / 4, 6 / 8 or 10 / 12.
    assert scores[-1].ratios["l2"].ratio == pytest.approx(10 / 12)
    assert (scores[-1].ratios["l2"].low, scores[-1].ratios["l2"].high) == (0.75, 1.0)
    assert horizon_scores([], bin_s=0.5) == []


def test_a_score_as_json_has_no_number_where_nothing_moved():
    (_, score) = horizon_scores([row("a", 0.2, 1.0, 0.0), row("b", 0.3, 1.0, 0.0)], bin_s=0.5)
    assert isinstance(score, HorizonScore) and math.isnan(score.ratios["l2"].ratio)
    document = json.loads(json.dumps(score.document(), allow_nan=False))
    assert document == {
        "over_s": 0.0,
        "to_s": None,
        "latents": 2,
        "clips": 2,
        "model": {"l2": 1.0},
        "copy_last": {"l2": 0.0},
        "ratio": {"l2": {"value": None, "low": None, "high": None}},
    }
