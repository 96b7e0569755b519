"""Batches padded to their longest sample: near-equal lengths together, cut where n x longest meets the budget."""

import numpy as np

from vtg.batching.packed import split_counts

# Lengths this near (relative) trade places from epoch to epoch: fresh batch-mates for at most as much padding.
JITTER = 0.015


def cut_padded(
    ordered: np.ndarray, *, budget: float, batches: int | None, ranks: int, max_batch_size: int, min_batch_size: int
) -> np.ndarray:
    """Sizes of the batches along a list in descending length; they hold for every jittered order of it.

    A key is length x u with u in [1 / (1 + JITTER), 1], so the k-th largest key is at most the k-th largest length l_k,
    and what stands at k or later is no longer than (1 + JITTER) l_k. Cutting by the longest length under that bound
    therefore keeps the budget whatever the jitter, with the same cuts in every epoch.

    Args:
        ordered: lengths, (N,) float64, descending, none over `budget`.
        batches: how many there shall be, at least as many as come out by themselves; None for those.
        ranks: the batches that are split, where `batches` asks for more, become whole steps of equal cost.

    Returns:
        (B,) int64, sum N; B falls short of `batches` only where splitting would go under `min_batch_size`.
    """
    rising = ordered[::-1]
    bound = rising[np.searchsorted(rising, ordered * (1 + JITTER), side="right") - 1]
    sizes = _cut(bound, budget, max_batch_size)
    if batches is None or batches <= len(sizes):
        return sizes
    extra = batches - len(sizes)
    tail = len(sizes) if extra >= ranks else min(ranks - extra, len(sizes))
    while tail < len(sizes) and sizes[-tail:].sum() < (tail + extra) * min_batch_size:
        tail = min(tail + ranks, len(sizes))
    kept, rest = sizes[:-tail], bound[sizes[:-tail].sum() :]
    return np.concatenate([kept, _cut_into(rest, budget, max_batch_size, tail + extra, min_batch_size)])


def order_padded(lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Samples in descending length, near-equal ones in a new order: (N,) int64."""
    keys = lengths * (1 / (1 + JITTER * rng.random(len(lengths))))
    return np.argsort(-keys)


def _cut(bound: np.ndarray, budget: float, max_batch_size: int) -> np.ndarray:
    fits = np.floor(budget / bound)
    fits -= fits * bound > budget  # the division may have rounded up, or down
    fits += (fits + 1) * bound <= budget
    fits = np.clip(fits, 1, max_batch_size or len(bound)).astype(np.int64).tolist()
    sizes, at = [], 0
    while at < len(fits):
        sizes.append(fits[at])
        at += fits[at]
    if at > len(fits):
        sizes[-1] -= at - len(fits)
    return np.array(sizes, np.int64)


def _cut_into(bound: np.ndarray, budget: float, max_batch_size: int, batches: int, min_batch_size: int) -> np.ndarray:
    """So many batches of nearly the same cost: under the least budget that does not give more, then by halving."""
    low, high, best = 0.0, budget, _cut(bound, budget, max_batch_size)
    # 40 halvings: to a millionth of a millionth of the budget, beyond which lengths do not differ.
    for _ in range(40):
        tried = _cut(bound, middle := (low + high) / 2, max_batch_size)
        short = tried.min() < min_batch_size <= best.min()
        if len(tried) > batches or short:
            low = middle
        else:
            high, best = middle, tried
        if len(best) == batches:
            break
    return _split_largest(best, batches, min_batch_size)


def _split_largest(sizes: np.ndarray, batches: int, min_batch_size: int) -> np.ndarray:
    parts = split_counts(sizes, batches, min_batch_size)
    owner = np.repeat(np.arange(len(sizes)), parts)
    nth = np.arange(len(owner)) - np.repeat(np.cumsum(parts) - parts, parts)
    return sizes[owner] // parts[owner] + (nth < sizes[owner] % parts[owner])
