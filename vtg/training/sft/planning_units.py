"""Which samples are planned as one: alone, or with the other rows of their clip, whose video they share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from vtg.annotations.sample import Sample
from vtg.annotations.sample_table import SampleTable
from vtg.batching.cost import SampleCosts
from vtg.config.data_settings import BatchingConfig


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


def samples_by_clip(samples: Sequence[Sample], costs: SampleCosts, batching: BatchingConfig, *, budget: float) -> Units:
    """Units of samples of the same clip, each as large as a batch of `budget` tokens (or seconds) holds."""
    most = batching.max_batch_size or len(samples)
    order, is_first = _by_clip(SampleTable.of(samples))
    shared = costs.shared_tokens[order]
    own = (costs.tokens[order] - shared).tolist()
    begins, tokens, size = [], 0.0, 0
    for at, (is_new, shared_tokens, own_tokens) in enumerate(zip(is_first.tolist(), shared.tolist(), own, strict=True)):
        # Only tokens can run over: rows of one clip share its seconds, however many they are.
        is_full = batching.by == "tokens" and tokens + own_tokens > budget
        if is_new or is_full or size >= most:
            begins.append(at)
            tokens, size = float(shared_tokens), 0  # the video is there once in every unit
        tokens, size = tokens + own_tokens, size + 1
    return Units(order, np.array([*begins, len(order)]))


def _by_clip(table: SampleTable) -> tuple[np.ndarray, np.ndarray]:
    """The samples by clip, (N,) int64, clips in the order of their first samples; and which of them begins a clip."""
    # NaN (no trim) equals nothing, itself included, and would make every sample a clip of its own.
    trims = [np.nan_to_num(table.numbers(name), nan=-1.0) for name in ("video_start_s", "video_end_s", "duration_s")]
    keys = [*trims, table.videos()[1]]
    order = np.lexsort(keys)  # stable: the samples of a clip stay in their order
    new = np.logical_or.reduce([np.diff(key[order], prepend=-2) != 0 for key in keys])
    first_of = np.empty(len(table), np.int64)
    first_of[order] = order[new][np.cumsum(new) - 1]
    order = np.argsort(first_of, kind="stable")
    return order, first_of[order] == order
