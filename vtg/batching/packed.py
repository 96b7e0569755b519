"""Packed batches, whose lengths add up without padding: new in every epoch, with a number of bins that is fixed.

The reference is best-fit decreasing over the histogram of lengths (Johnson 1974; equal items together, as Gilmore and
Gomory 1961): its number of bins depends on the lengths alone, so every epoch can promise it. An epoch itself is packed
at random: longest first onto the emptiest bins (LPT, Graham 1969), lengths blurred by noise, and the overfull bins are
relieved by swaps. Where that does not come out, the reference is used with samples of a length class permuted.
"""

import math
from bisect import bisect_left, insort
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vtg.batching.scatter import scatter

# Best-fit decreasing takes longer the more distinct lengths there are; rounding them up to classes costs room.
CLASSES = 8192
# How much over the bound the reference is tried at random, where best-fit decreasing needs more bins.
TRIED = (0.0006, 0.0018, 0.004)
# How many more bins than the bound an epoch has (the least share): with none, none can be packed at random.
EASE = 0.0005
# Lists shorter than this are tried at random again where it fails, up to 8 times.
CHEAP = 200_000

Pattern = tuple[tuple[int, int], ...]
"""Which bins these are: (class, how many of it), …"""


def to_units(lengths: np.ndarray, budget: float) -> tuple[np.ndarray, int]:
    """Lengths as integers, (N,) int64, and the capacity: sums within it keep the budget in any order of addition."""
    # Whole numbers, and fractions of few binary digits (tokens, halves of seconds), add up exactly as they are.
    fine = lengths * 1024.0
    if fine.max() < 2**50 and np.array_equal(fine, np.floor(fine)):
        units = fine.astype(np.int64)
        step = int(np.gcd.reduce(units))
        return units // step, int(min(budget * 1024.0, 2.0**60)) // step
    # All alike: how many fit is left to the very additions that a batch is held against the budget with.
    if lengths.min() == lengths.max():
        sums = np.cumsum(np.full(min(int(budget / lengths[0]) + 1, len(lengths) + 1), lengths[0]))
        return np.ones(len(lengths), np.int64), int(np.searchsorted(sums, budget, side="right"))
    # 2 more than rounded down: rounding up, and one for what adding floats may lose.
    units = np.floor(lengths * (2.0**50 / budget)).astype(np.int64) + 2
    return np.minimum(units, 2**50), 2**50


def length_classes(units: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (C,) ascending, how many of each (C,), and the order of the samples by class (N,): lengths rounded up.

    Few distinct lengths are their own classes. Many are cut where the square root of the gaps adds up to equal parts,
    which about minimises what rounding up costs.
    """
    order = np.argsort(units, kind="stable")
    rising = units[order]
    new = np.flatnonzero(np.diff(rising)) + 1
    if len(new) >= max(CLASSES, 2**15 if len(units) <= 2**15 else 0):
        way = np.cumsum(np.sqrt(np.diff(rising, prepend=rising[0]).astype(np.float64)))
        grade = np.minimum((way * (CLASSES / way[-1])).astype(np.int64), CLASSES - 1)
        new = np.flatnonzero(np.diff(grade)) + 1
    ends = np.append(new, len(units))
    return rising[ends - 1], np.diff(ends, prepend=0), order


def fewest_bins(values: np.ndarray, counts: np.ndarray, capacity: int) -> int:
    """A lower bound of the number of bins, L2 of Martello and Toth 1990 (of the classes).

    For a least length k: what is longer than capacity - k has only shorter ones than k beside it; what is over half
    the capacity takes a bin each, whose room the others down to k may fill; the rest takes bins of its own.
    """
    many, sums = (np.append(0, np.cumsum(part)) for part in (counts.astype(np.float64), counts * values.astype(float)))
    half = int(np.searchsorted(values, capacity / 2, side="right"))
    least = np.append(0, np.arange(half))  # k = 0 and every length up to half
    alone = np.searchsorted(values, capacity - values[least], side="right")
    alone[0] = len(values)
    alone = np.maximum(alone, half)
    big = many[-1] - many[half]
    room = (many[alone] - many[half]) * capacity - (sums[alone] - sums[half])
    return int((big + np.maximum(0, np.ceil((sums[half] - sums[least] - room) / capacity - 1e-9))).max())


def best_fit_decreasing(
    values: np.ndarray, counts: np.ndarray, capacity: int, max_batch_size: int
) -> list[tuple[Pattern, int]]:
    """Best-fit decreasing over classes: (pattern, how many bins of it), …; no bin over the capacity or the size."""
    largest = max_batch_size or int(counts.sum())
    rooms: list[int] = []  # what open bins have left, ascending
    stacks: dict[int, list[tuple[Pattern, int, int]]] = {}  # room -> (pattern, its samples, bins)
    done: list[tuple[Pattern, int]] = []

    def put(room: int, pattern: Pattern, size: int, copies: int, least: int) -> None:
        if room < least or size == largest:
            done.append((pattern, copies))
        elif room in stacks:
            stacks[room].append((pattern, size, copies))
        else:
            stacks[room] = [(pattern, size, copies)]
            insort(rooms, room)

    least = int(values[0])
    for index in range(len(values) - 1, -1, -1):
        value, todo = int(values[index]), int(counts[index])
        while todo:
            at = bisect_left(rooms, value)
            if at < len(rooms):
                room = rooms[at]
                pattern, size, copies = stacks[room].pop()
                if not stacks[room]:
                    del stacks[room], rooms[at]
            else:
                room, pattern, size, copies = capacity, (), 0, todo
            each = min(room // value, largest - size, todo)
            used = min(todo // each, copies)
            if size and used < copies:
                put(room, pattern, size, copies - used, least)
            put(room - each * value, (*pattern, (index, each)), size + each, used, least)
            todo -= each * used
    for room in rooms:
        done += [(pattern, copies) for pattern, _, copies in stacks[room]]
    return done


def deal_patterns(
    patterns: list[tuple[Pattern, int]], counts: np.ndarray, order: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Bin of each sample, (N,) int64: those of a class are dealt anew."""
    starts = np.cumsum(counts) - counts
    classes = np.repeat(np.arange(len(counts)), counts)
    shuffled = rng.permutation(len(order))
    pool = order[shuffled[np.argsort(classes[shuffled], kind="stable")]]
    at, bin_of, bins = starts.tolist(), np.empty(len(order), np.int64), 0
    for pattern, copies in patterns:
        for index, each in pattern:
            bin_of[pool[at[index] : at[index] + each * copies]] = np.repeat(np.arange(bins, bins + copies), each)
            at[index] += each * copies
        bins += copies
    return bin_of


def split_bins(bin_of: np.ndarray, bins: int, target: int, min_batch_size: int) -> np.ndarray:
    """Splits the bins of most samples until there are `target`, or none can be split: bin of each sample, (N,)."""
    sizes = np.bincount(bin_of, minlength=bins)
    parts = split_counts(sizes, target, min_batch_size)
    order = np.argsort(bin_of, kind="stable")
    nth = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    owner, fresh = bin_of[order], np.empty_like(bin_of)
    fresh[order] = (np.cumsum(parts) - parts)[owner] + nth % parts[owner]
    return fresh


def split_counts(sizes: np.ndarray, target: int, min_batch_size: int) -> np.ndarray:
    """Into how many each batch is split so that there are `target`, or fewer where none may be split on: (B,) int64."""
    parts = np.ones(len(sizes), np.int64)
    for _ in range(target - len(sizes)):
        can = sizes // (parts + 1) >= min_batch_size
        if not can.any():
            break
        parts[np.argmax(np.where(can, sizes / parts, 0))] += 1
    return parts


@dataclass(frozen=True)
class Packing:
    """A list of lengths to be packed, and its reference packing, worked out when it is asked for.

    Attributes:
        units, capacity: the lengths, (N,) int64, and the budget, as integers.
        max_batch_size: the most samples of a bin; 0 for no limit.
    """

    units: np.ndarray
    capacity: int
    max_batch_size: int

    @classmethod
    def of(cls, lengths: np.ndarray, budget: float, max_batch_size: int) -> "Packing":
        return cls(*to_units(lengths, budget), max_batch_size)

    @cached_property
    def classes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values (C,), counts (C,) and the order of the samples by class (N,): members of one may trade places."""
        return length_classes(self.units)

    @cached_property
    def bound(self) -> int:
        """There can be no fewer bins."""
        bound = fewest_bins(*self.classes[:2], self.capacity)
        return max(bound, -(-len(self.units) // self.max_batch_size)) if self.max_batch_size else bound

    @cached_property
    def patterns(self) -> list[tuple[Pattern, int]]:
        """Best-fit decreasing by class."""
        return best_fit_decreasing(*self.classes[:2], self.capacity, self.max_batch_size)

    @cached_property
    def reference(self) -> tuple[int, np.ndarray | None]:
        """How many bins are known to do, and the bin of each sample (N,), or None where it is the patterns that do."""
        bins = sum(copies for _, copies in self.patterns)
        for waste in TRIED:
            tried = math.ceil(self.bound * (1 + waste))
            if bins <= tried or self.uniform:
                break
            bin_of = scatter(self.units, self.capacity, tried, self.max_batch_size, np.random.default_rng(0))
            if bin_of is not None:
                return tried, bin_of
        return bins, None

    @property
    def uniform(self) -> bool:
        return bool(self.units.min() == self.units.max())

    def batches(self, ranks: int) -> int:
        """How many batches an epoch has on so many ranks: EASE more than the bound, unless that takes many more."""
        tight, eased = (-(-bins // ranks) * ranks for bins in (self.reference[0], math.ceil(self.bound * (1 + EASE))))
        return eased if tight < eased <= 1.005 * tight and not self.uniform else tight

    def deal(self, target: int, min_batch_size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Samples by bin (N,), and sizes of the bins (B,): `target`, or fewer where they would go under the minimum."""
        target = min(target, len(self.units) if min_batch_size == 1 else self._most(min_batch_size))
        bin_of = None
        for _ in range(min(max(CHEAP // len(self.units), 1), 8)):
            if bin_of is None and target > 1 and not self.uniform:
                bin_of = scatter(self.units, self.capacity, target, self.max_batch_size, rng)
        if bin_of is None or np.bincount(bin_of).min() < min_batch_size:
            bin_of = self._deal_reference(rng)
            if target > self.reference[0]:
                bin_of = split_bins(bin_of, self.reference[0], target, min_batch_size)
        order = rng.permutation(len(bin_of))
        return order[np.argsort(bin_of[order], kind="stable")], np.bincount(bin_of)

    def _most(self, min_batch_size: int) -> int:
        return max(self.reference[0], len(self.units) // min_batch_size)

    def _deal_reference(self, rng: np.random.Generator) -> np.ndarray:
        reference = self.reference[1]
        if reference is None:
            return deal_patterns(self.patterns, *self.classes[1:], rng)
        shuffled, bin_of = rng.permutation(len(self.units)), np.empty_like(reference)
        shuffled = shuffled[np.argsort(self.units[shuffled], kind="stable")]
        bin_of[shuffled] = reference[np.argsort(self.units, kind="stable")]
        return bin_of
