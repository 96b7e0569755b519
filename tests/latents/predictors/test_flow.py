"""Flow matching: the loss by hand, futures that follow from noise, guidance, and their mean in one pass."""

import pytest
import torch
from made_latents import DIM, GRID, drawing, random_latents, small_predictor

from vtg.config.latent_settings import PredictorConfig
from vtg.latents.latents import Latents, joined
from vtg.latents.predictors.drawing import normal_steps
from vtg.latents.predictors.flow import FlowPredictor
from vtg.latents.predictors.prediction_errors import crps
from vtg.latents.predictors.rollout import rollout

CONTEXT, TARGET = random_latents(2, 4), random_latents(2, 3, seed=1, start_s=2.0)


def flow(**settings) -> FlowPredictor:
    predictor = small_predictor(kind="flow", **settings)
    assert isinstance(predictor, FlowPredictor)
    return predictor


def in_two_ways(predictor: FlowPredictor, noise: torch.Tensor) -> list[torch.Tensor]:
    """Futures, and the prediction of a generator."""
    futures = predictor.from_noise(CONTEXT, TARGET.times_s, noise)
    return [futures, predictor.predict(CONTEXT, TARGET.times_s, drawing())]


def test_the_loss_is_the_squared_error_of_what_is_said_at_a_point_between_noise_and_change():
    predictor = flow(context_dropout=0.0)
    generator = drawing()
    at, _ = (torch.stack([torch.rand((), generator=generator) for _ in range(2)]) for _ in ("times", "dropped"))
    noise = torch.stack([normal_steps((DIM, *GRID), TARGET.values.shape[2], generator) for _ in range(2)])
    last = CONTEXT.values[:, :, -1:]
    change = TARGET.values - last
    share = at.view(2, 1, 1, 1, 1)
    end_s = CONTEXT.times_s[:, -1:]
    encoded = predictor.network.encode(CONTEXT.values, CONTEXT.times_s - end_s, CONTEXT.observed)
    known = torch.cat([(1 - share) * noise + share * change, last.expand_as(noise)], dim=1)
    condition = predictor.flow_time(at)
    ahead_s = TARGET.times_s - end_s
    said = predictor.network.decode(known, ahead_s, TARGET.observed, encoded, condition=condition)
    torch.testing.assert_close(predictor.loss(CONTEXT, TARGET, drawing()), (said - change).square().mean())


def test_times_of_training_are_even_or_mostly_in_the_middle():
    def middle(flow_times: str) -> float:
        predictor, generator = flow(flow_times=flow_times), drawing()
        at = torch.stack([predictor._flow_time(generator) for _ in range(20_000)])
        assert at.min() >= 0 and at.max() <= 1
        return ((at > 0.25) & (at < 0.75)).float().mean().item()

    assert middle("uniform") == pytest.approx(0.5, abs=0.02)
    # |normal| < log 3
    assert middle("logit_normal") == pytest.approx(0.728, abs=0.02)


def test_without_guidance_the_context_alone_decides_and_with_none_it_does_not_count():
    noise = torch.randn(1, *TARGET.values.shape, generator=drawing())
    other = random_latents(2, 4, seed=5)
    plain, none, strong = (flow(guidance=guidance, residual=False) for guidance in (1.0, 0.0, 3.0))
    for at in range(2):
        torch.testing.assert_close(in_two_ways(flow(residual=False), noise)[at], in_two_ways(plain, noise)[at])
        assert not torch.allclose(in_two_ways(none, noise)[at], in_two_ways(plain, noise)[at], rtol=0.01)
    torch.testing.assert_close(
        none.from_noise(other, TARGET.times_s, noise), none.from_noise(CONTEXT, TARGET.times_s, noise)
    )
    # Linear in the guidance, before anything is integrated.
    said = [one.predict(CONTEXT, TARGET.times_s, drawing()) for one in (none, plain, strong)]
    torch.testing.assert_close(said[2], said[0] + 3 * (said[1] - said[0]), rtol=1e-4, atol=1e-4)


def test_the_same_noise_gives_the_same_futures_in_batches_of_any_size():
    predictor = flow()
    both = predictor.futures(CONTEXT, TARGET.times_s, generator=drawing(), count=3)
    generator = drawing()
    parts = [slice(0, 1), slice(1, 2)]
    alone = [predictor.futures(CONTEXT.clips(at), TARGET.times_s[at], generator, count=3) for at in parts]
    torch.testing.assert_close(torch.cat(alone, dim=1), both)
    assert both.std(dim=0).min() > 0


def test_what_is_drawn_for_a_clip_does_not_depend_on_the_clips_beside_it():
    predictor = flow()
    longer = random_latents(1, 6, start_s=2.0, seed=9)
    both = joined([TARGET.clips(slice(0, 1)), longer])
    contexts = joined([CONTEXT.clips(slice(0, 1))] * 2)

    def each(*seeds: int) -> list[torch.Generator]:
        return [drawing(seed) for seed in seeds]

    first = CONTEXT.clips(slice(0, 1)), TARGET.clips(slice(0, 1))
    parts = [predictor.loss(*first, each(5)), predictor.loss(first[0], longer, each(7))]
    counts = [int(first[1].observed.sum()), int(longer.observed.sum())]
    mean = sum(one * count for one, count in zip(parts, counts, strict=True)) / sum(counts)
    torch.testing.assert_close(predictor.loss(contexts, both, each(5, 7)), mean)
    futures = predictor.futures(contexts, both.times_s, each(5, 7), count=2, asked=both.observed)
    alone = predictor.futures(first[0], first[1].times_s, each(5), count=2)
    torch.testing.assert_close(futures[:, :1, :, : alone.shape[3]], alone)


def two_ways_to_go(clips: int, *, seed: int) -> tuple[Latents, Latents]:
    """Whether the future is +1 or -1 is open; that it is the same at all times is not. The last latent is 0."""
    context = random_latents(clips, 2, seed=seed)
    context.values[:] = 0.0
    signs = torch.randint(2, (clips, 1, 1, 1, 1), generator=drawing(seed)).float() * 2 - 1
    times_s = random_latents(clips, 2, start_s=1.0).times_s
    observed = torch.ones(clips, 2, dtype=torch.bool)
    return context, Latents(signs.expand(-1, DIM, 2, *GRID).clone(), times_s, observed)


@pytest.fixture(scope="module")
def undecided() -> FlowPredictor:
    """Trained on what may go either way."""
    torch.manual_seed(0)
    predictor = FlowPredictor(PredictorConfig(kind="flow", width=32, heads=2, depth=1, context_dropout=0.0), dim=DIM)
    optimizer = torch.optim.AdamW(predictor.parameters(), lr=4e-3)
    generator, steps = drawing(), 150
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 4e-3 * (1 - step / steps)
        loss = predictor.loss(*two_ways_to_go(32, seed=step), generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return predictor.eval()


def test_futures_go_one_way_or_the_other_and_the_prediction_in_between(undecided):
    context, target = two_ways_to_go(64, seed=1000)
    drawn = undecided.futures(context, target.times_s, drawing(), count=8)
    assert (drawn.abs() - 1).abs().mean() < 0.3
    ways = drawn.mean(dim=(2, 3, 4, 5)).sign()
    assert 0.2 < (ways > 0).float().mean() < 0.8
    # Each is one future as a whole.
    assert (drawn.sign() == ways[:, :, None, None, None, None]).float().mean() > 0.95
    said = undecided.predict(context, target.times_s, drawing())
    assert said.abs().mean() < 0.3
    assert crps(drawn, target.values).mean() < 0.75 * crps(said[None], target.values).mean()


def test_a_rollout_of_drawn_windows_stays_sharp(undecided):
    context, target = two_ways_to_go(16, seed=1000)
    drawn = rollout(undecided, context, target.times_s, window=2, drawn=True, generator=drawing())
    mean = rollout(undecided, context, target.times_s, window=2, generator=drawing())
    torch.testing.assert_close(drawn, undecided.futures(context, target.times_s, drawing(), count=1)[0])
    assert drawn.abs().mean() > 0.7 > 0.3 > mean.abs().mean()
