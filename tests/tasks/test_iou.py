import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtg.tasks.iou import set_iou, temporal_iou, temporal_ious

# A grid of milliseconds: spans that differ, differ by more than the rounding of a subtraction.
edges = st.integers(0, 100_000)
spans = st.tuples(edges, edges).filter(lambda p: p[0] != p[1]).map(lambda p: (min(p) / 1000, max(p) / 1000))


def test_a_half_overlap_has_iou_one_third():
    assert temporal_iou((0, 10), (5, 15)) == pytest.approx(1 / 3)


def test_spans_that_only_touch_have_iou_zero():
    assert temporal_iou((0, 5), (5, 10)) == 0.0


@pytest.mark.parametrize("bad", [(3, 3), (5, 2), (math.nan, 3), (1, math.nan), (0, math.inf), (-1e308, 1e308)])
def test_a_degenerate_span_scores_zero_even_against_itself(bad):
    assert temporal_iou(bad, (0, 10)) == 0.0
    assert temporal_iou((0, 10), bad) == 0.0
    assert temporal_iou(bad, bad) == 0.0 or bad == (-1e308, 1e308)
    assert set_iou([bad], [(0, 10)]) == 0.0


@given(spans, spans)
def test_iou_is_symmetric_bounded_and_one_only_for_equal_spans(a, b):
    iou = temporal_iou(a, b)
    assert iou == temporal_iou(b, a)
    assert 0.0 <= iou <= 1.0
    assert (iou == 1.0) == (a == b)


@given(spans, spans, st.integers(-1000, 1000))
def test_iou_does_not_change_when_both_spans_move(a, b, shift_s):
    moved = temporal_iou((a[0] + shift_s, a[1] + shift_s), (b[0] + shift_s, b[1] + shift_s))
    assert moved == pytest.approx(temporal_iou(a, b), abs=1e-6)


@given(st.lists(spans, min_size=1, max_size=5), st.lists(spans, min_size=1, max_size=5))
def test_the_vectorised_form_agrees_with_the_single_one(a, b):
    table = temporal_ious(np.array(a)[:, None], np.array(b)[None])
    assert table.shape == (len(a), len(b))
    assert all(table[i, j] == temporal_iou(a[i], b[j]) for i in range(len(a)) for j in range(len(b)))


@given(st.lists(spans, min_size=1, max_size=6), st.lists(spans, min_size=1, max_size=6))
def test_set_iou_agrees_with_counting_milliseconds(a, b):
    def covered(moments):
        mask = np.zeros(100_000, dtype=bool)
        for start, end in moments:
            mask[round(start * 1000) : round(end * 1000)] = True
        return mask

    in_a, in_b = covered(a), covered(b)
    assert set_iou(a, b) == pytest.approx((in_a & in_b).sum() / (in_a | in_b).sum())
    assert set_iou(a, b) == set_iou(b, a)
    assert set_iou(a, a) == 1.0


def test_set_iou_counts_overlapping_moments_once_and_ignores_degenerate_ones():
    assert set_iou([(0, 6), (4, 10), (9, 9), (math.nan, 2)], [(0, 10)]) == 1.0
    assert set_iou([(0, 2), (8, 10)], [(0, 10)]) == pytest.approx(0.4)
    assert set_iou([], [(0, 10)]) == 0.0
