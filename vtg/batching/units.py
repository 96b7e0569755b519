"""Which samples are planned as one: alone, or with others of their clip, whose video they share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np


@dataclass(frozen=True, repr=False)
class Units(Sequence[np.ndarray]):
    """U lists of sample indices end to end: list k is `indices[offsets[k] : offsets[k + 1]]`, never empty."""

    # Two arrays instead of a list of lists: a million units are 16 MB, and sums over them are one NumPy call.
    indices: np.ndarray
    offsets: np.ndarray

    @overload
    def __getitem__(self, at: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[np.ndarray]: ...
    def __getitem__(self, at: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        if isinstance(at, slice):
            return [self[index] for index in range(len(self))[at]]
        if not 0 <= at < len(self):
            raise IndexError(f"unit {at} of {len(self)}")
        return self.indices[self.offsets[at] : self.offsets[at + 1]]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def sums(self, values: np.ndarray) -> np.ndarray:
        """(U,) of each list the sum of these values (N,) of the samples."""
        return np.add.reduceat(values[self.indices], self.offsets[:-1])

    def firsts(self) -> np.ndarray:
        """(U,) the first sample of each list."""
        return self.indices[self.offsets[:-1]]

    def __repr__(self) -> str:
        return f"Units({len(self)} of {len(self.indices)} samples)"


def single_samples(count: int) -> Units:
    """Each sample a unit of its own."""
    return Units(np.arange(count), np.arange(count + 1))


def units_by_clip(clips: np.ndarray, shared: np.ndarray, own: np.ndarray, *, budget: float, most: int) -> Units:
    """Units of samples of the same clip, each as large as a batch holds; clips in the order of their first samples.

    Args:
        clips: which clip each sample is about, (N,) int64.
        shared: what the samples of its clip have in common, once in every unit, (N,).
        own: what each sample costs besides, (N,).
        budget: the most that a unit costs, in the unit of `shared` and `own`; a sample over it is alone.
        most: samples of a unit; 0 for no limit.
    """
    order, is_first = _by_clip(clips)
    begins, cost, size = [], 0.0, 0
    for at, (is_new, of_clip, of_sample) in enumerate(
        zip(is_first.tolist(), shared[order].tolist(), own[order].tolist(), strict=True)
    ):
        if is_new or cost + of_sample > budget or size == most > 0:
            begins.append(at)
            cost, size = float(of_clip), 0  # the video is there once in every unit
        cost, size = cost + of_sample, size + 1
    return Units(order, np.array([*begins, len(order)]))


def _by_clip(clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The samples by clip, (N,) int64, clips in the order of their first samples; and which of them begins a clip."""
    _, firsts, which = np.unique(clips, return_index=True, return_inverse=True)
    first_of = firsts[which]
    order = np.argsort(first_of, kind="stable")  # the samples of a clip stay in their order
    return order, first_of[order] == order
