"""Integrators come as close to a known flow as their order says."""

import itertools
import math

import pytest
import torch

from vtg.latents.predictors.samplers import SAMPLERS


def decay(x: torch.Tensor, time: float) -> torch.Tensor:
    """dx/dt = (1 - 3 t) x, so that x(1) = exp(1 - 3/2) x(0)."""
    assert 0 <= time < 1
    return (1.0 - 3.0 * time) * x


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2)])
def test_with_half_the_step_the_error_falls_as_the_order_says(name, order):
    start, end = torch.ones(1, dtype=torch.float64), math.exp(1 - 1.5)
    errors = [abs(SAMPLERS[name](decay, start, steps).item() - end) for steps in (32, 64, 128)]
    assert errors[0] < 0.1
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 3])
def test_straight_paths_end_where_they_lead_in_any_number_of_steps(name, steps):
    start, end = torch.tensor([2.0, -1.0]), torch.tensor([5.0, 0.5])
    found = SAMPLERS[name](lambda x, time: (end - x) / (1 - time), start, steps)
    torch.testing.assert_close(found, end)
