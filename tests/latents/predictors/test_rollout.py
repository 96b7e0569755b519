"""Long futures are made window after window, each from the latest latents, said or seen, as many as at first."""

import pytest
import torch
from made_latents import hidden, random_latents, small_predictor

from vtg.latents.latents import Latents
from vtg.latents.predictors.rollout import rollout

TARGET_S = random_latents(2, 5, start_s=2.0).times_s


def test_windows_are_predictions_from_the_latest_latents_by_hand():
    predictor, context = small_predictor(), hidden(random_latents(2, 3), 0)
    found = rollout(predictor, context, TARGET_S, window=2)
    assert found.shape == (2, *context.values.shape[1:2], 5, *context.values.shape[3:])
    first = predictor.predict(context, TARGET_S[:, :2])
    latest = Latents(
        torch.cat([context.values[:, :, 2:], first], dim=2),
        torch.cat([context.times_s[:, 2:], TARGET_S[:, :2]], dim=1),
        torch.ones(2, 3, dtype=torch.bool),
    )
    second = predictor.predict(latest, TARGET_S[:, 2:4])
    last = Latents(torch.cat([first[:, :, 1:], second], dim=2), TARGET_S[:, 1:4], torch.ones(2, 3, dtype=torch.bool))
    third = predictor.predict(last, TARGET_S[:, 4:])
    torch.testing.assert_close(found, torch.cat([first, second, third], dim=2))


@pytest.mark.parametrize("window", [5, 9])
def test_one_window_is_one_prediction(window):
    predictor, context = small_predictor(), random_latents(2, 3)
    torch.testing.assert_close(
        rollout(predictor, context, TARGET_S, window=window), predictor.predict(context, TARGET_S)
    )


def test_a_context_in_half_precision_stays_so_and_what_is_said_is_whole():
    predictor, context = small_predictor(), random_latents(2, 3).to(dtype=torch.bfloat16)
    assert rollout(predictor, context, TARGET_S, window=2).dtype == torch.float32
