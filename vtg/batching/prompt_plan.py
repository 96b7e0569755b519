"""Batches of prompts for RL: in each, all ranks hold equally many prompts, of nearly the same cost, under a budget.

Trainers gather what ranks generate, so the number of prompts must not differ between ranks; it may from batch to batch.
Prompts of nearly equal cost therefore form rows, one prompt a rank, and rows are packed like samples (`plan_epoch`).
A prompt that comes twice in a pass is no stand-in: its second group of completions is drawn anew, and trains.
"""

import numpy as np

from vtg.batching.padded import order_padded
from vtg.batching.plan import plan_epoch, steps_per_epoch

# Sets these draws apart from others of the same seed and epoch.
STREAM = 1


def plan_prompts(
    costs: np.ndarray,
    *,
    ranks: int,
    budget: float,
    seed: int,
    epoch: int,
    max_batch_size: int = 0,
    steps_multiple: int = 1,
    padded: bool = False,
    order: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Micro-batches of one pass over the prompts, drawn anew for every (seed, epoch), in a random order.

    - Budget: on no rank do a micro-batch's costs add up to more. A row with a prompt over the budget is alone (n = 1).
    - Ranks: the costs of two ranks differ by no more than those of one row do, whatever the number of rows.
    - Repeats: each prompt comes once, but fewer than `ranks` come again to fill the rows, and fewer than
      `steps_multiple` rows where splitting gives too few micro-batches. Which these are is drawn anew each pass, and
      evenly: none is taken twice for it before all are taken.

    Args:
        costs: what the group of each prompt takes of the budget (tokens of the prompt and of all its completions, or
            seconds), (N,) > 0.
        budget: the most a rank holds in one micro-batch, in the unit of `costs`.
        max_batch_size: the most prompts of a rank in one micro-batch; 0 for no limit.
        steps_multiple: the micro-batches of one rollout; their number is a multiple of it.
        padded: a micro-batch costs n x its dearest prompt instead of the sum.
        order: the prompts of this pass (a curriculum's choice), indices into `costs`; None for all.

    Returns:
        (ranks, n) int64 indices each, n >= 1. How many they are may differ a little between epochs.
    """
    costs = np.asarray(costs, np.float64)
    _check_counts(ranks=ranks, steps_multiple=steps_multiple)
    rng = np.random.default_rng([seed, epoch, STREAM])
    prompts = _filled(np.arange(len(costs)) if order is None else np.asarray(order, np.int64), ranks, rng)
    if not (np.isfinite(costs[prompts]) & (costs[prompts] > 0)).all():
        raise ValueError("costs of prompts are finite and above 0")
    rows = prompts[order_padded(costs[prompts], rng)].reshape(-1, ranks)
    lengths = costs[rows].max(axis=1)
    # Alone where it is over the budget: the completions of a prompt are compared with each other, and cannot be parted.
    limits = {"ranks": 1, "budget": budget, "padded": padded, "max_batch_size": max_batch_size, "oversize_alone": True}
    steps = -(-steps_per_epoch(lengths, **limits) // steps_multiple) * steps_multiple
    plan = plan_epoch(lengths, **limits, seed=seed, epoch=epoch, steps=steps)
    # The plan repeats its shortest row, without loss; here repeats train, and none is to be met more than others.
    missing = plan.samples < 0
    plan.samples[missing] = np.resize(rng.permutation(len(rows)), missing.sum())
    return [_deal(rows[plan.batch(step, 0)], costs, rng) for step in range(plan.steps)]


def plan_fixed_prompts(
    count: int,
    *,
    ranks: int,
    batch_size: int,
    seed: int,
    epoch: int,
    steps_multiple: int = 1,
    order: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Micro-batches of a fixed size over shuffled prompts, or over those of `order` as they stand there.

    Each prompt comes once, but as many come again as the last rollout lacks, drawn anew each pass and evenly. The
    arguments are those of `plan_prompts`.

    Returns:
        (ranks, batch_size) int64 indices each, a multiple of `steps_multiple` of them.
    """
    _check_counts(ranks=ranks, batch_size=batch_size, steps_multiple=steps_multiple)
    rng = np.random.default_rng([seed, epoch, STREAM])
    prompts = rng.permutation(count) if order is None else np.asarray(order, np.int64)
    return list(_filled(prompts, ranks * batch_size * steps_multiple, rng).reshape(-1, ranks, batch_size))


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} = {value}: must be at least 1")


def _filled(prompts: np.ndarray, multiple: int, rng: np.random.Generator) -> np.ndarray:
    """The prompts, and at random as many of them again as a multiple of `multiple` lacks."""
    if not len(prompts):
        raise ValueError("there are no prompts to plan: give at least one")
    again = np.resize(rng.permutation(prompts), -len(prompts) % multiple)
    return np.concatenate([prompts, again])


def _deal(rows: np.ndarray, costs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows (n, ranks) dealt to the ranks, (ranks, n): of each row the dearest prompt to the rank with least so far.

    Two loads then never differ by more than the widest row does; the widest come first, and the others even them out.
    """
    work = costs[rows]
    dealt, loads = np.empty_like(rows), np.zeros(rows.shape[1])
    for row in np.argsort(-np.ptp(work, axis=1)):
        least, dearest = np.argsort(loads), np.argsort(-work[row])
        dealt[row, least] = rows[row, dearest]
        loads[least] += work[row, dearest]
    return rng.permutation(dealt.T)  # else rank 0 had the dearest prompt of the widest row each time
