"""The batches of every rank, in every epoch, before and after an interruption."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtg.annotations.sample import Sample
from vtg.annotations.target import Spans
from vtg.batching import Mixture
from vtg.batching.cost import SampleCosts
from vtg.config.data_settings import BatchingConfig
from vtg.config.video_settings import VideoConfig
from vtg.errors import ConfigError
from vtg.models.families import FAMILIES
from vtg.training.sft.batches import PlannedBatches
from vtg.training.sft.epoch_position import Position
from vtg.training.sft.planner import Planner, batch_budget, make_planner, over_budget

WAYS = {
    "fixed": BatchingConfig(by="fixed"),
    "duration": BatchingConfig(by="duration", target_batch_duration=400.0),
    "tokens": BatchingConfig(by="tokens", target_batch_tokens=9000),
    "packed": BatchingConfig(by="tokens", target_batch_tokens=9000, packing=True),
    "shared": BatchingConfig(by="tokens", target_batch_tokens=9000, share_video=True),
    "shared, fixed": BatchingConfig(by="fixed", share_video=True),
}


def rows(count: int, *, per_video: int = 1, seed: int = 0) -> tuple[list[Sample], SampleCosts]:
    """Samples of log-normal lengths, and what they cost: 30 vision tokens a second and 100 of text."""
    draws = np.random.default_rng(seed).lognormal(4, 0.8, size=count // per_video + 1)
    seconds = np.clip(draws, 3, 250)[np.arange(count) // per_video]
    samples = [
        Sample(f"{at // per_video}.mp4", float(s), Spans(((0.0, 1.0),)), "q", str(at), place=f"rows.jsonl:{at + 1}")
        for at, s in enumerate(seconds)
    ]
    vision = (30 * seconds).astype(np.int64)
    return samples, SampleCosts(seconds, (2 * seconds).astype(np.int64), vision, vision, vision + 100)


def planner_of(
    way: BatchingConfig, samples: list[Sample], costs: SampleCosts, *, batch_size: int = 4, accumulation: int = 1
) -> Planner:
    budget = batch_budget(way, VideoConfig(), FAMILIES["qwen3_vl"].token_cost)
    return make_planner(way, samples, costs, budget=budget, batch_size=batch_size, accumulation=accumulation, seed=0)


def planner(way: BatchingConfig, count: int = 203, *, per_video: int = 1, accumulation: int = 1) -> Planner:
    samples, costs = rows(count, per_video=per_video)
    return planner_of(way, samples, costs, accumulation=accumulation)


def epoch_of(plan: Planner, epoch: int, ranks: int, *, skip: int = 0, position: Position | None = None) -> list[list]:
    """[step][rank] batches that the Trainer would fetch."""
    found = []
    for rank in range(ranks):
        batches = PlannedBatches(plan, rank=rank, ranks=ranks)
        done = batches.resume(position) if position is not None else 0
        batches.set_epoch(epoch)
        each = list(batches)
        assert len(each) == len(batches)
        found.append(each[max(done, skip) :])
    assert len({len(each) for each in found}) == 1
    return [list(step) for step in zip(*found, strict=True)]


def trained(steps: list[list]) -> list[int]:
    """Indices that carry loss."""
    return sorted(index for step in steps for batch in step for index in batch if index >= 0)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_every_epoch_trains_every_sample_once_on_equally_many_batches(way, ranks):
    plan = planner(way, per_video=3)
    epochs = [epoch_of(plan, epoch, ranks) for epoch in range(3)]
    for steps in epochs:
        assert trained(steps) == list(range(203))
        assert all(batch for step in steps for batch in step)
    assert len({len(steps) for steps in epochs}) == 1
    assert epochs[0] != epochs[1] != epochs[2] and epochs[1] == epoch_of(plan, 1, ranks)


@pytest.mark.parametrize("way", ["tokens", "packed", "shared"])
def test_no_batch_is_over_the_budget(way):
    samples, costs = rows(203, per_video=4)
    plan = planner_of(WAYS[way], samples, costs)
    for step in epoch_of(plan, 0, 2):
        for batch in step:
            tokens, vision = costs.tokens[batch], costs.vision_tokens[batch]
            videos = {samples[index].video: vision[at] for at, index in enumerate(batch)}
            paid = {
                "tokens": len(batch) * tokens.max(),
                "packed": tokens.sum(),
                "shared": (tokens - vision).sum() + sum(videos.values()),
            }[way]
            assert paid <= 9000


def test_rows_of_a_clip_share_a_batch_as_far_as_the_budget_goes():
    samples, costs = rows(40, per_video=8)
    plan = planner_of(WAYS["shared"], samples, costs)
    assert sorted(len(unit) for unit in plan.units) == [8] * 5
    narrow = replace(WAYS["shared"], max_batch_size=3)
    plan = planner_of(narrow, samples, costs)
    assert sorted(len(unit) for unit in plan.units) == [2] * 5 + [3] * 10
    assert plan.tokens.sum() == sum(costs.vision_tokens[unit[0]] + 100 * len(unit) for unit in plan.units)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@given(
    ranks=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    shares=st.lists(st.floats(0, 0.6), min_size=3, max_size=3),
    accumulation=st.integers(1, 3),
)
@settings(max_examples=15, deadline=None)
def test_an_epoch_interrupted_on_any_numbers_of_ranks_trains_every_sample_once(way, ranks, shares, accumulation):
    plan = planner(way, 120, accumulation=accumulation)
    position, seen = None, []
    for at, (number, share) in enumerate(zip(ranks, [*shares[: len(ranks) - 1], 1.0], strict=False)):
        batches = PlannedBatches(plan, rank=0, ranks=number)
        counted = batches.resume(position) if position is not None else 0
        assert counted % accumulation == 0
        steps = epoch_of(plan, 1, number, position=position)
        assert counted + len(steps) == len(batches)
        done = len(steps) if at == len(ranks) - 1 else int(share * len(steps)) // accumulation * accumulation
        seen += trained(steps[:done])
        batches.set_epoch(1)
        position = batches.position(1, counted + done)
    assert sorted(seen) == list(range(120))


def test_going_on_with_the_same_ranks_skips_what_was_trained():
    plan = planner(WAYS["tokens"])
    whole = epoch_of(plan, 2, 2)
    assert epoch_of(plan, 2, 2, skip=7) == whole[7:]


def test_a_position_outlives_the_process(tmp_path):
    position = Position(3, ((2, 7), (1, 4)))
    position.write(tmp_path)
    assert Position.read(tmp_path) == position
    assert Position.read(tmp_path / "elsewhere") is None


def test_fewer_samples_than_ranks_are_stood_in_for_without_loss():
    steps = epoch_of(planner(WAYS["tokens"], 3), 0, 5)
    assert trained(steps) == [0, 1, 2]
    assert sum(index < 0 for step in steps for batch in step for index in batch) == 5 * len(steps) - 3


def test_samples_over_the_budget_are_named_left_out_or_alone():
    samples, costs = rows(50)
    batching = BatchingConfig(by="tokens", target_batch_tokens=4000)
    over = costs.tokens > 4000
    assert 1 < over.sum() < 25
    worst = int(costs.tokens.argmax())
    with pytest.raises(ConfigError) as error:
        over_budget(batching, samples, costs, budget=4000)
    text = str(error.value)
    assert f"{over.sum()} of 50 samples do not fit into a batch of batching.target_batch_tokens = 4000" in text
    assert f"rows.jsonl:{worst + 1}: {costs.tokens[worst]} tokens ({worst}.mp4)" in text
    assert f"set batching.target_batch_tokens to at least {costs.tokens[worst]}" in text
    batching.oversize = "skip"
    assert (over_budget(batching, samples, costs, budget=4000) == over).all()
    batching.oversize = "alone"
    assert not over_budget(batching, samples, costs, budget=4000).any()
    plan = planner_of(batching, samples, costs, batch_size=1)
    steps = epoch_of(plan, 0, 2)
    assert trained(steps) == list(range(50))
    alone = {index for step in steps for batch in step for index in batch if over[index]}
    assert all(len(batch) == 1 for step in steps for batch in step if alone & set(batch))


def test_the_budget_without_a_number_is_the_longest_clip():
    video = VideoConfig(max_frames=64, max_pixels=32 * 32 * 10, total_pixels=2**30, min_pixels=1024)
    assert batch_budget(BatchingConfig(by="tokens"), video, FAMILIES["qwen3_vl"].token_cost) == 32 * 10 + 32 * 12 + 512


def test_dropping_the_last_of_too_few_batches_is_an_error():
    plan = planner(replace(WAYS["packed"], drop_last=True, target_batch_tokens=0), 3)
    for too_few in (plan, planner(replace(WAYS["fixed"], drop_last=True), 3)):
        with pytest.raises(ConfigError, match="drop_last"):
            PlannedBatches(too_few, rank=0, ranks=5)


@settings(max_examples=80)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from([None, 0.0, 2.5]), st.integers(1, 60)), min_size=1, max_size=40
    ),
    st.sampled_from(["fixed", "duration", "tokens"]),
    st.integers(0, 3),
)
def test_rows_of_a_clip_form_units_as_large_as_a_batch_holds(rows, by, most):
    samples = [
        Sample(f"{video}.mp4", 10.0, Spans(((0.0, 1.0),)), "q", str(at), start, None if start is None else start + 10)
        for at, (video, start, _) in enumerate(rows)
    ]
    text = np.array([tokens for *_, tokens in rows])
    shared = np.array([30 + video for video, *_ in rows])
    costs = SampleCosts(np.full(len(rows), 10.0), text, shared, shared, shared + text)
    way = BatchingConfig(by=by, target_batch_tokens=120, max_batch_size=most, share_video=True)
    plan = planner_of(way, samples, costs)
    expected: dict[tuple, list[list[int]]] = {}
    for at, (video, start, tokens) in enumerate(rows):
        units = expected.setdefault((video, start), [])
        held = 30 + video + sum(int(text[other]) for other in units[-1]) if units else 0
        if not units or (by == "tokens" and held + tokens > 120) or len(units[-1]) == (most or len(rows)):
            units.append([])
        units[-1].append(at)
    flat = [unit for units in expected.values() for unit in units]
    assert [unit.tolist() for unit in plan.units] == flat
    assert plan.tokens.tolist() == [shared[unit[0]] + text[unit].sum() for unit in flat]


def mixed(way: BatchingConfig, *, accumulation: int = 1) -> Planner:
    """203 samples of three sources, of which an epoch draws 120."""
    samples, costs = rows(203)
    mixture = Mixture(("a", "b", "c"), (120, 3, 80), (0.5, 0.25, 0.25), 120, seed=0)
    return replace(planner_of(way, samples, costs, accumulation=accumulation), mixture=mixture)


UNSHARED = {name: way for name, way in WAYS.items() if not way.share_video}


@pytest.mark.parametrize("way", UNSHARED.values(), ids=UNSHARED)
def test_a_mixture_has_its_shares_in_every_epoch_on_any_number_of_ranks(way):
    plan = mixed(way)
    assert plan.mixture is not None
    for epoch in range(4):
        drawn = [trained(epoch_of(plan, epoch, ranks)) for ranks in (1, 2, 5)]
        assert np.bincount(plan.mixture.source_of(np.array(drawn[0]))).tolist() == [60, 30, 30]
        assert drawn[0] == drawn[1] == drawn[2] == sorted(plan.mixture.draw(epoch).tolist())


@pytest.mark.parametrize("way", UNSHARED.values(), ids=UNSHARED)
@pytest.mark.parametrize("ranks", [1, 4])
def test_a_mixture_goes_on_with_the_same_samples_on_another_number_of_ranks(way, ranks):
    plan = mixed(way, accumulation=2)
    first = epoch_of(plan, 1, 2)
    position = Position(1, ((2, 4),))
    rest = epoch_of(plan, 1, ranks, position=position)
    assert sorted(trained(first[:4]) + trained(rest)) == trained(first)


def test_an_epoch_that_needs_more_steps_than_others_draws_less_of_every_source():
    plan = mixed(WAYS["tokens"])
    assert plan.mixture is not None
    cramped = replace(plan, _known_steps={1: plan.steps(1) - 6})
    drawn = trained(epoch_of(cramped, 0, 1))
    assert 100 <= len(drawn) < 120
    assert np.abs(np.bincount(plan.mixture.source_of(np.array(drawn))) / len(drawn) - [0.5, 0.25, 0.25]).max() < 0.02
