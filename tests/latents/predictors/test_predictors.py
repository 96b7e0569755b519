"""What holds of every predictor: padding counts for nothing, times count by their distances, states restore it."""

import pytest
import torch
from made_latents import DIM, GRID, SETTINGS, drawing, hidden, random_latents, small_predictor

from vtg.config.latent_settings import PredictorConfig
from vtg.errors import ConfigError
from vtg.latents.latents import Latents, joined
from vtg.latents.predictors import PREDICTORS, make_predictor

TARGET = {"seed": 1, "start_s": 2.0}
IDS = ["-".join(one.values()) for one in SETTINGS]


def shifted(latents: Latents, by_s: float) -> Latents:
    return Latents(latents.values, latents.times_s + by_s, latents.observed)


def slower(latents: Latents, by: float) -> Latents:
    return Latents(latents.values, latents.times_s * by, latents.observed)


@pytest.mark.parametrize("settings", SETTINGS, ids=IDS)
def test_what_padding_of_context_and_target_holds_changes_neither_loss_nor_prediction(settings):
    predictor = small_predictor(**settings)
    context, target = random_latents(2, 4), random_latents(2, 3, **TARGET)
    losses, predictions = [], []
    for value in (0.0, 1e3):
        past, future = hidden(context, 0, 3, value=value), hidden(target, 1, 2, value=value)
        losses.append(predictor.loss(past, future, drawing()))
        predictions.append(predictor.predict(past, future.times_s, drawing(), asked=future.observed))
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(predictions[0], predictions[1])
    # What is observed does count.
    assert not torch.allclose(predictor.loss(context, target, drawing()), losses[0])
    assert not torch.allclose(predictor.predict(context, target.times_s, drawing())[0], predictions[0][0])


@pytest.mark.parametrize("settings", SETTINGS, ids=IDS)
def test_a_clip_filled_up_beside_a_longer_one_is_predicted_as_alone(settings):
    predictor = small_predictor(**settings)
    short, long = random_latents(1, 2, start_s=1.0), random_latents(1, 4, seed=3)
    times_s = random_latents(2, 3, **TARGET).times_s
    asked = torch.tensor([[True, True, False], [True, True, True]])
    both = predictor.predict(joined([short, long]), times_s, asked=asked, generator=drawing())
    noise = torch.Generator().manual_seed(0)
    alone = predictor.predict(short, times_s[:1], noise, asked=asked[:1])
    torch.testing.assert_close(both[:1, :, :2], alone[:, :, :2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("settings", SETTINGS, ids=IDS)
def test_only_distances_in_time_count_and_rates_are_told_apart(settings):
    predictor = small_predictor(**settings)
    context, target = random_latents(2, 4), random_latents(2, 3, **TARGET)
    said = predictor.predict(context, target.times_s, drawing())
    moved = predictor.predict(shifted(context, 1000.0), target.times_s + 1000.0, drawing())
    torch.testing.assert_close(moved, said, rtol=1e-4, atol=1e-4)
    at_half_rate = predictor.predict(slower(context, 2.0), target.times_s * 2.0, drawing())
    assert not torch.allclose(at_half_rate, said, rtol=0.05)
    later = predictor.predict(context, target.times_s + 1.0, drawing())
    assert not torch.allclose(later, said, rtol=0.05)


@pytest.mark.parametrize("settings", SETTINGS[:2], ids=IDS[:2])
def test_what_is_said_of_a_time_does_not_depend_on_what_else_regression_is_asked_for(settings):
    predictor = small_predictor(**settings)
    context, times_s = random_latents(2, 4), random_latents(2, 3, **TARGET).times_s
    together = predictor.predict(context, times_s)
    torch.testing.assert_close(predictor.predict(context, times_s[:, 2:]), together[:, :, 2:])


@pytest.mark.parametrize("settings", SETTINGS, ids=IDS)
def test_before_training_the_last_latent_is_said_with_residual_and_the_mean_without(settings):
    context, times_s = hidden(random_latents(2, 4), 3), random_latents(2, 2, **TARGET).times_s
    last = torch.stack([context.values[0, :, 2], context.values[1, :, 3]])[:, :, None].expand(-1, -1, 2, -1, -1)
    for residual, said in ((True, last), (False, torch.full_like(last, 0.5))):
        predictor = make_predictor(PredictorConfig(residual=residual, **settings), dim=DIM)
        predictor.normalizer.mean.fill_(0.5)
        predictor.normalizer.std.fill_(2.0)
        torch.testing.assert_close(predictor.predict(context, times_s), said)


@pytest.mark.parametrize("settings", SETTINGS, ids=IDS)
def test_a_loss_reaches_all_weights_and_none_without_targets(settings):
    predictor = small_predictor(**settings, context_dropout=0.5).train()
    context, target = random_latents(4, 4), random_latents(4, 3, **TARGET)
    predictor.loss(context, target, drawing()).backward()
    assert [name for name, one in predictor.named_parameters() if one.grad is None or not one.grad.any()] == []
    predictor.zero_grad()
    nothing = Latents(target.values, target.times_s, torch.zeros_like(target.observed))
    loss = predictor.loss(context, nothing, drawing())
    loss.backward()
    assert loss == 0.0
    assert all(one.grad is None or not one.grad.any() for one in predictor.parameters())


@pytest.mark.parametrize("kind", PREDICTORS)
def test_a_state_restores_weights_and_normalisation(kind):
    trained, other = small_predictor(kind=kind), small_predictor(kind=kind, seed=1)
    context, target = random_latents(2, 4), random_latents(2, 3, **TARGET)
    trained.normalizer.measure([context])
    said = trained.predict(context, target.times_s, drawing())
    assert not torch.allclose(other.predict(context, target.times_s, drawing()), said)
    other.load_state_dict(trained.state_dict())
    assert torch.equal(other.predict(context, target.times_s, drawing()), said)


@pytest.mark.parametrize("kind", PREDICTORS)
def test_futures_are_as_many_as_are_known(kind):
    context, times_s = random_latents(2, 4), random_latents(2, 3, **TARGET).times_s
    found = small_predictor(kind=kind).futures(context, times_s, drawing(), count=5)
    assert found.shape == ({"regression": 1, "flow": 5}[kind], 2, DIM, 3, *GRID)


@pytest.mark.parametrize("loss", ["l1", "l2", "cosine"])
def test_the_loss_of_regression_is_the_error_of_what_it_says(loss):
    predictor = small_predictor(loss=loss)
    context, target = random_latents(2, 4), hidden(random_latents(2, 3, **TARGET), 2)
    predictor.normalizer.std.fill_(2.0)
    said, true = predictor.predict(context, target.times_s) / 2, target.values / 2
    away = {"l1": (said - true).abs().mean(dim=1), "l2": (said - true).square().mean(dim=1)}
    norms = said.square().sum(dim=1).sqrt() * true.square().sum(dim=1).sqrt()
    errors = away | {"cosine": 1 - (said * true).sum(dim=1) / norms}
    places = [errors[loss][clip, step].mean() for clip, step in ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2))]
    torch.testing.assert_close(predictor.loss(context, target), torch.stack(places).mean())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 0}, "predictor.depth = 0: must be at least 1"),
        ({"samples": 0}, "predictor.samples = 0: must be at least 1"),
        ({"width": 18, "heads": 2}, "predictor.width = 18: must be a multiple of 4"),
        ({"width": 20, "heads": 8}, "predictor.width = 20: must be a multiple of predictor.heads = 8"),
        ({"context_dropout": 1.0}, "predictor.context_dropout = 1.0: a share of the clips, at least 0 and below 1"),
        ({"guidance": -1.0}, "predictor.guidance = -1.0: must be at least 0; 1 samples without guidance"),
        (
            {"kind": "flow", "guidance": 2.0, "context_dropout": 0.0},
            "predictor.guidance = 2.0 with predictor.context_dropout = 0: guidance needs a model that was trained "
            "without its context at times; set predictor.context_dropout=0.1, or predictor.guidance=1",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError) as raised:
        make_predictor(PredictorConfig(**settings), dim=DIM)
    assert str(raised.value) == message
