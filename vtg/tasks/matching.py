"""One-to-one matching of predicted moments with true ones: rewards and metrics count pairs with this function."""

from collections.abc import Sequence


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
