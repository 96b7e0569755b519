"""How good a plan is."""

from dataclasses import dataclass

import numpy as np

from vtg.batching.epoch_plan import Plan, batch_compute


@dataclass(frozen=True)
class PlanStatistics:
    """What a plan costs. Shares are of 1; compute of several parts is added up, except in `straggler_parts`.

    Attributes:
        steps, batches, samples: of the epoch; stand-ins are not counted as samples.
        stand_ins: batches that only keep a rank busy.
        mean_batch_size, min_batch_size, max_batch_size: samples of a batch.
        efficiency: useful compute / (ranks x the slowest rank's compute, summed over the steps).
        padding: share of the compute paid that is padding or a stand-in.
        idle: share of the ranks' time spent waiting for the slowest rank of the step.
        straggler: slowest rank's compute / mean of the ranks, averaged over the steps.
        straggler_parts: the same for each part of the compute.
        fill: mean cost of a batch / budget.
        max_batch_cost: in the unit of the lengths (padded: n x longest; packed: their sum).
        mean_batch_cost, shortest, longest: in the unit of the lengths.
        bound_ratio: batches / the fewest that the sum of the lengths would take (ceil(sum / budget)).
    """

    steps: int
    batches: int
    samples: int
    stand_ins: int
    mean_batch_size: float
    min_batch_size: int
    max_batch_size: int
    efficiency: float
    padding: float
    idle: float
    straggler: float
    straggler_parts: tuple[float, ...]
    fill: float
    max_batch_cost: float
    mean_batch_cost: float
    shortest: float
    longest: float
    bound_ratio: float


def statistics(
    plan: Plan, lengths: np.ndarray, *, budget: float, padded: bool, compute: np.ndarray | None = None
) -> PlanStatistics:
    """Measures a plan; the arguments are those of `plan_epoch`."""
    lengths = np.asarray(lengths, np.float64)
    table = lengths[:, None] if compute is None else np.asarray(compute, np.float64).reshape(len(lengths), -1)
    sizes, real = np.diff(plan.offsets), plan.samples[plan.samples >= 0]
    cost = batch_compute(plan.samples, plan.offsets, lengths[:, None], padded)[:, 0]
    paid = batch_compute(plan.samples, plan.offsets, table, padded).reshape(plan.steps, plan.ranks, -1)
    # Stand-ins compute, and nothing is learned of it.
    useful, total = table[real].sum(), paid.sum()
    whole = paid.sum(axis=2)
    # All ranks wait for the slowest one in every step: gradients are averaged there.
    slowest = whole.max(axis=1).sum() * plan.ranks
    stragglers = [_straggler(paid[:, :, part]) for part in range(paid.shape[2])]
    return PlanStatistics(
        steps=plan.steps,
        batches=len(sizes),
        samples=len(real),
        stand_ins=len(plan.samples) - len(real),
        mean_batch_size=float(sizes.mean()),
        min_batch_size=int(sizes.min()),
        max_batch_size=int(sizes.max()),
        efficiency=float(useful / slowest) if slowest else 1.0,
        padding=float(1 - useful / total) if total else 0.0,
        idle=float(1 - total / slowest) if slowest else 0.0,
        straggler=_straggler(whole),
        straggler_parts=tuple(stragglers),
        fill=float(cost.mean() / budget),
        max_batch_cost=float(cost.max()),
        mean_batch_cost=float(cost.mean()),
        shortest=float(lengths[real].min()),
        longest=float(lengths[real].max()),
        bound_ratio=float(len(sizes) / np.ceil(lengths[real].sum() / budget)),
    )


def _straggler(paid: np.ndarray) -> float:
    # Compute may be 0 in a step: then no rank is slow in it.
    mean = paid.mean(axis=1)
    return float(np.divide(paid.max(axis=1), mean, out=np.ones_like(mean), where=mean > 0).mean())
