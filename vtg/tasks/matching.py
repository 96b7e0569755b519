"""One-to-one matching of what was predicted with what is true: rewards and metrics count pairs with these functions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def most_pairs(candidates: Sequence[Sequence[int]]) -> int:
    """How many rows can each be given a candidate of their own (Kuhn's augmenting paths).

    Args:
        candidates: of each row, the columns that it may take.
    """
    # Greedy matching would make the result depend on the order in which the moments were written.
    owner: dict[int, int] = {}

    def place(row: int, tried: set[int]) -> bool:
        for column in candidates[row]:
            if column not in tried:
                tried.add(column)
                if column not in owner or place(owner[column], tried):
                    owner[column] = row
                    return True
        return False

    return sum(place(row, set()) for row in range(len(candidates)))


def heaviest_pairs(weights: NDArray[np.float64]) -> list[tuple[int, int]]:
    """The one-to-one pairs of rows and columns whose weights have the greatest sum, as (row, column) in order of rows.

    Kuhn and Munkres' assignment by shortest augmenting paths (Jonker and Volgenant 1987).

    Args:
        weights: (N, M), finite; as many pairs as the smaller of both.
    """
    if weights.shape[0] > weights.shape[1]:
        return sorted((row, column) for column, row in heaviest_pairs(weights.T))
    cost = weights.max(initial=0.0) - weights
    rows, columns = cost.shape
    row_price, column_price = np.zeros(rows), np.zeros(columns)
    owner = np.full(columns, -1)  # the row of each column
    for row in range(rows):
        # Dijkstra over columns: the cheapest way to give this row a column and those that it displaces another.
        distance, before = np.full(columns, np.inf), np.full(columns, -1)
        done = np.zeros(columns, dtype=bool)
        at, column, reached = row, -1, 0.0
        while at >= 0:
            step = reached + cost[at] - row_price[at] - column_price
            nearer = ~done & (step < distance)
            distance[nearer], before[nearer] = step[nearer], column
            column = int(np.argmin(np.where(done, np.inf, distance)))
            done[column], reached, at = True, distance[column], int(owner[column])
        settled = done & (owner >= 0)
        row_price[row] += reached
        row_price[owner[settled]] += reached - distance[settled]
        column_price[done] -= reached - distance[done]
        while column >= 0:
            previous = int(before[column])
            owner[column] = row if previous < 0 else owner[previous]
            column = previous
    return sorted((int(row), column) for column, row in enumerate(owner) if row >= 0)
