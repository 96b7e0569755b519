"""Which samples an epoch of a weighted mixture holds."""

from collections.abc import Sequence

import numpy as np


def draw_mixture(
    sizes: Sequence[int], weights: Sequence[float], *, seed: int, epoch: int, count: int | None = None
) -> np.ndarray:
    """Sample indices of an epoch, sources end to end: index `sum(sizes[:k]) + i` is sample i of source k.

    The shares of samples are the weights, exactly (largest remainder). Each source is gone through in shuffled passes
    that go on from epoch to epoch: no sample comes again before all others of its source have come as often.

    Args:
        sizes: samples of each source; one with a weight needs at least one.
        weights: of each source, >= 0, in any scale.
        count: samples of an epoch; None for the sum of the sizes of the sources with a weight.

    Returns:
        (count,) int64, grouped by source: plan it like any other list, `plan_epoch(lengths[indices], …)`, and
        translate the plan with `Plan.of(indices)`.
    """
    if len(sizes) != len(weights) or not len(sizes):
        raise ValueError(f"a mixture needs one weight for each source, got {len(sizes)} sizes, {len(weights)} weights")
    shares = np.asarray(weights, np.float64)
    if not np.isfinite(shares).all() or (shares < 0).any() or not shares.sum():
        raise ValueError(f"weights of a mixture are finite, not negative and not all 0, got {list(weights)}")
    if empty := [at for at, size in enumerate(sizes) if size < 1 and shares[at]]:
        raise ValueError(
            f"sources {empty} of the mixture have a weight but no samples: leave them out, or weigh them 0"
        )
    total = sum(size for size, share in zip(sizes, shares, strict=True) if share) if count is None else count
    exact = total * (shares / shares.sum())
    quotas = np.floor(exact).astype(np.int64)
    quotas[np.argsort(quotas - exact, kind="stable")[: total - quotas.sum()]] += 1
    first, drawn = 0, [np.empty(0, np.int64)]
    for source, (size, quota) in enumerate(zip(sizes, quotas.tolist(), strict=True)):
        begin = epoch * quota
        for turn in range(begin // size, -(-(begin + quota) // size)) if quota else ():
            shuffled = np.random.default_rng([seed, source, turn, 1]).permutation(size)
            drawn.append(first + shuffled[max(begin - turn * size, 0) : begin + quota - turn * size])
        first += size
    return np.concatenate(drawn)
