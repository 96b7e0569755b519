"""Latents hold features, times and what was seen together, and stay consistent when they are cut and joined."""

import pytest
import torch

from vtg.latents.latents import Latents, joined


def latents(clips: int, steps: int, *, start_s: float = 0.0) -> Latents:
    times_s = start_s + torch.arange(clips * steps, dtype=torch.float64).view(clips, steps)
    return Latents(torch.ones(clips, 3, steps, 2, 2), times_s, torch.ones(clips, steps, dtype=torch.bool))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"values": torch.ones(1, 3, 4, 2)}, "values must be (B, D, T, H, W) of floats, not (1, 3, 4, 2)"),
        ({"times_s": torch.zeros(1, 4)}, "times_s must be (1, 4) float64, not (1, 4) torch.float32"),
        ({"observed": torch.ones(1, 3, dtype=torch.bool)}, "observed must be (1, 4) bool, not (1, 3)"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(changed, message):
    one = latents(1, 4)
    parts = {"values": one.values, "times_s": one.times_s, "observed": one.observed} | changed
    with pytest.raises(ValueError, match="must be") as raised:
        Latents(**parts)
    assert message in str(raised.value)


def test_clips_of_fewer_steps_are_filled_up_with_what_is_not_observed():
    both = joined([latents(1, 4), latents(2, 2, start_s=10.0)])
    assert both.values.shape == (3, 3, 4, 2, 2)
    assert both.observed.tolist() == [[True] * 4, [True, True, False, False], [True, True, False, False]]
    assert both.times_s.tolist() == [[0, 1, 2, 3], [10, 11, 11, 11], [12, 13, 13, 13]]
    assert both.values.sum((1, 2, 3, 4)).tolist() == [48, 24, 24]


def test_steps_and_clips_are_cut_with_their_times():
    cut = latents(2, 4).steps(slice(1, 3)).clips(slice(1, 2))
    assert cut.values.shape == (1, 3, 2, 2, 2)
    assert cut.times_s.tolist() == [[5, 6]]


def test_half_precision_is_of_the_values_alone():
    half = latents(1, 2).to(dtype=torch.bfloat16)
    assert (half.values.dtype, half.times_s.dtype) == (torch.bfloat16, torch.float64)
