"""Packing into a given number of bins at random: dealt longest first, then the overfull bins are relieved by swaps."""

import numpy as np

# Spread, in octaves, of the noise on the lengths when they are dealt: more of it changes more mates, and leaves loads
# less even, for the swaps to mend.
BLUR = 0.5
# Places of a bin that swaps look at: the pairs of two bins grow with its square.
SWAPPABLE = 9
# Overfull bins whose pairs are compared at once: it bounds the memory of that.
CHUNK = 4096
# The share of overfull bins beyond which swaps are not begun: they would fail late, and best-fit decreasing is there.
HOPELESS = 0.05
LEVELLINGS = 5
# When swaps are given up: after so many rounds, comparisons (a sample, or at least), or rounds without less excess.
ROUNDS = 300
WORK_EACH = 45
WORK_LEAST = 20_000_000
PATIENCE = 40
# Partners that an overfull bin tries in a round.
TRIES = 32


def scatter(
    units: np.ndarray, capacity: int, bins: int, max_batch_size: int, rng: np.random.Generator
) -> np.ndarray | None:
    """Bin of each sample, (N,) int64, all `bins` of them used and none over the capacity; None where that fails.

    Longest first onto the emptiest bins (LPT, Graham 1969), with the lengths blurred so that mates change; then each
    overfull bin trades the pair of samples, or gives the sample, that best shares out room with an underfull one.
    """
    if bins > len(units) or (max_batch_size and bins * max_batch_size < len(units)):
        return None
    bin_of, loads, sizes = _deal(units, bins, max_batch_size, rng)
    _level(units, capacity, bin_of, loads, rng)
    if (loads > capacity).sum() > max(HOPELESS * bins, 50):
        return None
    return _relieve(units, capacity, bin_of, loads, sizes, max_batch_size, rng)


def _level(units: np.ndarray, capacity: int, bin_of: np.ndarray, loads: np.ndarray, rng: np.random.Generator) -> None:
    """Takes a sample out of every bin and gives the longest of them to the emptiest bin, and so on, a few times.

    Opposite orders have the least variance of the sums; the spread shrinks to about its square each time.
    """
    chosen = np.empty(len(loads), np.int64)
    for _ in range(LEVELLINGS):
        if not (loads > capacity).any():
            break
        shuffled = rng.permutation(len(units))
        chosen[bin_of[shuffled]] = shuffled  # of each bin the last to come
        loads -= units[chosen]
        emptiest, longest = np.argsort(loads), chosen[np.argsort(-units[chosen])]
        bin_of[longest] = emptiest
        loads[emptiest] += units[longest]


def _deal(
    units: np.ndarray, bins: int, max_batch_size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    order = np.argsort(-units * np.exp2(BLUR * rng.standard_normal(len(units), np.float32)))
    bin_of = np.empty(len(units), np.int64)
    loads, sizes, at = np.zeros(bins, np.int64), np.zeros(bins, np.int64), 0
    while at < len(units):
        ranked = np.where(sizes < max_batch_size, loads, np.iinfo(np.int64).max) if max_batch_size else loads
        emptiest = np.argsort(ranked)[: min(len(units) - at, bins if not at else max(1, bins // 2))]
        if max_batch_size:
            emptiest = emptiest[sizes[emptiest] < max_batch_size]
        block = order[at : at + len(emptiest)]
        bin_of[block] = emptiest
        loads[emptiest] += units[block]
        sizes[emptiest] += 1
        at += len(emptiest)
    return bin_of, loads, sizes


def _relieve(
    units: np.ndarray,
    capacity: int,
    bin_of: np.ndarray,
    loads: np.ndarray,
    sizes: np.ndarray,
    max_batch_size: int,
    rng: np.random.Generator,
) -> np.ndarray | None:
    """Swaps until no load is over the capacity."""
    bins, width = len(loads), min(int(sizes.max()) + 1, SWAPPABLE)
    order = np.argsort(bin_of, kind="stable")
    nth = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    taken = nth < width - 1  # the last place stays free: a sample may move there
    table = np.full((bins, width), len(units), np.int64)  # samples that may be traded; N: none
    table[bin_of[order[taken]], nth[taken]] = order[taken]
    weight = np.append(units, 0)
    share = (weight / capacity).astype(np.float32)
    left, quiet, work = np.iinfo(np.int64).max, 0, 0
    for _ in range(ROUNDS):
        over = np.flatnonzero(loads > capacity)
        if not len(over):
            fresh = bin_of
            inside = table < len(units)
            fresh[table[inside]] = np.repeat(np.arange(bins), inside.sum(axis=1))
            return fresh
        excess = int((loads[over] - capacity).sum())
        quiet = quiet + 1 if excess >= left else 0
        left = min(left, excess)
        if quiet > PATIENCE:
            return None
        under = np.flatnonzero(loads < capacity)
        if not len(under):
            return None
        tries = min(max(1, CHUNK // len(over)), TRIES, len(under))
        if len(under) > 2 * len(over) * tries:
            under = np.unique(under[rng.integers(len(under), size=2 * len(over) * tries)])
        under = under[np.argsort(loads[under])][: len(over) * tries]
        over = over[np.argsort(-loads[over])][: max(1, len(under) // tries)]
        partners = under[: len(over) * min(tries, len(under))].reshape(-1, len(over)).T
        work += len(over) * partners.shape[1] * width**2
        if work > max(WORK_EACH * len(units), WORK_LEAST):
            return None
        for begin in range(0, len(over), CHUNK):
            part = slice(begin, begin + CHUNK)
            _trade(over[part], partners[part], table, weight, share, loads, sizes, capacity, max_batch_size)
    return None


def _trade(
    over: np.ndarray,
    partners: np.ndarray,
    table: np.ndarray,
    weight: np.ndarray,
    share: np.ndarray,
    loads: np.ndarray,
    sizes: np.ndarray,
    capacity: int,
    max_batch_size: int,
) -> None:
    """The best trade of each bin of `over`, (m,), with one of its `partners`, (m, p), all of them different bins."""
    none, rows = len(weight) - 1, np.arange(len(over))
    given, got = table[over], table[partners]  # (m, w), (m, p, w)
    middle = ((loads[over][:, None] - loads[partners]) / (2 * capacity)).astype(np.float32)
    miss = np.abs(share[given][:, None, :, None] - (share[got] + middle[:, :, None])[:, :, None, :])  # (m, p, w, w)
    if max_batch_size:
        moved = (given < none)[:, None, :, None] & (got == none)[:, :, None, :]
        miss[moved & (sizes[partners] >= max_batch_size)[:, :, None, None]] = np.inf
    miss = miss.reshape(*partners.shape, -1)
    choice = miss.argmin(axis=2)  # what evens out the two bins most
    peak = np.take_along_axis(miss, choice[:, :, None], axis=2)[:, :, 0] - middle  # of the two, over the load now
    partner = peak.argmin(axis=1)
    mine, theirs = np.divmod(choice[rows, partner], table.shape[1])
    under, first, second = partners[rows, partner], given[rows, mine], got[rows, partner, theirs]
    amount = weight[first] - weight[second]
    better = (np.maximum(loads[over] - amount, loads[under] + amount) < loads[over]) & (first < none)
    over, under, first, second, amount = (part[better] for part in (over, under, first, second, amount))
    table[over, mine[better]], table[under, theirs[better]] = second, first
    loads[over] -= amount
    loads[under] += amount
    sizes[over[second == none]] -= 1
    sizes[under[second == none]] += 1
