"""Batches of prompts for RL: in each, all ranks hold equally many prompts, of nearly the same cost, under a budget.

Trainers gather what ranks generate, so the number of prompts must not differ between ranks; it may from batch to batch.
Prompts of nearly equal cost therefore form rows, one prompt a rank, and rows are packed like samples (`plan_epoch`).
A prompt that comes twice in a pass is no stand-in: its second group of completions is drawn anew, and trains.

Where prompts share their clips, a row has one unit of prompts about one clip a rank, all of equally many prompts.
"""

from collections import defaultdict
from itertools import islice
from typing import Any

import numpy as np

from vtg.batching.padded import order_padded
from vtg.batching.plan import plan_epoch, steps_per_epoch
from vtg.batching.units import Units, units_by_clip

# Sets these draws apart from others of the same seed and epoch.
STREAM = 1

# Units of prompts among which the next of a batch is looked for: with more of them batches fill better, but the large
# ones would all come first.
WAITING = 32

# Room over the budget for sums of rounded numbers, without which prompts of exactly `max_batch_size` might not fit.
ROUNDING = 1e-12


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
    clips: np.ndarray | None = None,
    shared: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Micro-batches of one pass over the prompts, drawn anew for every (seed, epoch), in a random order.

    - Budget: on no rank do a micro-batch's costs add up to more. A row with a prompt over the budget is alone (n = 1).
    - Ranks: the costs of two ranks differ by no more than those of one row do, whatever the number of rows.
    - Repeats: each prompt comes once, but fewer than `ranks` come again to fill the rows, and fewer than
      `steps_multiple` rows where splitting gives too few micro-batches. Which these are is drawn anew each pass, and
      evenly: none is taken twice for it before all are taken.
    - Clips: prompts about one clip come together as far as budget and ranks allow, side by side in a micro-batch.

    Args:
        costs: what the group of each prompt takes of the budget (tokens of the prompt and of all its completions, or
            seconds), (N,) > 0.
        budget: the most a rank holds in one micro-batch, in the unit of `costs`.
        max_batch_size: the most prompts of a rank in one micro-batch; 0 for no limit.
        steps_multiple: the micro-batches of one rollout; their number is a multiple of it.
        padded: a micro-batch costs n x its dearest prompt instead of the sum; not with `clips`.
        order: the prompts of this pass (a curriculum's choice), indices into `costs`; None for all.
        clips: which clip each prompt is about, (N,) int64, where prompts share them; None where they do not.
        shared: with `clips`, the part of each cost that is there once for a clip's prompts in a micro-batch, (N,).

    Returns:
        (ranks, n) int64 indices each, n >= 1. How many they are may differ a little between epochs.
    """
    costs = np.asarray(costs, np.float64)
    _check_counts(ranks=ranks, steps_multiple=steps_multiple)
    rng = np.random.default_rng([seed, epoch, STREAM])
    prompts = _filled(np.arange(len(costs)) if order is None else np.asarray(order, np.int64), ranks, rng)
    if not (np.isfinite(costs[prompts]) & (costs[prompts] > 0)).all():
        raise ValueError("costs of prompts are finite and above 0")
    if (clips is None) != (shared is None) or (padded and clips is not None):
        raise ValueError("clips and shared are given together, and not with padded")
    of_clip = np.zeros(len(costs)) if shared is None else np.asarray(shared, np.float64)
    own = costs - of_clip
    if clips is None:
        rows = list(prompts[order_padded(costs[prompts], rng)].reshape(-1, ranks, 1))
    else:
        prompts = rng.permutation(prompts)  # other prompts of a clip come together in every pass
        limits: Any = {"budget": budget, "most": max_batch_size}
        units = units_by_clip(clips[prompts], of_clip[prompts], own[prompts], **limits)
        rows = _rows_of_units(Units(prompts[units.indices], units.offsets), own, of_clip, ranks, rng)
    most = max_batch_size if clips is not None else 0
    # Alone where it is over the budget: the completions of a prompt are compared with each other, and cannot be parted.
    limits = {"ranks": 1, "padded": padded, "max_batch_size": max_batch_size, "oversize_alone": True}
    limits["budget"] = budget * most * (1 + ROUNDING) if most else budget
    needed = steps_per_epoch(_lengths(rows, _work(rows, own, of_clip), budget, most), **limits)
    steps = -(-needed // steps_multiple) * steps_multiple
    _split_largest(rows, steps)
    work = _work(rows, own, of_clip)
    plan = plan_epoch(_lengths(rows, work, budget, most), **limits, seed=seed, epoch=epoch, steps=steps)
    # The plan repeats its shortest row, without loss; here repeats train, and none is to be met more than others.
    missing = plan.samples < 0
    plan.samples[missing] = np.resize(rng.permutation(len(rows)), missing.sum())
    batches = []
    for step in range(plan.steps):
        chosen = plan.batch(step, 0)
        dealt = _deal(work[chosen], rng)
        batches.append(np.concatenate([rows[row][units] for row, units in zip(chosen, dealt, strict=True)], axis=1))
    return batches if clips is None else [_side_by_side(batch, clips) for batch in batches]


def plan_fixed_prompts(
    count: int,
    *,
    ranks: int,
    batch_size: int,
    seed: int,
    epoch: int,
    steps_multiple: int = 1,
    order: np.ndarray | None = None,
    clips: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Micro-batches of a fixed size over shuffled prompts, or over those of `order` as they stand there.

    Each prompt comes once, but as many come again as the last rollout lacks, drawn anew each pass and evenly. With
    `clips`, prompts about one clip come together, clips in a random order. The arguments are those of `plan_prompts`.

    Returns:
        (ranks, batch_size) int64 indices each, a multiple of `steps_multiple` of them.
    """
    _check_counts(ranks=ranks, batch_size=batch_size, steps_multiple=steps_multiple)
    rng = np.random.default_rng([seed, epoch, STREAM])
    prompts = rng.permutation(count) if order is None else np.asarray(order, np.int64)
    prompts = _filled(prompts, ranks * batch_size * steps_multiple, rng)
    if clips is None:
        return list(prompts.reshape(-1, ranks, batch_size))
    prompts = _gathered(prompts, clips, batch_size, rng)
    return list(_side_by_side(prompts.reshape(-1, ranks, batch_size), clips))


def draw_prompts(
    pool: np.ndarray, count: int, *, rng: np.random.Generator, clips: np.ndarray | None = None
) -> np.ndarray:
    """`count` of the prompts in `pool` at random, for a micro-batch: twice only where they are too few.

    With `clips` (which clip each prompt is about, as in `plan_prompts`) one prompt is drawn and then the others about
    its clip, and so on, so that they are about few clips, those about one side by side.
    """
    if clips is None:
        return rng.choice(pool, count, replace=len(pool) < count)
    drawn = rng.permutation(pool)
    _, first, clip = np.unique(clips[drawn], return_index=True, return_inverse=True)
    return _side_by_side(np.resize(drawn[np.argsort(first[clip], kind="stable")], count), clips)


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


def _deal(work: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which unit of each row each rank gets, (n, ranks), for their costs, alike: of each row the dearest to the rank
    with least so far.

    Two loads then never differ by more than the widest row does; the widest come first, and the others even them out.
    """
    dealt, loads = np.empty(work.shape, np.int64), np.zeros(work.shape[1])
    for row in np.argsort(-np.ptp(work, axis=1)):
        least, dearest = np.argsort(loads), np.argsort(-work[row])
        dealt[row, least] = dearest
        loads[least] += work[row, dearest]
    return dealt[:, rng.permutation(len(loads))]  # else rank 0 had the dearest prompt of the widest row each time


def _sizes(rows: list[np.ndarray]) -> np.ndarray:
    """Prompts of each row's units, (R,) int64."""
    return np.array([row.shape[1] for row in rows])


def _work(rows: list[np.ndarray], own: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """What the units of each row cost, (R, ranks), for rows (ranks, size) of prompts: a unit has its clip once."""
    prompts, sizes = np.concatenate(rows, axis=1), _sizes(rows)
    begins = np.cumsum(sizes) - sizes
    return (np.add.reduceat(own[prompts], begins, axis=1) + np.maximum.reduceat(shared[prompts], begins, axis=1)).T


def _lengths(rows: list[np.ndarray], work: np.ndarray, budget: float, most: int) -> np.ndarray:
    """What rows take of a micro-batch, (R,): with a limit of `most` prompts, as a part of `most` times the budget."""
    dearest = work.max(axis=1)
    # The larger of the parts that a row takes of the budget and of `most`: rows that keep within these keep both.
    # Multiplied instead of divided: whole numbers stay whole, and add up exactly.
    return np.maximum(dearest * most, _sizes(rows) * budget) if most else dearest


def _rows_of_units(
    units: Units, own: np.ndarray, shared: np.ndarray, ranks: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Rows of `ranks` units of equally many prompts and of nearly the same cost: (ranks, size) prompts each.

    The units of a size that fill no row are halved, down to single prompts, whose number is a multiple of `ranks`.
    """
    sizes, begins = np.diff(units.offsets), units.offsets[:-1]
    halves: defaultdict[int, list[np.ndarray]] = defaultdict(list)
    rows: list[np.ndarray] = []
    for size in range(sizes.max(), 0, -1):
        whole = units.indices[begins[sizes == size][:, None] + np.arange(size)]
        # Shuffled: units that are halved are others in every pass.
        of_size = rng.permutation(np.concatenate([whole, *halves.pop(size, [])]))
        surplus, kept = np.split(of_size, [len(of_size) % ranks])
        for half in np.array_split(surplus, 2, axis=1) if len(surplus) else ():
            halves[half.shape[1]].append(half)
        work = own[kept].sum(axis=1) + shared[kept].max(axis=1)
        rows += list(kept[order_padded(work, rng)].reshape(-1, ranks, size))
    return rows


def _split_largest(rows: list[np.ndarray], count: int) -> None:
    """Halves the rows (ranks, size) of the largest size until there are `count`, or all are of single prompts."""
    while len(rows) < count:
        largest = max(range(len(rows)), key=lambda at: rows[at].shape[1])
        if rows[largest].shape[1] == 1:
            return
        rows += np.array_split(rows.pop(largest), 2, axis=1)


def _gathered(prompts: np.ndarray, clips: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """The prompts in a random order in which the clips of every `size` of them are few, (n,)."""
    nothing = np.zeros(len(prompts))
    units = units_by_clip(clips[prompts], nothing, nothing, budget=np.inf, most=size)
    # Drawn: the clips whose first prompts stand first are those of most prompts.
    ahead = (units[at] for at in rng.permutation(len(units)))
    waiting = list(islice(ahead, WAITING))
    taken, room = [], size
    while waiting:
        fits = [at for at, unit in enumerate(waiting) if len(unit) <= room]
        if fits:
            taken.append(waiting.pop(max(fits, key=lambda at: len(waiting[at]))))
            waiting += islice(ahead, 1)
        else:
            taken.append(waiting[0][:room])
            waiting[0] = waiting[0][room:]
        room = room - len(taken[-1]) or size
    return prompts[np.concatenate(taken)]


def _side_by_side(batch: np.ndarray, clips: np.ndarray) -> np.ndarray:
    """The prompts of each rank, (..., n), by clip."""
    return np.take_along_axis(batch, np.argsort(clips[batch], axis=-1, kind="stable"), axis=-1)
