"""Errors are what their names say, of observed latents alone; the crps is that of the samples that there are."""

import itertools

import pytest
import torch

from vtg.latents.predictors.prediction_errors import ERRORS, crps, observed_mean


def channels(*values: float) -> torch.Tensor:
    """(1, D, 1, 1, 1)."""
    return torch.tensor(values).view(1, -1, 1, 1, 1)


@pytest.mark.parametrize(("name", "error"), [("l1", (3 + 1) / 2), ("l2", (9 + 1) / 2), ("cosine", 1 - 12 / (3 * 5))])
def test_errors_by_hand(name, error):
    found = ERRORS[name](channels(0.0, 3.0), channels(3.0, 4.0))
    assert found.shape == (1, 1, 1, 1)
    assert found.item() == pytest.approx(error)


def test_a_mean_is_over_observed_latents_and_zero_without_any():
    errors = torch.tensor([[1.0, 2.0, torch.nan]]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert observed_mean(errors, torch.tensor([[True, True, False]])) == 1.5
    assert observed_mean(errors, torch.tensor([[False, True, False]])) == 2.0
    assert observed_mean(errors, torch.zeros(1, 3, dtype=torch.bool)) == 0.0


def test_the_crps_of_samples_is_that_of_all_pairs_and_of_one_sample_the_absolute_error():
    drawn = torch.randn(5, 2, 3, 4, 1, 2, generator=torch.Generator().manual_seed(0))
    true = torch.randn(2, 3, 4, 1, 2, generator=torch.Generator().manual_seed(1))
    pairs = [(drawn[one] - drawn[two]).abs() for one, two in itertools.combinations(range(5), 2)]
    by_pairs = (drawn - true).abs().mean(dim=0) - torch.stack(pairs).mean(dim=0) / 2
    torch.testing.assert_close(crps(drawn, true), by_pairs.mean(dim=1))
    torch.testing.assert_close(crps(drawn[:1], true), ERRORS["l1"](drawn[0], true))


def test_samples_as_spread_as_the_truth_score_better_than_their_mean_and_than_others():
    def score(spread: float, *, seed: int) -> float:
        drawn = spread * torch.randn(4, 4000, 1, 1, 1, 1, generator=torch.Generator().manual_seed(seed))
        return crps(drawn, torch.randn(4000, 1, 1, 1, 1, generator=torch.Generator().manual_seed(9))).mean().item()

    # Of a normal distribution with itself: 1 / sqrt(pi); of its mean sqrt(2 / pi).
    assert score(1.0, seed=1) == pytest.approx(torch.pi**-0.5, abs=0.02)
    assert score(0.0, seed=1) == pytest.approx((2 / torch.pi) ** 0.5, abs=0.02)
    assert score(1.0, seed=1) < min(score(0.4, seed=1), score(2.5, seed=1))
