"""Draws of a weighted mixture: shares are exact, repeats even, and plans of a draw are plans of any list."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtg.batching import Mixture, epoch_of_source, plan_epoch, source_shares


def mixture(sizes: list[int], shares: Sequence[float], *, count: int = 500) -> Mixture:
    return Mixture(tuple("abcdefgh"[: len(sizes)]), tuple(sizes), tuple(shares), count, seed=0)


def test_a_mixture_has_its_shares_exactly_and_repeats_nothing_before_all_came():
    mixed = mixture([100, 1000, 7], [0.5, 0.3, 0.2])
    drawn = [mixed.draw(epoch) for epoch in range(6)]
    for indices in drawn:
        assert np.bincount(mixed.source_of(indices)).tolist() == [250, 150, 100]
    times = np.bincount(np.concatenate(drawn), minlength=1107)
    assert np.ptp(times[:100]) <= 1 and np.ptp(times[100:1100]) <= 1 and np.ptp(times[1100:]) <= 1
    assert not np.array_equal(drawn[0], drawn[1])
    assert np.array_equal(drawn[3], mixture([100, 1000, 7], [0.5, 0.3, 0.2]).draw(3))


sources = st.lists(st.tuples(st.integers(1, 40), st.floats(0, 5)), min_size=1, max_size=6)


@given(sources.filter(lambda each: any(weight > 1e-3 for _, weight in each)), st.integers(1, 200), st.integers(0, 3))
def test_every_draw_is_within_one_sample_of_every_share(each, count, epoch):
    mixed = mixture([size for size, _ in each], [weight for _, weight in each], count=count)
    counts = np.bincount(mixed.source_of(mixed.draw(epoch)), minlength=len(each))
    assert counts.sum() == count
    assert (np.abs(counts - count * mixed.wanted) < 1).all()


def test_a_smaller_draw_keeps_the_shares_and_does_not_move_the_next_epochs():
    mixed = mixture([100, 1000], [1, 3], count=400)
    less = mixed.draw(1, count=200)
    assert np.bincount(mixed.source_of(less)).tolist() == [50, 150]
    assert set(less) <= set(mixed.draw(1))


def test_weights_are_parts_or_multiply_sizes_or_their_roots_and_groups_share_a_part():
    sizes, weights = [100, 400, 25], [1.0, 1.0, 2.0]
    assert source_shares(sizes, weights) == (1, 1, 2)
    assert source_shares(sizes, weights, by="proportional") == (100, 400, 50)
    assert source_shares(sizes, weights, by="sqrt") == (10, 20, 10)
    grouped = source_shares(
        sizes, weights, by="sqrt", groups=["video", "video", "image"], parts={"video": 3, "image": 1}
    )
    assert grouped == pytest.approx((1, 2, 1))


@given(st.lists(st.tuples(st.integers(1, 300), st.floats(0.05, 5)), min_size=2, max_size=5))
def test_an_epoch_by_one_source_draws_each_of_its_samples_once(each):
    mixed = mixture([size for size, _ in each], [weight for _, weight in each])
    whole = Mixture(mixed.names, mixed.sizes, mixed.shares, epoch_of_source(mixed, "a"), seed=0)
    assert abs(int(whole.quotas()[0]) - each[0][0]) <= 1


def test_a_mixture_that_cannot_be_drawn_says_why():
    with pytest.raises(ValueError, match="b: has a weight but no samples"):
        mixture([5, 0], [1, 1])
    for shares in ([1, -1], [0, 0], [1, float("nan")]):
        with pytest.raises(ValueError, match="finite, not negative and not all 0"):
            mixture([5, 5], shares)
    assert len(mixture([10, 0], [1, 0], count=10).draw(0)) == 10
    with pytest.raises(ValueError, match="a: has a weight but no samples"):
        mixture([2, 3], [1, 1]).kept(np.array([False, False, True, True, True]))


def test_a_drawn_mixture_is_planned_like_any_list():
    lengths = np.random.default_rng(0).uniform(5, 60, 60)
    indices = mixture([40, 20], [1, 1], count=60).draw(0)
    plan = plan_epoch(lengths[indices], ranks=4, budget=120, padded=False, seed=0, epoch=0).of(indices)
    assert sorted(plan.samples[plan.samples >= 0].tolist()) == sorted(indices.tolist())
    batches = [plan.batch(step, rank) for step in range(plan.steps) for rank in range(4)]
    assert all(lengths[batch].sum() <= 120 for batch in batches if batch[0] >= 0)
