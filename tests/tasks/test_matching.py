from itertools import permutations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vtg.tasks.matching import heaviest_pairs

matrices = st.tuples(st.integers(0, 5), st.integers(0, 5)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(-9, 9).map(float))
)


@given(matrices)
def test_no_other_pairs_weigh_more(weights):
    pairs = heaviest_pairs(weights)
    rows, columns = weights.shape
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs) == min(rows, columns)
    wide = weights if rows <= columns else weights.T
    best = max(sum(wide[range(len(wide)), order]) for order in permutations(range(wide.shape[1]), len(wide)))
    assert sum(weights[row, column] for row, column in pairs) == best
