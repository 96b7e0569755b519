"""The costliest step of the first epoch comes first; nothing else of the plan changes."""

from dataclasses import replace

import numpy as np
import pytest
import rl_runs
from hypothesis import given
from hypothesis import strategies as st

from vtg.batching import Plan, plan_epoch, plan_fixed
from vtg.config.data_settings import BatchingConfig
from vtg.training.rl.prompt_batches import PromptBatches, PromptCosts, plan
from vtg.training.rl.run_rl import grpo_arguments
from vtg.training.sft.batches import PlannedBatches
from vtg.training.sft.epoch_position import Position
from vtg.training.sft.planner import Planner


def batches(plan: Plan) -> list[list[list[int]]]:
    return [[plan.batch(step, rank).tolist() for rank in range(plan.ranks)] for step in range(plan.steps)]


def cost(step: list[list[int]], lengths: np.ndarray, *, padded: bool) -> float:
    each = [[lengths[at if at >= 0 else ~at] for at in batch] for batch in step]
    return max(len(batch) * max(batch) if padded else sum(batch) for batch in each)


@given(st.lists(st.integers(1, 90), min_size=1, max_size=60), st.integers(1, 4), st.booleans(), st.booleans())
def test_the_costliest_step_and_the_first_change_places(lengths, ranks, padded, fixed):
    sizes = np.array(lengths, float)
    if fixed:
        before = plan_fixed(len(sizes), ranks=ranks, batch_size=3, seed=0, epoch=0)
    else:
        before = plan_epoch(sizes, ranks=ranks, budget=100.0, padded=padded, seed=0, epoch=0)
    old, new = batches(before), batches(before.costliest_first(sizes, padded=padded))
    assert sorted(new) == sorted(old)
    assert cost(new[0], sizes, padded=padded) == max(cost(step, sizes, padded=padded) for step in old)
    assert sum(one != other for one, other in zip(old, new, strict=True)) in (0, 2)


def planner(*, by: str, largest_first: bool) -> Planner:
    tokens = np.random.default_rng(3).integers(20, 400, 50).astype(float)
    return Planner(
        config=BatchingConfig(by=by, largest_first=largest_first),
        units=[np.array([at]) for at in range(50)],
        lengths=tokens,
        compute=tokens,
        tokens=tokens,
        budget=500.0,
        batch_size=4,
        accumulation=2,
        seed=1,
    )


@pytest.mark.parametrize("by", ["fixed", "tokens", "duration"])
def test_other_epochs_are_as_they_were_and_a_run_goes_on_where_it_was(by):
    plain, first = planner(by=by, largest_first=False), planner(by=by, largest_first=True)
    assert batches(first.epoch(1, 2)) == batches(plain.epoch(1, 2))
    old, new = batches(plain.epoch(0, 2)), batches(first.epoch(0, 2))
    assert sorted(new) == sorted(old) and len(new) == first.steps(2)
    assert cost(new[0], first.tokens, padded=True) == max(cost(step, first.tokens, padded=True) for step in old)
    done = {at for step in new[:4] for batch in step for at in batch}
    others = PlannedBatches(first, rank=0, ranks=1)
    others.resume(Position(0, ((2, 4),)))
    left = [at for batch in others for at in batch if at >= 0]
    assert sorted([*left, *(at for at in done if at >= 0)]) == list(range(50))


def test_the_costliest_prompts_of_the_first_pass_are_rolled_out_first(demo_dir, tmp_path):
    words = rl_runs.overrides(demo_dir, tmp_path, "batching=fixed", "rl.steps_per_generation=2")
    config = rl_runs.compose(words)
    arguments = grpo_arguments(config)
    costs = np.random.default_rng(0).random(20)

    def micro_batches(epoch: int, *, largest_first: bool) -> list[list[list[int]]]:
        batching = replace(config.batching, largest_first=largest_first)
        size = PromptBatches.of(arguments, batching, longest=1)
        rollouts = plan(range(20), epoch, 1, batching=batching, costs=PromptCosts(costs), size=size, seed=0)
        assert {len(rollout) for rollout in rollouts} == {2}
        return [batch.tolist() for rollout in rollouts for batch in rollout]

    old, new = micro_batches(0, largest_first=False), micro_batches(0, largest_first=True)
    assert sorted(old) == sorted(new)
    assert sum(costs[new[0][0]]) == max(sum(costs[batch[0]]) for batch in old)
    assert micro_batches(1, largest_first=True) == micro_batches(1, largest_first=False)


def test_a_clip_that_prompts_share_counts_once_in_what_a_micro_batch_costs():
    costs = PromptCosts(np.array([5.0, 6.0, 7.0, 8.0]), np.array([1, 1, 0, 1]), np.array([4.0, 4.0, 2.0, 4.0]))
    assert costs.of(np.array([[0, 1, 3], [2, 0, 1]])).tolist() == [5 + 2 + 4, 7 + 5 + 2]
    assert costs.select(np.array([0, 2, 3])).of(np.array([[0, 2]])).tolist() == [9]
    assert PromptCosts(costs.each).of(np.array([[0, 1, 3]])).tolist() == [19]


@pytest.mark.parametrize("by", ["fixed", "tokens", "duration"])
def test_the_costliest_micro_batch_of_shared_clips_comes_first(by):
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 12, 60)
    shared = rng.integers(20, 60, 12).astype(float)[clips]
    costs = PromptCosts(shared + (0 if by == "duration" else 10), clips, shared)
    size = PromptBatches(prompts=4, budget=100.0, max_batch_size=0, steps=1, accumulation=1)

    def micro_batches(*, largest_first: bool) -> list[np.ndarray]:
        batching = BatchingConfig(by=by, share_video=True, largest_first=largest_first)
        return [batch for (batch,) in plan(range(60), 0, 2, batching=batching, costs=costs, size=size, seed=0)]

    old, new = (micro_batches(largest_first=first) for first in (False, True))
    assert costs.of(new[0]).max() == max(costs.of(batch).max() for batch in old)
    assert sorted(batch.tolist() for batch in old) == sorted(batch.tolist() for batch in new)
    if by != "fixed":
        assert max(costs.of(batch).max() for batch in old) <= 100
