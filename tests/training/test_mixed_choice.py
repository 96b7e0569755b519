"""A curriculum over a mixture: the weights say how many prompts of each source, the curriculum which."""

import math
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vtg.batching import Mixture
from vtg.config.rl_settings import CurriculumConfig
from vtg.training.rl.curriculum import SELECTIONS, IoURecord
from vtg.training.rl.mixed_choice import choose_of_each

SIZES = (6, 40, 9)
KNOWN = st.one_of(st.just(math.nan), st.floats(0, 1))


def record(ious: list[float]) -> IoURecord:
    count = len(ious)
    return IoURecord("", np.array(ious), np.zeros(count, np.int64), np.zeros(count, np.int64))


def mixture(count: int = 60) -> Mixture:
    return Mixture(("a", "b", "c"), SIZES, (3.0, 1.0, 2.0), count=count, seed=0)


@given(
    ious=st.lists(KNOWN, min_size=sum(SIZES), max_size=sum(SIZES)),
    select=st.sampled_from(sorted(SELECTIONS)),
    size=st.sampled_from([1.0, 0.5, 0.01]),
    epoch=st.integers(0, 9),
)
def test_every_pass_has_each_sources_share_and_takes_what_the_selection_keeps_evenly(ious, select, size, epoch):
    config, mixed = CurriculumConfig(select=select, size=size, min_iou=0.2, max_iou=0.7), mixture()
    choice = choose_of_each(record(ious), config, mixed, epoch=epoch, seed=1)
    count = max(1, round(size * 60))
    of = np.bincount(mixed.source_of(choice.indices), minlength=3)
    assert of.tolist() == mixed.quotas(count).tolist()
    kept = SELECTIONS[select](record(ious), config) > -np.inf
    for source, (first, each) in enumerate(zip((0, 6, 46), SIZES, strict=True)):
        own = kept[first : first + each]
        taken = Counter(choice.indices[mixed.source_of(choice.indices) == source].tolist())
        if own.any():
            assert all(own[index - first] for index in taken)
        if taken and select != "all":
            pool = own.sum() or each
            assert max(taken.values()) <= -(-of[source] // pool)
    again = choose_of_each(record(ious), config, mixed, epoch=epoch, seed=1)
    assert again.indices.tolist() == choice.indices.tolist()


def test_a_source_of_which_nothing_is_kept_is_drawn_whole_and_named():
    ious = [1.0] * 6 + [0.5] * 49
    config = CurriculumConfig(select="filter", min_iou=0.0, max_iou=0.7)
    choice = choose_of_each(record(ious), config, mixture(), epoch=0, seed=0)
    assert sorted(set(choice.indices[choice.indices < 6].tolist())) == list(range(6))
    assert choice.note is not None
    assert "curriculum.select = 'filter' keeps no sample of a (curriculum.min_iou = 0" in choice.note
    plenty = choose_of_each(record([0.5] * 55), config, mixture(), epoch=0, seed=0)
    assert plenty.note is None and plenty.eligible == 55
