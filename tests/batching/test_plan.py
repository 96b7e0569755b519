"""The planner of batches: what every plan keeps, and how good the plans are."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtg.batching import (
    Plan,
    plan_epoch,
    plan_fixed,
    rest_of_epoch,
    statistics,
    steps_per_epoch,
)

ANNOTATIONS = Path(__file__).parents[3] / "shared" / "data" / "annotations"

numbers = st.one_of(
    st.lists(st.integers(1, 60).map(float), min_size=1, max_size=80),
    st.lists(st.floats(0.01, 1000.0, allow_nan=False), min_size=1, max_size=80),
    st.tuples(st.floats(0.1, 100.0), st.integers(1, 80)).map(lambda pair: [pair[0]] * pair[1]),
)
cases = st.fixed_dictionaries(
    {
        "lengths": numbers.map(np.array),
        "ranks": st.integers(1, 9),
        "over_longest": st.floats(1.0, 12.0),
        "padded": st.booleans(),
        "max_batch_size": st.sampled_from([0, 0, 1, 2, 5]),
        "min_batch_size": st.sampled_from([1, 1, 1, 2, 3]),
    }
)


def settle(case: dict) -> dict:
    """The arguments of plan_epoch, in ranges that go together."""
    case = dict(case)
    case["budget"] = float(case["lengths"].max() * case.pop("over_longest"))
    if case["max_batch_size"]:
        case["min_batch_size"] = min(case["min_batch_size"], case["max_batch_size"])
    return case


def batches_of(plan: Plan) -> list[np.ndarray]:
    return [plan.batch(step, rank) for step in range(plan.steps) for rank in range(plan.ranks)]


def cost_of(batch: np.ndarray, lengths: np.ndarray, padded: bool) -> float:
    each = lengths[np.where(batch < 0, ~batch, batch)]
    return len(each) * each.max() if padded else float(np.add.accumulate(each)[-1])


def mates(plan: Plan) -> set[tuple[int, int]]:
    return {(a, b) for batch in batches_of(plan) for a in batch.tolist() for b in batch.tolist() if a < b}


def kept_over_chance(first: Plan, second: Plan, count: int) -> float:
    """Share of batch-mates kept, over what random batches of these sizes would keep."""
    before, after = mates(first), mates(second)
    return len(before & after) / len(before) / (len(after) / (count * (count - 1) / 2))


def trend(plan: Plan, lengths: np.ndarray) -> float:
    """Spearman's correlation of length and step."""
    steps = np.repeat(np.arange(plan.steps), np.diff(plan.offsets[:: plan.ranks]))
    ranks = [np.searchsorted(np.sort(x), x) + np.searchsorted(np.sort(x), x, "right") for x in (lengths, steps)]
    return float(np.corrcoef(ranks[0][plan.samples], ranks[1])[0, 1])


@settings(max_examples=300, deadline=None)
@given(cases, st.integers(0, 3))
def test_every_plan_has_each_sample_once_under_the_budget_in_batches_even_over_the_ranks(case: dict, epoch: int):
    case = settle(case)
    lengths, ranks = case["lengths"], case["ranks"]
    plan = plan_epoch(**case, seed=3, epoch=epoch)
    real = plan.samples[plan.samples >= 0]
    assert sorted(real.tolist()) == list(range(len(lengths)))
    assert (len(plan.offsets) - 1) % ranks == 0 and plan.offsets[-1] == len(plan.samples)
    for batch in batches_of(plan):
        assert len(batch) >= 1
        assert cost_of(batch, lengths, case["padded"]) <= case["budget"]
        assert not case["max_batch_size"] or len(batch) <= case["max_batch_size"]
        assert (batch >= 0).all() or len(batch) == 1


@settings(max_examples=100, deadline=None)
@given(cases, st.integers(0, 5))
def test_the_number_of_steps_is_known_and_the_same_in_every_epoch(case: dict, seed: int):
    case = settle(case)
    steps = steps_per_epoch(**case)
    plans = [plan_epoch(**case, seed=seed, epoch=epoch) for epoch in range(4)]
    assert {plan.steps for plan in plans} == {steps}
    again = plan_epoch(**case, seed=seed, epoch=2, steps=steps)
    assert np.array_equal(again.samples, plans[2].samples) and np.array_equal(again.offsets, plans[2].offsets)
    more = plan_epoch(**case, seed=seed, epoch=0, steps=steps + 1)
    assert more.steps == steps + 1
    assert sorted(more.samples[more.samples >= 0].tolist()) == list(range(len(case["lengths"])))


@settings(max_examples=100, deadline=None)
@given(cases)
def test_stand_ins_are_there_only_where_no_batch_may_be_split(case: dict):
    case = settle(case)
    plan = plan_epoch(**case, seed=0, epoch=0)
    if (plan.samples < 0).any():
        real = [len(batch) for batch in batches_of(plan) if batch[0] >= 0]
        assert max(real) < 2 * case["min_batch_size"]
        assert (plan.samples < 0).sum() < case["ranks"]


@settings(max_examples=60, deadline=None)
@given(cases)
def test_drop_last_leaves_out_less_than_a_step_and_never_splits(case: dict):
    case = settle(case)
    whole = plan_epoch(**{**case, "ranks": 1}, seed=0, epoch=0)
    if whole.steps < case["ranks"]:
        with pytest.raises(ValueError, match="drop_last leaves nothing"):
            plan_epoch(**case, seed=0, epoch=0, drop_last=True)
        return
    plans = [plan_epoch(**case, seed=0, epoch=epoch, drop_last=True) for epoch in range(3)]
    assert {plan.steps for plan in plans} == {steps_per_epoch(**case, drop_last=True)}
    assert all((plan.samples >= 0).all() and len(set(plan.samples.tolist())) == len(plan.samples) for plan in plans)


@pytest.mark.parametrize("padded", [True, False])
def test_epochs_differ_and_repeat_from_the_same_seed(padded: bool):
    lengths = np.random.default_rng(0).uniform(5, 60, 500)
    same = {"ranks": 4, "budget": 150.0, "padded": padded}
    first, again = (plan_epoch(lengths, **same, seed=1, epoch=0) for _ in range(2))
    assert np.array_equal(first.samples, again.samples) and np.array_equal(first.offsets, again.offsets)
    for other in (plan_epoch(lengths, **same, seed=1, epoch=1), plan_epoch(lengths, **same, seed=2, epoch=0)):
        assert len(mates(first) & mates(other)) < 0.7 * len(mates(first))
        assert not np.array_equal(first.samples[:50], other.samples[:50])


def test_constant_lengths_fill_every_batch():
    for length in (30.6, 10.0, 0.1):
        lengths = np.full(1600, length)
        for padded in (True, False):
            plan = plan_epoch(lengths, ranks=8, budget=4 * length, padded=padded, seed=0, epoch=0)
            assert plan.steps == 50 and (np.diff(plan.offsets) == 4).all()


def test_fewer_samples_than_ranks_leave_stand_ins_without_loss():
    plan = plan_epoch(np.array([3.0, 2.0, 5.0]), ranks=8, budget=10, padded=True, seed=0, epoch=0)
    assert plan.steps == 1
    assert sorted(plan.samples[plan.samples >= 0].tolist()) == [0, 1, 2]
    assert (~plan.samples[plan.samples < 0]).tolist() == [1] * 5


@pytest.mark.parametrize("padded", [True, False])
def test_a_sample_over_the_budget_is_named_or_alone(padded: bool):
    lengths = np.array([5.0, 700.0, 5.0, 900.5, 6.0, 4.0])
    same = {"ranks": 2, "budget": 20.0, "padded": padded, "seed": 0, "epoch": 0}
    with pytest.raises(
        ValueError, match=r"2 of 6 samples are over the budget of 20, the longest with 900.5 at index 3"
    ):
        plan_epoch(lengths, **same)
    plan = plan_epoch(lengths, **same, oversize_alone=True)
    assert sorted(plan.samples[plan.samples >= 0].tolist()) == list(range(6))
    alone = [batch.tolist() for batch in batches_of(plan) if {1, 3} & set(batch.tolist())]
    assert sorted(alone) == [[1], [3]]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"lengths": np.array([1.0, 0.0, np.nan])}, "2 of 3 lengths are not above 0 and finite, the first is 0.0 at"),
        ({"lengths": np.array([])}, "at least one number"),
        ({"budget": float("inf")}, "the budget is a number above 0, got inf"),
        ({"ranks": 0}, "at least 1 rank"),
        ({"max_batch_size": 2, "min_batch_size": 3}, "min_batch_size <= max_batch_size"),
        ({"compute": np.ones(2)}, "compute is finite, not negative and one row a length"),
        ({"steps": 1, "ranks": 1}, "1 steps on 1 ranks are too few: the budget needs 2"),
    ],
)  # fmt: skip
def test_what_cannot_be_planned_says_why(change: dict, text: str):
    usual = {"lengths": np.array([5.0, 6.0, 7.0]), "ranks": 2, "budget": 12.0, "padded": False, "seed": 0, "epoch": 0}
    with pytest.raises(ValueError, match=text):
        plan_epoch(**(usual | change))


def test_two_parts_of_compute_are_both_balanced():
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(3.4, 0.5, 8000).clip(2, 300)
    compute = np.stack([lengths * 3, lengths + lengths**2 / 400], axis=1)
    for padded in (True, False):
        same = {"budget": 4 * lengths.max() / 3, "padded": padded, "compute": compute}
        plan = plan_epoch(lengths, ranks=8, **same, seed=0, epoch=0)
        found = statistics(plan, lengths, **same)
        assert found.straggler < 1.01 and max(found.straggler_parts) < 1.05


def test_the_statistics_of_a_small_plan_are_right():
    plan = Plan(np.array([0, 1, 2, 3, ~3]), np.array([0, 2, 3, 4, 5]), 2)  # [0, 1] and [2], then [3] and a stand-in
    found = statistics(plan, np.array([4.0, 3.0, 8.0, 2.0]), budget=10, padded=True)
    assert (found.steps, found.batches, found.samples, found.stand_ins) == (2, 4, 4, 1)
    assert (found.min_batch_size, found.max_batch_size, found.max_batch_cost) == (1, 2, 8.0)
    assert found.efficiency == pytest.approx(17 / 20)  # 8 + 8 in the first step, 2 + 2 in the second
    assert found.padding == pytest.approx(3 / 20) and found.idle == pytest.approx(0)
    assert found.fill == pytest.approx(0.5) and found.straggler == pytest.approx(1)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 100), st.integers(1, 9), st.integers(1, 6), st.booleans())
def test_fixed_batches_keep_the_same_promises(count: int, ranks: int, size: int, drop_last: bool):
    same = {"ranks": ranks, "batch_size": size, "drop_last": drop_last}
    if drop_last and count < ranks * size:
        with pytest.raises(ValueError, match="drop_last leaves nothing"):
            plan_fixed(count, **same, seed=0, epoch=0)
        return
    plans = [plan_fixed(count, **same, seed=0, epoch=epoch) for epoch in range(2)]
    assert plans[0].steps == plans[1].steps
    real = plans[0].samples[plans[0].samples >= 0]
    assert len(set(real.tolist())) == len(real) == (plans[0].steps * ranks * size if drop_last else count)
    assert np.diff(plans[0].offsets).min() >= 1 and np.diff(plans[0].offsets).max() <= size
    assert (plans[0].samples < 0).sum() < ranks


def test_the_rest_of_an_epoch_is_planned_for_other_ranks():
    lengths = np.random.default_rng(0).uniform(5, 60, 333)
    plan = plan_epoch(lengths, ranks=8, budget=200, padded=True, seed=0, epoch=0)
    rest = rest_of_epoch(plan, 4)
    done = np.concatenate([plan.batch(step, rank) for step in range(4) for rank in range(8)])
    resumed = plan_epoch(lengths[rest], ranks=3, budget=200, padded=True, seed=0, epoch=0).of(rest)
    assert sorted([*done.tolist(), *resumed.samples[resumed.samples >= 0].tolist()]) == list(range(333))
    assert len(rest_of_epoch(plan, plan.steps)) == 0
    with pytest.raises(ValueError, match="9999 steps done of a plan of"):
        rest_of_epoch(plan, 9999)
    with pytest.raises(IndexError, match="rank 8 of a plan of"):
        plan.batch(0, 8)


def distributions() -> dict[str, np.ndarray]:
    rng, count = np.random.default_rng(0), 20_000
    return {
        "lognormal": rng.lognormal(4, 0.6, count).clip(2, 1800),
        "uniform": rng.uniform(5, 240, count),
        "bimodal": np.where(
            rng.random(count) < 0.7, rng.normal(30, 7, count).clip(5), rng.lognormal(5.6, 0.7, count).clip(20, 2000)
        ),
        "frames": rng.integers(4, 65, count).astype(float),
    }


def real_sets() -> dict[str, list[float]]:
    def rows(name: str) -> list[float]:
        found = json.loads((ANNOTATIONS / name).read_text())
        return [float(row["duration"]) for row in found.values() for _ in row["timestamps"]]

    rl = json.loads((ANNOTATIONS / "timer1__train_2k5.json").read_text())
    return {
        "charades": rows("timezero__charades_train.json"),
        "activitynet": rows("videox__activitynet_train.json"),
        "timer1": [float(row["duration"]) for row in rl],
    }


def check_quality(lengths: np.ndarray, *, efficiency: float, far: float, packed: float, bound: float) -> None:
    budget = float(max(4 * lengths.mean(), lengths.max()))
    for ranks, least in ((8, efficiency), (64, far)):
        plan = plan_epoch(lengths, ranks=ranks, budget=budget, padded=True, seed=0, epoch=0)
        assert statistics(plan, lengths, budget=budget, padded=True).efficiency >= least
        assert ranks > 8 or abs(trend(plan, lengths)) <= 0.02
    plans = [plan_epoch(lengths, ranks=8, budget=budget, padded=False, seed=0, epoch=epoch) for epoch in range(5)]
    first, found = plans[0], statistics(plans[0], lengths, budget=budget, padded=False)
    assert found.efficiency >= packed and found.bound_ratio <= bound and found.straggler <= 2 - packed
    assert np.mean([kept_over_chance(*pair, len(lengths)) for pair in pairwise(plans)]) <= 2
    assert abs(trend(first, lengths)) <= 0.02


@pytest.mark.parametrize("name", list(distributions()))
def test_plans_are_near_the_best_possible(name: str):
    check_quality(distributions()[name], efficiency=0.99, far=0.98, packed=0.998, bound=1.01)


def test_long_clips_that_fit_only_one_to_a_batch_take_hardly_a_batch_more():
    rng = np.random.default_rng(0)
    lengths = np.where(rng.random(20_000) < 0.7, rng.normal(30, 7, 20_000).clip(5), rng.normal(280, 20, 20_000))
    steps = steps_per_epoch(lengths, ranks=8, budget=430, padded=False)
    assert steps <= 1.005 * -(-int((lengths > 215).sum()) // 8)
    plan = plan_epoch(lengths, ranks=8, budget=430, padded=False, seed=0, epoch=0)
    assert statistics(plan, lengths, budget=430, padded=False).max_batch_cost <= 430


@pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason="the shared annotations are not here")
@pytest.mark.parametrize("name", ["charades", "activitynet", "timer1"])
def test_plans_are_near_the_best_possible_on_real_sets(name: str):
    least, far = (0.985, 0.94) if name == "timer1" else (0.99, 0.98)
    check_quality(np.array(real_sets()[name]), efficiency=least, far=far, packed=0.99, bound=1.01)
