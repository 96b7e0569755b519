"""The plan of one epoch: which samples form which batch, by step and rank, and what a batch costs."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Plan:
    """One epoch. Every rank has one batch, never empty, in each step; every sample is in one batch.

    A negative index ~i is a stand-in: sample i once more, to keep a rank busy for which there is no batch; it must not
    count in the loss. There are stand-ins only where splitting batches gives too few of them (see `plan_epoch`).

    Attributes:
        samples: (S,) int64: all batches end to end, in the order (step 0 rank 0, step 0 rank 1, …).
        offsets: (steps * ranks + 1,) int64: where each batch begins in `samples`.
        ranks: batches of a step.
    """

    samples: np.ndarray
    offsets: np.ndarray
    ranks: int

    @property
    def steps(self) -> int:
        return (len(self.offsets) - 1) // self.ranks

    def batch(self, step: int, rank: int) -> np.ndarray:
        """Indices of the samples of a batch: (n,) int64, n >= 1."""
        if not (0 <= step < self.steps and 0 <= rank < self.ranks):
            raise IndexError(f"step {step}, rank {rank} of a plan of {self.steps} steps on {self.ranks} ranks")
        at = step * self.ranks + rank
        return self.samples[self.offsets[at] : self.offsets[at + 1]]

    def of(self, indices: np.ndarray) -> "Plan":
        """The same plan in other indices, where `indices[i]` is what was i (a mixture's draw, a rest of an epoch)."""
        # A stand-in stays one: ~ is put on again after the translation.
        real = np.where(self.samples < 0, ~self.samples, self.samples)
        return Plan(np.where(self.samples < 0, ~indices[real], indices[real]), self.offsets, self.ranks)

    def costliest_first(self, costs: np.ndarray, *, padded: bool) -> "Plan":
        """The same with the step of the costliest batch and the first step in each other's place.

        `costs`: of each sample, (N,); padded: a batch costs n x its costliest sample, else their sum.
        """
        cost = batch_compute(self.samples, self.offsets, np.asarray(costs, np.float64)[:, None], padded)
        order = np.arange(self.steps)
        costliest = int(np.argmax(cost.reshape(self.steps, self.ranks).max(axis=1)))
        # One swap: all other steps stay in the random order that was drawn.
        order[[0, costliest]] = order[[costliest, 0]]
        batches = (order[:, None] * self.ranks + np.arange(self.ranks)).ravel()
        samples, sizes = gather(self.samples, np.diff(self.offsets), batches)
        return Plan(samples, np.concatenate([[0], np.cumsum(sizes)]), self.ranks)

    def __repr__(self) -> str:
        return f"Plan(steps={self.steps}, ranks={self.ranks}, samples={len(self.samples)})"


def gather(order: np.ndarray, sizes: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The samples and sizes of chosen bins, in the order of the choice."""
    starts, taken = np.cumsum(sizes) - sizes, sizes[chosen]
    ends = np.cumsum(taken)
    at = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts[chosen] - ends + taken, taken)
    return order[at], taken


def batch_compute(samples: np.ndarray, offsets: np.ndarray, compute: np.ndarray, padded: bool) -> np.ndarray:
    """What each batch takes of each part, (B, parts), from what each sample takes, (N, parts)."""
    each = compute[np.where(samples < 0, ~samples, samples)]
    # No batch is empty: `reduceat` gives an empty one the next sample.
    if padded:
        return np.maximum.reduceat(each, offsets[:-1], axis=0) * np.diff(offsets)[:, None]
    return np.add.reduceat(each, offsets[:-1], axis=0)
