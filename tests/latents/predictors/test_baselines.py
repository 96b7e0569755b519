"""Baselines say what they are named for, of the observed latents alone, at any rate."""

import torch
from made_latents import DIM, GRID, hidden, random_latents

from vtg.latents.latents import Latents
from vtg.latents.predictors.baselines import BASELINES, copy_last, linear, mean

AHEAD_S = torch.tensor([[2.0, 7.5]], dtype=torch.float64)


def on_a_line(times_s: list[float]) -> tuple[Latents, torch.Tensor, torch.Tensor]:
    """Latents that go straight on in time, with where each is at 0 s and its change in a second."""
    start, slope = (torch.randn(1, DIM, 1, *GRID, generator=torch.Generator().manual_seed(at)) for at in (0, 1))
    at_s = torch.tensor([times_s], dtype=torch.float64)
    values = start + slope * at_s[:, None, :, None, None].float()
    return Latents(values, at_s, torch.ones(1, len(times_s), dtype=torch.bool)), start, slope


def test_the_last_latent_and_the_mean_are_those_observed():
    context = hidden(random_latents(2, 4), 3)
    assert copy_last(context, AHEAD_S.expand(2, -1)).shape == (2, DIM, 2, *GRID)
    for step in range(2):
        torch.testing.assert_close(copy_last(context, AHEAD_S.expand(2, -1))[0, :, step], context.values[0, :, 2])
        torch.testing.assert_close(copy_last(context, AHEAD_S.expand(2, -1))[1, :, step], context.values[1, :, 3])
        found = mean(context, AHEAD_S.expand(2, -1))[:, :, step]
        torch.testing.assert_close(found[0], context.values[0, :, :3].mean(dim=1))
        torch.testing.assert_close(found[1], context.values[1].mean(dim=1))


def test_a_line_is_continued_at_uneven_times_and_past_what_is_not_observed():
    context, start, slope = on_a_line([0.0, 0.3, 1.1, 1.7])
    for given in (context, hidden(context, 1), hidden(context, 3)):
        found = linear(given, AHEAD_S)
        for step, time_s in enumerate(AHEAD_S[0].tolist()):
            torch.testing.assert_close(found[:, :, step : step + 1], start + slope * time_s, rtol=1e-4, atol=1e-4)


def test_one_observed_latent_is_kept_by_all():
    context = hidden(random_latents(1, 3), 0, 2)
    for baseline in BASELINES.values():
        torch.testing.assert_close(baseline(context, AHEAD_S), context.values[:, :, 1:2].expand(-1, -1, 2, -1, -1))
