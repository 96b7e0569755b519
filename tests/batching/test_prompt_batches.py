"""Batches of prompts: equal counts on all ranks, every prompt met, the budget kept, the work even."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtg.batching.prompt_plan import draw_prompts, plan_fixed_prompts, plan_prompts

numbers = st.one_of(
    st.lists(st.integers(1, 60).map(float), min_size=1, max_size=80),
    st.lists(st.floats(0.01, 1000.0, allow_nan=False), min_size=1, max_size=80),
    st.tuples(st.floats(0.1, 100.0), st.integers(1, 80)).map(lambda pair: [pair[0]] * pair[1]),
)
cases = st.fixed_dictionaries(
    {
        "costs": numbers.map(np.array),
        "ranks": st.integers(1, 9),
        "over_dearest": st.floats(0.3, 12.0),
        "max_batch_size": st.sampled_from([0, 0, 1, 2, 5]),
        "steps_multiple": st.integers(1, 5),
        "padded": st.booleans(),
    }
)


def settle(case: dict) -> dict:
    """The arguments of plan_prompts; the budget is such that some prompts may be over it."""
    case = dict(case)
    return case | {"budget": float(case["costs"].max() * case.pop("over_dearest"))}


def times_met(plan: list[np.ndarray], count: int) -> np.ndarray:
    return np.bincount(np.concatenate([batch.ravel() for batch in plan]), minlength=count)


def companions(plan: list[np.ndarray]) -> set[tuple[int, int]]:
    """Pairs of prompts that share a micro-batch."""
    return {(a, b) for batch in plan for a in batch.ravel().tolist() for b in batch.ravel().tolist() if a < b}


def fill(plan: list[np.ndarray], costs: np.ndarray, budget: float) -> float:
    return float(np.mean([costs[batch].sum(axis=1) / budget for batch in plan]))


def mixed_costs(count: int) -> np.ndarray:
    return np.random.default_rng(0).lognormal(8, 0.6, count).clip(400, 12_000)


@settings(max_examples=300, deadline=None)
@given(cases, st.integers(0, 3))
def test_every_prompt_comes_and_fewer_come_again_than_a_rollout_of_one_prompt_each_takes(case: dict, epoch: int):
    case = settle(case)
    check_repeats(plan_prompts(**case, seed=3, epoch=epoch), case)


def check_repeats(plan: list[np.ndarray], case: dict) -> None:
    """Each prompt comes, and few come again."""
    count, ranks, multiple = len(case["costs"]), case["ranks"], case["steps_multiple"]
    met = times_met(plan, count)
    again = int(met.sum()) - count
    assert met.min() >= 1
    assert again < ranks * multiple
    # Evenly, but a row that comes again may hold a prompt twice, which came again to fill it.
    assert met.max() <= (1 + -(-ranks // count)) * multiple
    assert len(plan) % multiple == 0
    if multiple == 1:
        assert again == -count % ranks


@settings(max_examples=300, deadline=None)
@given(cases, st.integers(0, 3))
def test_all_ranks_hold_equally_many_prompts_of_nearly_the_same_cost_under_the_budget(case: dict, epoch: int):
    case = settle(case)
    costs, budget = case["costs"], case["budget"]
    for batch in plan_prompts(**case, seed=3, epoch=epoch):
        ranks, size = batch.shape
        work = costs[batch]
        assert ranks == case["ranks"] and size >= 1
        assert not case["max_batch_size"] or size <= case["max_batch_size"]
        if work.max() > budget:
            assert size == 1
        else:
            assert (size * work.max() if case["padded"] else work.sum(axis=1).max()) <= budget * (1 + 1e-9)
        widest_row = np.ptp(work, axis=0).max()  # the k-th prompts of the ranks are a row
        assert np.ptp(work.sum(axis=1)) <= widest_row + 1e-9


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 200), st.integers(1, 9), st.floats(2.0, 9.0))
def test_where_costs_are_similar_the_slowest_rank_is_hardly_behind(count: int, ranks: int, size: float):
    costs = np.random.default_rng(count).uniform(90, 110, count)
    for batch in plan_prompts(costs, ranks=ranks, budget=size * 110, seed=0, epoch=0):
        loads = costs[batch].sum(axis=1)
        assert loads.max() <= loads.mean() * (1 + 20 / 90 / batch.shape[1])


def test_many_prompts_of_mixed_costs_fill_the_budget_and_leave_no_rank_behind():
    costs = mixed_costs(4000)
    for ranks, budget, least in ((1, 12_000, 0.99), (8, 12_000, 0.97), (8, 40_000, 0.97), (64, 12_000, 0.9)):
        plan = plan_prompts(costs, ranks=ranks, budget=budget, seed=0, epoch=0)
        assert fill(plan, costs, budget) >= least
        loads = [costs[batch].sum(axis=1) for batch in plan]
        assert np.mean([load.max() / load.mean() for load in loads]) <= 1.02
    padded = plan_prompts(costs, ranks=8, budget=40_000, padded=True, seed=0, epoch=0)
    assert fill(padded, costs, 40_000) >= 0.85


def test_constant_costs_fill_every_batch():
    plan = plan_prompts(np.full(1600, 30.6), ranks=8, budget=4 * 30.6, seed=0, epoch=0, steps_multiple=5)
    assert [batch.shape for batch in plan] == [(8, 4)] * 50


def test_a_prompt_over_the_budget_is_alone_on_its_rank():
    costs = np.array([5.0] * 20 + [700.0])
    plan = plan_prompts(costs, ranks=3, budget=20.0, seed=0, epoch=0)
    (dear,) = [batch for batch in plan if 20 in batch]
    assert dear.shape == (3, 1)


@pytest.mark.parametrize(("padded", "kept"), [(False, 0.3), (True, 0.9)])  # padded, prompts of near costs stay together
def test_passes_differ_and_repeat_from_the_same_seed(padded: bool, kept: float):
    same = {"costs": mixed_costs(500), "ranks": 4, "budget": 20_000.0, "padded": padded, "steps_multiple": 2}
    first, again = (plan_prompts(**same, seed=1, epoch=0) for _ in range(2))
    assert len(first) == len(again) and all(map(np.array_equal, first, again))
    for other in (plan_prompts(**same, seed=1, epoch=1), plan_prompts(**same, seed=2, epoch=0)):
        assert len(companions(first) & companions(other)) < kept * len(companions(first))


def test_those_who_come_again_are_other_prompts_in_every_pass():
    costs, met = mixed_costs(21), np.zeros(21)
    for epoch in range(400):
        met += times_met(plan_prompts(costs, ranks=4, budget=20_000, seed=0, epoch=epoch), 21)
    again = met - 400
    assert again.sum() == 400 * 3
    assert again.min() > 30 and again.max() < 90  # 57 each


def test_micro_batches_do_not_trend_in_cost():
    costs = mixed_costs(8000)
    plan = plan_prompts(costs, ranks=8, budget=12_000, seed=0, epoch=0)
    means = np.array([costs[batch].mean() for batch in plan])
    assert abs(np.corrcoef(means, np.arange(len(plan)))[0, 1]) < 0.1


@pytest.mark.parametrize("ranks", [1, 4])
def test_a_choice_of_prompts_is_planned_and_no_other(ranks: int):
    chosen = np.array([7, 3, 90, 41, 66, 12, 5, 8])
    plan = plan_prompts(mixed_costs(100), ranks=ranks, budget=15_000, seed=0, epoch=0, order=chosen)
    assert sorted(np.concatenate([batch.ravel() for batch in plan]).tolist()) == sorted(chosen.tolist())
    fixed = plan_fixed_prompts(100, ranks=ranks, batch_size=2, seed=0, epoch=0, order=chosen)
    assert np.concatenate([batch.ravel() for batch in fixed]).tolist() == chosen.tolist()


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 100), st.integers(1, 9), st.integers(1, 6), st.integers(1, 5))
def test_fixed_batches_keep_the_same_promises(count: int, ranks: int, size: int, multiple: int):
    same = {"ranks": ranks, "batch_size": size, "steps_multiple": multiple}
    plan = plan_fixed_prompts(count, **same, seed=0, epoch=0)
    met = times_met(plan, count)
    rollout = ranks * size * multiple
    assert {batch.shape for batch in plan} == {(ranks, size)} and len(plan) % multiple == 0
    assert met.min() >= 1 and met.sum() - count == -count % rollout
    assert met.max() - met.min() <= 1
    assert all(map(np.array_equal, plan, plan_fixed_prompts(count, **same, seed=0, epoch=0)))
    if count > 10:
        assert not all(map(np.array_equal, plan, plan_fixed_prompts(count, **same, seed=0, epoch=1)))


def settle_clips(case: dict) -> dict:
    """The same for prompts that share clips, of which some are alone over the budget."""
    case = settle(case | {"padded": False})
    rng = np.random.default_rng(len(case["costs"]))
    clips = rng.integers(0, 1 + len(case["costs"]) // 3, len(case["costs"]))
    shared = np.round(case["costs"].min() * rng.random(len(case["costs"])) * 1024)[clips] / 1024  # of each clip
    return case | {"clips": clips, "shared": shared}


def work_of(prompts: np.ndarray, case: dict) -> float:
    """What these prompts of one rank cost together, each clip once."""
    of_clip = {int(case["clips"][at]): float(case["shared"][at]) for at in prompts}
    return float((case["costs"] - case["shared"])[prompts].sum()) + sum(of_clip.values())


def clip_passes(plan: list[np.ndarray], clips: np.ndarray) -> int:
    """How often a clip is in some rank's micro-batch; fails where its prompts there are not side by side."""
    passes = 0
    for prompts in (prompts for batch in plan for prompts in batch):
        runs = 1 + np.count_nonzero(np.diff(clips[prompts]))
        assert runs == len(np.unique(clips[prompts]))
        passes += runs
    return passes


@settings(max_examples=300, deadline=None)
@given(cases, st.integers(0, 3))
def test_prompts_that_share_clips_keep_the_budget_and_the_same_promises(case: dict, epoch: int):
    case = settle_clips(case)
    plan = plan_prompts(**case, seed=3, epoch=epoch)
    check_repeats(plan, case)
    for batch in plan:
        assert batch.shape[0] == case["ranks"] and batch.shape[1] >= 1
        assert not case["max_batch_size"] or batch.shape[1] <= case["max_batch_size"]
        for prompts in batch:
            assert len(prompts) == 1 or work_of(prompts, case) <= case["budget"] * (1 + 1e-9)
    clip_passes(plan, case["clips"])


@pytest.mark.parametrize("ranks", [1, 4, 8])
def test_prompts_that_share_clips_take_fewer_tokens_and_as_full_micro_batches(ranks: int):
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 600, 2400)
    shared = rng.lognormal(8, 0.5, 600).clip(400, 9000).round()[clips]
    case: dict = {"costs": shared + rng.integers(800, 1000, 2400), "clips": clips, "shared": shared}
    plan = plan_prompts(**case, ranks=ranks, budget=16_000, seed=0, epoch=0)
    alone = plan_prompts(case["costs"], ranks=ranks, budget=16_000, seed=0, epoch=0)
    loads = [[work_of(prompts, case) for prompts in batch] for batch in plan]
    assert np.mean(loads) >= 0.9 * 16_000
    assert np.mean([max(load) / np.mean(load) for load in loads]) <= 1.05
    assert len(plan) < 0.5 * len(alone)
    assert clip_passes(plan, clips) < 1.1 * 600
    again, other = (plan_prompts(**case, ranks=ranks, budget=16_000, seed=0, epoch=epoch) for epoch in (0, 1))
    assert all(map(np.array_equal, plan, again))
    assert companions(plan) != companions(other)


def test_seconds_that_prompts_share_are_there_once_and_max_batch_size_counts_prompts():
    clips = np.repeat(np.arange(40), 10)
    seconds = np.full(400, 30.0)
    case: dict = {"clips": clips, "shared": seconds, "ranks": 2, "budget": 60.0, "seed": 0, "epoch": 0}
    assert {batch.shape for batch in plan_prompts(seconds, **case)} == {(2, 20)}  # two clips, with all their prompts
    limited = plan_prompts(seconds, **case, max_batch_size=8)  # 8 of a clip, or twice the other 2
    assert sorted(batch.shape[1] for batch in limited) == [4] * 10 + [8] * 20
    over = plan_prompts(seconds, **(case | {"budget": 20.0}))
    assert {batch.shape for batch in over} == {(2, 1)}


def test_a_unit_is_parted_where_a_rollout_would_repeat_it():
    alike: dict = {"clips": np.zeros(8, np.int64), "shared": np.full(8, 50.0), "seed": 0, "epoch": 0}
    plan = plan_prompts(np.full(8, 60.0), ranks=1, budget=1000.0, steps_multiple=4, **alike)
    assert times_met(plan, 8).tolist() == [1] * 8 and len(plan) == 4
    assert [batch.shape for batch in plan_prompts(np.full(8, 60.0), ranks=8, budget=1000.0, **alike)] == [(8, 1)]


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 100), st.integers(1, 9), st.integers(1, 6), st.integers(1, 5), st.integers(1, 40))
def test_fixed_batches_of_shared_clips_keep_the_same_promises(count: int, ranks: int, size: int, multiple: int, n: int):
    clips = np.random.default_rng(n).integers(0, n, count)
    same: dict = {"ranks": ranks, "batch_size": size, "steps_multiple": multiple, "clips": clips}
    plan = plan_fixed_prompts(count, **same, seed=0, epoch=0)
    met = times_met(plan, count)
    assert {batch.shape for batch in plan} == {(ranks, size)} and len(plan) % multiple == 0
    assert met.min() >= 1 and met.sum() - count == -count % (ranks * size * multiple)
    assert met.max() - met.min() <= 1
    assert all(map(np.array_equal, plan, plan_fixed_prompts(count, **same, seed=0, epoch=0)))
    clip_passes(plan, clips)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_fixed_batches_hold_few_clips(size: int):
    clips = np.random.default_rng(0).integers(0, 540, 2000)  # 3.7 prompts a clip
    shape: dict = {"ranks": 4, "batch_size": size, "seed": 0}
    plan, other = (plan_fixed_prompts(2000, **shape, epoch=epoch, clips=clips) for epoch in (0, 1))
    fewest = sum(-(-np.bincount(clips) // size))
    assert clip_passes(plan, clips) < 1.15 * fewest
    assert not all(map(np.array_equal, plan, other))
    held = np.bincount(clips)[clips]
    means = [held[batch].mean() for batch in plan]
    assert abs(np.corrcoef(means, np.arange(len(plan)))[0, 1]) < 0.3  # clips of many prompts do not come first


@pytest.mark.parametrize("ranks", [1, 4])
def test_a_choice_of_prompts_that_share_clips_is_planned_and_no_other(ranks: int):
    chosen = np.array([7, 3, 90, 41, 66, 12, 5, 8])
    clips, shared = np.arange(100) // 10, np.full(100, 100.0)
    same: dict = {"ranks": ranks, "seed": 0, "epoch": 0, "order": chosen, "clips": clips}
    plan = plan_prompts(mixed_costs(100), budget=15_000, shared=shared, **same)
    for batches in (plan, plan_fixed_prompts(100, batch_size=2, **same)):
        assert sorted(np.concatenate([batch.ravel() for batch in batches]).tolist()) == sorted(chosen.tolist())


@given(st.integers(1, 9), st.integers(1, 30), st.integers(1, 12), st.integers(0, 3))
def test_drawn_prompts_are_of_few_clips_and_differ_where_they_can(each: int, n: int, count: int, seed: int):
    clips = np.arange(2 * n * each) // each
    pool = np.random.default_rng(seed).permutation(n * each)  # the prompts of half of the clips
    drawn = draw_prompts(pool, count, rng=np.random.default_rng(seed), clips=clips)
    assert len(drawn) == count and set(drawn) <= set(pool)
    assert len(set(drawn)) == min(count, len(pool))
    assert len(set(clips[drawn])) == min(n, -(-count // each))
    assert (np.diff(clips[drawn]) != 0).sum() == len(set(clips[drawn])) - 1  # side by side
    apart = draw_prompts(pool, count, rng=np.random.default_rng(seed))
    assert len(apart) == count and set(apart) <= set(pool)
    assert len(set(apart)) == count or count > len(pool)


def test_which_prompts_are_drawn_is_random():
    clips = np.arange(400) // 4
    draws = [draw_prompts(np.arange(400), 4, rng=np.random.default_rng(seed), clips=clips) for seed in range(50)]
    assert len({int(clips[draw[0]]) for draw in draws}) > 25
    # A hundred clips of eight prompts, and eight hundred of one: of each kind there are as many prompts.
    clips = np.concatenate([np.arange(800) // 8, np.arange(100, 900)])
    draws = [draw_prompts(np.arange(1600), 4, rng=np.random.default_rng(seed), clips=clips) for seed in range(300)]
    assert 0.4 < np.mean([(draw >= 800).any() for draw in draws]) < 0.6  # it began with a clip of one prompt
    assert all(len(set(clips[draw[draw < 800]])) <= 1 for draw in draws)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"ranks": 0}, "ranks = 0: must be at least 1"),
        ({"steps_multiple": 0}, "steps_multiple = 0: must be at least 1"),
        ({"costs": np.array([])}, "there are no prompts to plan"),
        ({"order": np.array([], np.int64)}, "there are no prompts to plan"),
        ({"costs": np.array([1.0, np.nan])}, "costs of prompts are finite and above 0"),
        ({"clips": np.zeros(3, np.int64)}, "clips and shared are given together, and not with padded"),
        ({"budget": 0.0}, "the budget is a number above 0, got 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_planned_says_why(change: dict, text: str):
    usual = {"costs": np.array([5.0, 6.0, 7.0]), "ranks": 2, "budget": 12.0, "seed": 0, "epoch": 0}
    with pytest.raises(ValueError, match=text):
        plan_prompts(**(usual | change))
