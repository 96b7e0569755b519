"""What an epoch's batches are planned from: which samples are planned as one, what each costs, what a batch may hold.

The plan itself is vtg.batching's, which knows numbers alone.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from vtg.annotations.sample import Sample
from vtg.annotations.sample_table import SampleTable
from vtg.batching import (
    Plan,
    PlanStatistics,
    plan_epoch,
    plan_fixed,
    rest_of_epoch,
    statistics,
    steps_per_epoch,
)
from vtg.batching.cost import SampleCosts
from vtg.config.rules import is_packed, longest_clip_tokens
from vtg.config.schema import BatchingConfig, SFTConfig
from vtg.errors import ConfigError
from vtg.output import write_json

POSITION_FILE = "batches.json"

NAMED = 5
"""Samples over the budget that an error names."""


@dataclass(frozen=True)
class BatchSize:
    """What a batch may hold, and how many of them make an optimizer step: what a run may resume with another value of.

    `batch_size`: samples, under `by: fixed`; `budget`: tokens or seconds, otherwise.
    """

    batch_size: int
    budget: float
    max_batch_size: int
    min_batch_size: int
    accumulation: int


@dataclass(frozen=True)
class Position:
    """How far an epoch has come: `parts` are (ranks, steps done on them), one for every number of ranks it had.

    Attributes:
        sizes: of the batches of each part; empty where no part had others than the planner has.
        log_lines: that train_log.jsonl had by then.
        shift: optimizer steps of the run minus those that batches of the latest size would have taken so far.
    """

    epoch: int
    parts: tuple[tuple[int, int], ...]
    log_lines: int | None = None
    sizes: tuple[BatchSize, ...] = ()
    shift: int = 0

    @classmethod
    def read(cls, checkpoint: Path) -> "Position | None":
        """The position of a checkpoint folder, None where it has none."""
        file = checkpoint / POSITION_FILE
        if not file.is_file():
            return None
        found = json.loads(file.read_text(encoding="utf-8"))
        return cls(
            found["epoch"],
            tuple((ranks, steps) for ranks, steps in found["parts"]),
            found["log_lines"],
            tuple(BatchSize(**size) for size in found.get("sizes", ())),  # absent: saved before sizes could change
            found.get("shift", 0),
        )

    def write(self, checkpoint: Path) -> None:
        write_json(checkpoint / POSITION_FILE, asdict(self))


@dataclass(frozen=True, repr=False)
class Units(Sequence[np.ndarray]):
    """U lists of sample indices end to end: list k is `indices[offsets[k] : offsets[k + 1]]`, never empty."""

    indices: np.ndarray
    offsets: np.ndarray

    @overload
    def __getitem__(self, at: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[np.ndarray]: ...
    def __getitem__(self, at: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        if isinstance(at, slice):
            return [self[one] for one in range(len(self))[at]]
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


@dataclass(frozen=True)
class Planner:
    """What an epoch's plan is made of, for any number of ranks.

    Attributes:
        units: what is planned as one: indices of the samples that share a sequence, mostly of one.
        lengths, compute: (U,) of each unit, in the unit of `budget`; see `plan_epoch`.
        tokens: (U,) of each unit, a shared video counted once.
        batch_size: under `by: fixed`, which takes so many samples whatever they cost.
        accumulation: batches of an optimizer step.
    """

    config: BatchingConfig
    units: Units
    lengths: np.ndarray
    compute: np.ndarray
    tokens: np.ndarray
    budget: float
    batch_size: int
    accumulation: int
    seed: int

    def steps(self, ranks: int) -> int:
        """Batches of a rank in every epoch."""
        if self.config.by == "fixed":
            return self.epoch(0, ranks).steps
        return steps_per_epoch(self.lengths, ranks=ranks, **self._limits(), drop_last=self.config.drop_last)

    def epoch(self, epoch: int, ranks: int) -> Plan:
        """The plan of a whole epoch, of indices of units; of the first, the step that takes most memory first."""
        plan = self._epoch(epoch, ranks)
        if self.config.largest_first and epoch == 0:
            return plan.costliest_first(self.tokens, padded=self.padded)
        return plan

    def _epoch(self, epoch: int, ranks: int) -> Plan:
        if self.config.by == "fixed":
            return plan_fixed(
                len(self.units),
                ranks=ranks,
                batch_size=self.batch_size,
                seed=self.seed,
                epoch=epoch,
                drop_last=self.config.drop_last,
            )
        return plan_epoch(
            self.lengths,
            compute=self.compute,
            ranks=ranks,
            seed=self.seed,
            epoch=epoch,
            drop_last=self.config.drop_last,
            **self._limits(),
        )

    def remaining(self, position: Position, ranks: int) -> tuple[Plan, int]:
        """The plan, on `ranks`, of what is left of an epoch, and how many of the epoch's steps count as done.

        Together they are as many steps as a whole epoch has on `ranks`, and those done are whole optimizer steps.
        """
        sizes = position.sizes or [self.size] * len(position.parts)
        ((first_ranks, first_done), first_size), *later = zip(position.parts, sizes, strict=True)
        left = rest_of_epoch(self.with_size(first_size).epoch(position.epoch, first_ranks), first_done)
        for (part_ranks, done), size in later:
            left = rest_of_epoch(self.with_size(size)._plan_left(left, position.epoch, part_ranks)[0], done)
        return self._plan_left(left, position.epoch, ranks)

    @property
    def size(self) -> BatchSize:
        """What a batch may hold."""
        limits = self.config.max_batch_size or 0, self.config.min_batch_size
        return BatchSize(self.batch_size, self.budget, *limits, self.accumulation)

    def with_size(self, size: BatchSize) -> "Planner":
        """The planner of the same samples with batches of another size."""
        config = replace(self.config, max_batch_size=size.max_batch_size, min_batch_size=size.min_batch_size)
        return replace(
            self, config=config, batch_size=size.batch_size, budget=size.budget, accumulation=size.accumulation
        )

    def statistics(self, plan: Plan) -> PlanStatistics:
        """Of a whole epoch's plan. Under `by: fixed` the budget is the costliest batch."""
        found = statistics(plan, self.lengths, budget=self.budget, padded=self.padded, compute=self.compute)
        if self.config.by != "fixed":
            return found
        return statistics(plan, self.lengths, budget=found.max_batch_cost, padded=self.padded, compute=self.compute)

    @property
    def padded(self) -> bool:
        """Batches are padded to their longest sample, rather than packed end to end."""
        return not is_packed(self.config)

    def _plan_left(self, left: np.ndarray, epoch: int, ranks: int) -> tuple[Plan, int]:
        limits, lengths, compute = self._limits(), self.lengths[left], self.compute[left]
        if self.config.by == "fixed":
            limits |= {"budget": float(self.batch_size), "padded": True, "oversize_alone": False}
            limits |= {"max_batch_size": 0, "min_batch_size": 1}
            lengths = compute = np.ones(len(left))
        whole, needed = self.steps(ranks), steps_per_epoch(lengths, ranks=ranks, **limits)
        done = max(0, (whole - needed) // self.accumulation * self.accumulation)
        settings = limits | {"ranks": ranks, "seed": self.seed, "epoch": epoch, "steps": max(whole - done, needed)}
        return plan_epoch(lengths, compute=compute, **settings).of(left), done

    def _limits(self) -> Any:
        return {
            "budget": self.budget,
            "padded": self.padded,
            "max_batch_size": self.config.max_batch_size or 0,
            "min_batch_size": self.config.min_batch_size,
            "oversize_alone": self.config.oversize == "alone",
        }


def make_planner(
    config: SFTConfig, samples: Sequence[Sample], costs: SampleCosts, *, batch_size: int, accumulation: int
) -> Planner:
    """The planner of a training set.

    Args:
        costs: of the samples, none of them over the budget unless `batching.oversize` is `alone` (`over_budget`).
        batch_size, accumulation: the Trainer's per_device_train_batch_size and gradient_accumulation_steps.
    """
    batching, tokens = config.batching, costs.tokens.astype(np.float64)
    each = np.arange(len(samples))
    units = _units(samples, costs, config) if batching.share_video else Units(each, np.arange(len(samples) + 1))
    first = units.firsts()
    again = (np.diff(units.offsets) - 1) * costs.shared_tokens[first].astype(np.float64)  # a shared video is there once
    work = units.sums(tokens) - again
    return Planner(
        config=batching,
        units=units,
        lengths=costs.seconds[first] if batching.by == "duration" else work,
        compute=work + work**2 / batching.attention_cost if batching.attention_cost else work,
        tokens=work,
        budget=budget(config),
        batch_size=batch_size,
        accumulation=accumulation,
        seed=config.seed,
    )


def budget(config: SFTConfig) -> float:
    """What a batch may cost, in seconds or tokens; without a number in the settings, the tokens of the longest clip."""
    if config.batching.by == "duration":
        return config.batching.target_batch_duration
    return float(config.batching.target_batch_tokens or longest_clip_tokens(config.video, config.model))


def over_budget(config: SFTConfig, samples: Sequence[Sample], costs: SampleCosts) -> np.ndarray:
    """(N,) bool: the samples to leave out because a batch cannot hold them; all False unless `oversize` is `skip`.

    Raises:
        ConfigError: there are such samples and `oversize` is `error`; the worst are named, with what would let them in.
    """
    batching, limit = config.batching, budget(config)
    none = np.zeros(len(samples), dtype=bool)
    if batching.by == "fixed" or batching.oversize == "alone":
        return none
    by_tokens = batching.by == "tokens"
    each = costs.tokens if by_tokens else costs.seconds
    over = each > limit
    if not over.any() or batching.oversize == "skip":
        return over
    worst = np.argsort(-each)[: min(NAMED, int(over.sum()))]
    unit = "tokens" if by_tokens else "s"
    listed = "\n".join(f"  {samples[at].place}: {each[at]:.10g} {unit} ({samples[at].video})" for at in worst)
    key = "batching.target_batch_tokens" if by_tokens else "batching.target_batch_duration"
    way = ", or lower video.max_frames or video.total_pixels" if by_tokens else ""
    raise ConfigError(
        f"{int(over.sum())} of {len(samples)} samples do not fit into a batch of {key} = {limit:.10g}; the worst:\n"
        f"{listed}\nset {key} to at least {each.max():.10g}{way}, or set batching.oversize=alone (a batch of its own "
        "each) or skip (leave them out)"
    )


def _units(samples: Sequence[Sample], costs: SampleCosts, config: SFTConfig) -> Units:
    """Indices of the samples of the same clip together, as many as a batch holds."""
    batching, limit = config.batching, budget(config)
    most = batching.max_batch_size or len(samples)
    order, is_first = _by_clip(SampleTable.of(samples))
    shared = costs.shared_tokens[order]
    own = (costs.tokens[order] - shared).tolist()
    begins, held, size = [], 0.0, 0
    for at, (is_new, shared_tokens, own_tokens) in enumerate(zip(is_first.tolist(), shared.tolist(), own, strict=True)):
        is_full = batching.by == "tokens" and held + own_tokens > limit
        if is_new or is_full or size >= most:
            begins.append(at)
            held, size = float(shared_tokens), 0
        held, size = held + own_tokens, size + 1
    return Units(order, np.array([*begins, len(order)]))


def _by_clip(table: SampleTable) -> tuple[np.ndarray, np.ndarray]:
    """The samples by clip, (N,) int64, clips in the order of their first samples; and which of them begins a clip."""
    trims = [np.nan_to_num(table.numbers(name), nan=-1.0) for name in ("video_start_s", "video_end_s", "duration_s")]
    keys = [*trims, table.videos()[1]]
    order = np.lexsort(keys)  # stable: the samples of a clip stay in their order
    new = np.logical_or.reduce([np.diff(key[order], prepend=-2) != 0 for key in keys])
    first_of = np.empty(len(table), np.int64)
    first_of[order] = order[new][np.cumsum(new) - 1]
    order = np.argsort(first_of, kind="stable")
    return order, first_of[order] == order
