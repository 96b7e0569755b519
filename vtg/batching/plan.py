"""Which samples form which batch on which rank at which step of an epoch: pure functions of NumPy arrays."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vtg.batching.epoch_plan import Plan, batch_compute, gather
from vtg.batching.packed import Packing
from vtg.batching.padded import cut_padded, order_padded

# Drawn until one hardly trends (or the least of all is taken): a trend of the lengths over an epoch shows in the
# loss, as if it were training.
ORDERINGS = 256


def plan_epoch(
    lengths: np.ndarray,
    *,
    ranks: int,
    budget: float,
    padded: bool,
    seed: int,
    epoch: int,
    compute: np.ndarray | None = None,
    max_batch_size: int = 0,
    min_batch_size: int = 1,
    drop_last: bool = False,
    oversize_alone: bool = False,
    steps: int | None = None,
) -> Plan:
    """Plans an epoch of batches under a budget: each sample once, ranks even in every step, new in every epoch.

    The plan is a function of the arguments alone, the same on every rank. Its number of steps is `steps_per_epoch` of
    the same arguments in every epoch and for every seed.

    - Budget: padded, a batch costs n x its longest length; packed, the sum of its lengths. No batch costs more.
    - Ranks: batches of nearly the same compute form a step, and where the number of batches is no multiple of `ranks`,
      batches are split. None is split to fewer than `min_batch_size` samples (or none): what is then missing are
      stand-ins, see `Plan`.
    - `min_batch_size` yields to the budget: a batch of fewer samples stays where no more of them fit.
    - Order: steps are shuffled so that lengths do not trend over the epoch.

    Args:
        lengths: what the budget limits (seconds, frames or tokens), (N,) > 0.
        ranks: batches of a step: the number of processes.
        budget: the most a batch may cost, in the unit of `lengths`.
        padded: whether a batch is padded to its longest sample, or else packed without padding.
        compute: what takes time, (N,) or (N, parts) >= 0, such as a vision tower's and a language model's parts, each
            scaled to time; None for the lengths. Padded: n x the largest of the batch.
        max_batch_size: the most samples of a batch; 0 for no limit.
        min_batch_size: see above.
        drop_last: leave out the surplus batches (fewer than `ranks`, drawn anew each epoch) rather than split.
        oversize_alone: a sample over the budget is a batch of its own, the only exception to the budget.
        steps: exactly so many, where several lists shall take as many steps each (the epochs of a mixture), or
            what `steps_per_epoch` said, which saves working it out again; None for the fewest. Not
            needed, and not looked at, with drop_last.

    Raises:
        ValueError: a length over the budget without `oversize_alone`, or an argument out of its range.
    """
    task = _Task.checked(
        lengths, compute, ranks, budget, padded, max_batch_size, min_batch_size, drop_last, oversize_alone
    )
    # Nothing else decides: ranks and resumed runs draw the same plan without telling each other.
    rng = np.random.default_rng([seed, epoch])
    wanted = task.batches() if steps is None else steps * ranks
    if drop_last and steps is not None:
        wanted = None
    order, sizes = task.bins(wanted, rng)
    if drop_last:
        # Others in every epoch, so that no sample is left out of all of them.
        keep = np.sort(rng.permutation(len(sizes))[: len(sizes) // ranks * ranks])
        order, sizes = gather(order, sizes, keep)
        if not len(sizes):
            raise ValueError(f"drop_last leaves nothing: fewer batches than the {ranks} ranks; set drop_last=false")
        wanted = len(sizes)
    assert wanted is not None
    if len(sizes) > wanted:
        raise ValueError(f"{steps} steps on {ranks} ranks are too few: the budget needs {-(-len(sizes) // ranks)}")
    if missing := wanted - len(sizes):
        # What keeps a rank busy for the least time.
        shortest = np.argmin(task.lengths)
        order = np.concatenate([order, np.full(missing, ~shortest)])
        sizes = np.concatenate([sizes, np.ones(missing, np.int64)])
    return _assemble(order, sizes, task, rng)


def steps_per_epoch(
    lengths: np.ndarray,
    *,
    ranks: int,
    budget: float,
    padded: bool,
    compute: np.ndarray | None = None,
    max_batch_size: int = 0,
    min_batch_size: int = 1,
    drop_last: bool = False,
    oversize_alone: bool = False,
) -> int:
    """Steps of every epoch that `plan_epoch` plans with these arguments (`compute` does not matter)."""
    task = _Task.checked(
        lengths, compute, ranks, budget, padded, max_batch_size, min_batch_size, drop_last, oversize_alone
    )
    return task.batches() // ranks


def plan_fixed(count: int, *, ranks: int, batch_size: int, seed: int, epoch: int, drop_last: bool = False) -> Plan:
    """Plans an epoch of shuffled batches of a fixed size: each sample once, the last step's batches as even as can be.

    Fewer samples than ranks are left for the last step where `count` is such: then the missing batches are stand-ins
    (see `Plan`). drop_last leaves out the samples after the last full step instead.
    """
    if count < 1 or batch_size < 1 or ranks < 1:
        raise ValueError(f"count, batch_size and ranks are at least 1, got {count}, {batch_size} and {ranks}")
    rng = np.random.default_rng([seed, epoch])
    samples, (full, rest) = rng.permutation(count), divmod(count, batch_size * ranks)
    sizes = np.full(full * ranks, batch_size, np.int64)
    if drop_last:
        if not full:
            raise ValueError(
                f"drop_last leaves nothing of {count} samples: a step takes {batch_size} x {ranks} ranks; set "
                "drop_last=false or a smaller batch"
            )
        samples = samples[: count - rest]
    elif rest:
        sizes = np.concatenate([sizes, rest // ranks + (np.arange(ranks) < rest % ranks)])
        missing = int((sizes == 0).sum())
        samples = np.concatenate([samples, np.full(missing, ~samples[0])])
        sizes[sizes == 0] = 1
    return Plan(samples, np.concatenate([[0], np.cumsum(sizes)]), ranks)


def rest_of_epoch(plan: Plan, done_steps: int) -> np.ndarray:
    """Samples not yet trained after so many steps, (n,) int64, in their order: plan them again for other ranks.

    `plan_epoch(lengths[rest], …).of(rest)`; stand-ins are left out.
    """
    if not 0 <= done_steps <= plan.steps:
        raise ValueError(f"{done_steps} steps done of a plan of {plan.steps}")
    rest = plan.samples[plan.offsets[done_steps * plan.ranks] :]
    return rest[rest >= 0]


@dataclass(frozen=True)
class _Task:
    lengths: np.ndarray
    compute: np.ndarray  # (N, parts)
    over: np.ndarray  # (N,) bool
    ranks: int
    budget: float
    padded: bool
    max_batch_size: int
    min_batch_size: int
    drop_last: bool

    @classmethod
    def checked(
        cls,
        lengths: np.ndarray,
        compute: np.ndarray | None,
        ranks: int,
        budget: float,
        padded: bool,
        max_batch_size: int,
        min_batch_size: int,
        drop_last: bool,
        oversize_alone: bool,
    ) -> "_Task":
        lengths = np.asarray(lengths, np.float64)
        if lengths.ndim != 1 or not len(lengths):
            raise ValueError(f"lengths are a list of at least one number, got the shape {lengths.shape}")
        if not (np.isfinite(lengths) & (lengths > 0)).all():
            bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
            raise ValueError(
                f"{len(bad)} of {len(lengths)} lengths are not above 0 and finite, the first is {lengths[bad[0]]} at "
                f"index {bad[0]}"
            )
        if not (np.isfinite(budget) and budget > 0):
            raise ValueError(f"the budget is a number above 0, got {budget}")
        if ranks < 1 or max_batch_size < 0 or min_batch_size < 1 or 0 < max_batch_size < min_batch_size:
            raise ValueError(
                f"at least 1 rank and 1 <= min_batch_size <= max_batch_size (0: no limit), got {ranks} ranks, "
                f"{min_batch_size} and {max_batch_size}"
            )
        table = lengths[:, None] if compute is None else np.asarray(compute, np.float64).reshape(len(compute), -1)
        if len(table) != len(lengths) or not (np.isfinite(table) & (table >= 0)).all():
            raise ValueError(f"compute is finite, not negative and one row a length ({len(lengths)}), got {len(table)}")
        over = lengths > budget
        if over.any() and not oversize_alone:
            longest = int(np.argmax(lengths))
            raise ValueError(
                f"{over.sum()} of {len(lengths)} samples are over the budget of {budget:g}, the longest with "
                f"{lengths[longest]:g} at index {longest}: raise the budget, shorten them, leave them out, or let each "
                "be a batch of its own (oversize_alone)"
            )
        return cls(lengths, table, over, ranks, float(budget), padded, max_batch_size, min_batch_size, drop_last)

    @cached_property
    def packing(self) -> Packing:
        return Packing.of(self.lengths[~self.over], self.budget, self.max_batch_size)

    def batches(self) -> int:
        """How many every epoch has, stand-ins included: a multiple of the ranks."""
        alone = int(self.over.sum())
        fitting = self.lengths[~self.over]
        if not len(fitting):
            count = alone
        elif self.padded:
            count = alone + len(self._cut(-np.sort(-fitting), None))
        elif self.drop_last:
            count = alone + self.packing.batches(1)
        else:
            count = alone + self.packing.batches(self.ranks)
        return count // self.ranks * self.ranks if self.drop_last else -(-count // self.ranks) * self.ranks

    def _cut(self, ordered: np.ndarray, batches: int | None) -> np.ndarray:
        return cut_padded(
            ordered,
            budget=self.budget,
            batches=batches,
            ranks=self.ranks,
            max_batch_size=self.max_batch_size,
            min_batch_size=self.min_batch_size,
        )

    def bins(self, wanted: int | None, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Samples by bin (N,), and the bins' sizes (B,): as many as wanted, or fewer if the samples do not allow it."""
        alone, fitting = np.flatnonzero(self.over), np.flatnonzero(~self.over)
        order, sizes = fitting, np.empty(0, np.int64)
        lengths = self.lengths[fitting] if len(alone) else self.lengths
        target = None if wanted is None or self.drop_last else wanted - len(alone)
        if len(fitting) and self.padded:
            inner = order_padded(lengths, rng)
            sizes, order = self._cut(-np.sort(-lengths), target), fitting[inner]
        elif len(fitting):
            wanted = self.packing.batches(1) if target is None else max(target, 1)
            inner, sizes = self.packing.deal(wanted, self.min_batch_size, rng)
            order = fitting[inner]
        return np.concatenate([order, alone]), np.concatenate([sizes, np.ones(len(alone), np.int64)])


def _assemble(order: np.ndarray, sizes: np.ndarray, task: _Task, rng: np.random.Generator) -> Plan:
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    cost = batch_compute(order, offsets, task.compute, task.padded).sum(axis=1)
    # Shuffled before they are sorted: batches of one cost meet others in every epoch. And shuffled within each step:
    # sorted, rank 0 would have the cheapest batch of all of them.
    dealt = rng.permutation(len(sizes))
    steps = rng.permuted(dealt[np.argsort(cost[dealt], kind="stable")].reshape(-1, task.ranks), axis=1)
    steps = steps[_untrending(order, offsets, steps, task.lengths, rng)]
    samples, sizes = gather(order, sizes, steps.ravel())
    return Plan(samples, np.concatenate([[0], np.cumsum(sizes)]), task.ranks)


def _untrending(
    order: np.ndarray, offsets: np.ndarray, steps: np.ndarray, lengths: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """A random order of the steps, (steps,): the first drawn whose rank correlation with the lengths is next to 0."""
    rank = np.empty(len(lengths))
    rank[np.argsort(lengths)] = np.linspace(-1, 1, len(lengths))
    per_batch = np.add.reduceat(rank[np.where(order < 0, ~order, order)], offsets[:-1])
    per_step, weight = per_batch[steps].sum(axis=1), np.diff(offsets)[steps].sum(axis=1)
    best, least = np.arange(len(steps)), np.inf
    for _ in range(ORDERINGS if len(steps) > 2 else 1):
        drawn = rng.permutation(len(steps))
        at = (np.cumsum(weight[drawn]) - weight[drawn] / 2) / weight.sum() * 2 - 1
        trend = abs((per_step[drawn] * at).sum()) * 3 / weight.sum()  # both are spread over [-1, 1]: variance 1/3
        if trend < least:
            best, least = drawn, trend
        if least < 0.005:
            break
    return best
