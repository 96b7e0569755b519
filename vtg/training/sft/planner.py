"""The planner of a training set: what each sample costs, what a batch may hold, and from these an epoch's plan.

The plan itself is vtg.batching's, which knows numbers alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vtg.annotations.sample import Sample
from vtg.annotations.sample_table import SampleTable
from vtg.batching import (
    Mixture,
    Plan,
    PlanStatistics,
    plan_epoch,
    plan_fixed,
    rest_of_epoch,
    statistics,
    steps_per_epoch,
)
from vtg.batching.cost import SampleCosts
from vtg.batching.units import Units, single_samples, units_by_clip
from vtg.config.data_settings import BatchingConfig
from vtg.config.derived import is_packed, longest_clip_tokens
from vtg.config.video_settings import VideoConfig
from vtg.errors import ConfigError
from vtg.models.families.token_cost import TokenCost
from vtg.training.sft.epoch_position import BatchSize, Position

NAMED = 5
"""Samples over the budget that an error names."""

PROBED_EPOCHS, PROBED_SAMPLES = 16, 1 << 21
"""Epochs of a mixture that are looked at for how many steps one takes, as many as have so many samples together."""


@dataclass(frozen=True)
class Planner:
    """Costs of a training set and limits of its batches, from which an epoch is planned for any world size.

    Attributes:
        units: what is planned as one: indices of the samples that share a sequence, mostly of one sample each.
        lengths, compute: (U,) of each unit, in the unit of `budget`; see `plan_epoch`.
        tokens: (U,) of each unit, a shared video counted once.
        batch_size: samples of a batch under `by: fixed`, whatever they cost.
        accumulation: batches of an optimizer step.
        mixture: what an epoch holds, where that is not every unit once.
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
    mixture: Mixture | None = None
    _known_steps: dict[int, int] = field(default_factory=dict, compare=False, repr=False)

    def steps(self, ranks: int) -> int:
        """Batches of a rank in every epoch."""
        # Every epoch has as many: the Trainer computes the schedule of all from the length of one.
        if self.config.by == "fixed":
            return self.epoch(0, ranks).steps
        if ranks not in self._known_steps:
            self._known_steps[ranks] = self._steps_needed(ranks)
        return self._known_steps[ranks]

    def _steps_needed(self, ranks: int) -> int:
        if self.mixture is None:
            return steps_per_epoch(self.lengths, ranks=ranks, **self._limits(), drop_last=self.config.drop_last)
        # Every epoch draws other samples: as many steps as the fullest of a few takes. One of those to come can need
        # more, and then leaves samples out (`drawn`).
        epochs = max(2, min(PROBED_EPOCHS, PROBED_SAMPLES // self.mixture.count))
        draws = map(self.mixture.draw, range(epochs))
        return max(steps_per_epoch(self.lengths[drawn], ranks=ranks, **self._limits()) for drawn in draws)

    def drawn(self, epoch: int, ranks: int) -> np.ndarray:
        """(n,) units of an epoch: all of them, or a mixture's draw, as much of it as the steps of an epoch hold."""
        if self.mixture is None:
            return np.arange(len(self.units))
        drawn = self.mixture.draw(epoch)
        if self.config.by == "fixed":
            return drawn
        count, whole = self.mixture.count, self.steps(ranks)
        while steps_per_epoch(self.lengths[drawn], ranks=ranks, **self._limits()) > whole:
            # A little less of every source: the shares stay.
            count -= max(1, self.mixture.count // 200)
            drawn = self.mixture.draw(epoch, count=count)
        return drawn

    def epoch(self, epoch: int, ranks: int) -> Plan:
        """The plan of a whole epoch, of indices of units; of the first, the step that takes most memory first."""
        plan = self._shuffled_epoch(epoch, ranks)
        # A run that fits its costliest step fits all: if memory runs out, it does at once instead of after hours.
        if self.config.largest_first and epoch == 0:
            return plan.costliest_first(self.tokens, padded=self.padded)
        return plan

    def _shuffled_epoch(self, epoch: int, ranks: int) -> Plan:
        if self.mixture is not None:
            drawn = self.drawn(epoch, ranks)
            return self._plan(self.lengths[drawn], self.compute[drawn], epoch, ranks, steps=True).of(drawn)
        return self._plan(self.lengths, self.compute, epoch, ranks)

    def _plan(self, lengths: np.ndarray, compute: np.ndarray, epoch: int, ranks: int, *, steps: bool = False) -> Plan:
        """The plan of these units; `steps`: in as many as every epoch has, more than it may need."""
        if self.config.by == "fixed":
            return plan_fixed(
                len(lengths),
                ranks=ranks,
                batch_size=self.batch_size,
                seed=self.seed,
                epoch=epoch,
                drop_last=self.config.drop_last,
            )
        return plan_epoch(
            lengths,
            compute=compute,
            ranks=ranks,
            seed=self.seed,
            epoch=epoch,
            drop_last=self.config.drop_last,
            steps=self.steps(ranks) if steps else None,
            **self._limits(),
        )

    def remaining(self, position: Position, ranks: int) -> tuple[Plan, int]:
        """The plan, on `ranks`, of what is left of an epoch, and how many of the epoch's steps count as done.

        Together they are as many steps as a whole epoch has on `ranks`, and those done are whole optimizer steps.
        """
        sizes = position.sizes or [self.size] * len(position.parts)
        # Each part trained a prefix of the plan of what the parts before it left; replaying their plans finds the rest.
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
        sizes = {"batch_size": size.batch_size, "budget": size.budget, "accumulation": size.accumulation}
        return replace(self, config=config, _known_steps={}, **sizes)

    def statistics(self, plan: Plan) -> PlanStatistics:
        """Of a whole epoch's plan. Under `by: fixed` the budget is the costliest batch."""
        planned = statistics(plan, self.lengths, budget=self.budget, padded=self.padded, compute=self.compute)
        if self.config.by != "fixed":
            return planned
        return statistics(plan, self.lengths, budget=planned.max_batch_cost, padded=self.padded, compute=self.compute)

    @property
    def padded(self) -> bool:
        """Batches are padded to their longest sample, rather than packed end to end."""
        return not is_packed(self.config)

    def _plan_left(self, left: np.ndarray, epoch: int, ranks: int) -> tuple[Plan, int]:
        limits, lengths, compute = self._limits(), self.lengths[left], self.compute[left]
        if self.config.by == "fixed":
            # Batches of n samples are those of a budget of n where each sample costs 1.
            limits |= {"budget": float(self.batch_size), "padded": True, "oversize_alone": False}
            limits |= {"max_batch_size": 0, "min_batch_size": 1}
            lengths = compute = np.ones(len(left))
        whole, needed = self.steps(ranks), steps_per_epoch(lengths, ranks=ranks, **limits)
        # Whole optimizer steps alone: the Trainer resumes between steps, and counts an epoch by its batches.
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
    batching: BatchingConfig,
    samples: Sequence[Sample],
    costs: SampleCosts,
    *,
    budget: float,
    batch_size: int,
    accumulation: int,
    seed: int,
    mixture: Mixture | None = None,
) -> Planner:
    """The planner of a training set.

    Args:
        costs: of the samples, none of them over the budget unless `batching.oversize` is `alone` (`over_budget`).
        budget: of a batch; see `batch_budget`.
        batch_size, accumulation: the Trainer's per_device_train_batch_size and gradient_accumulation_steps.
        mixture: of the samples, None where an epoch is all of them.
    """
    tokens, units = costs.tokens.astype(np.float64), single_samples(len(samples))
    if batching.share_video:
        own = costs.tokens - costs.shared_tokens
        # Only tokens can run over: rows of one clip share its seconds, however many they are.
        limits: Any = {"budget": budget if batching.by == "tokens" else np.inf, "most": batching.max_batch_size or 0}
        units = units_by_clip(SampleTable.of(samples).clips(), costs.shared_tokens, own, **limits)
    first = units.firsts()
    # The video is in the tokens of each of its rows, and in their common sequence once.
    repeated = (np.diff(units.offsets) - 1) * costs.shared_tokens[first].astype(np.float64)
    work = units.sums(tokens) - repeated
    return Planner(
        config=batching,
        units=units,
        lengths=costs.seconds[first] if batching.by == "duration" else work,
        # l + l²/attention_cost: beside the work linear in the tokens, attention's grows with their square.
        compute=work + work**2 / batching.attention_cost if batching.attention_cost else work,
        tokens=work,
        budget=budget,
        batch_size=batch_size,
        accumulation=accumulation,
        seed=seed,
        mixture=mixture,
    )


def batch_budget(batching: BatchingConfig, video: VideoConfig, cost: TokenCost) -> float:
    """What a batch may cost, in seconds or tokens; without a number in the settings, the tokens of the longest clip."""
    if batching.by == "duration":
        return batching.target_batch_duration
    # The longest clip has to fit, or the first run with default settings would end in an error about one sample.
    return float(batching.target_batch_tokens or longest_clip_tokens(video, cost))


def over_budget(
    batching: BatchingConfig, samples: Sequence[Sample], costs: SampleCosts, *, budget: float
) -> np.ndarray:
    """(N,) bool: the samples to leave out because a batch cannot hold them; all False unless `oversize` is `skip`.

    Raises:
        ConfigError: there are such samples and `oversize` is `error`; the worst are named, with what would let them in.
    """
    if batching.by == "fixed" or batching.oversize == "alone":
        return np.zeros(len(samples), dtype=bool)
    by_tokens = batching.by == "tokens"
    each = costs.tokens if by_tokens else costs.seconds
    over = each > budget
    if not over.any() or batching.oversize == "skip":
        return over
    worst = np.argsort(-each)[: min(NAMED, int(over.sum()))]
    unit = "tokens" if by_tokens else "s"
    listed = "\n".join(f"  {samples[at].place}: {each[at]:.10g} {unit} ({samples[at].video})" for at in worst)
    key = "batching.target_batch_tokens" if by_tokens else "batching.target_batch_duration"
    smaller = ", or lower video.max_frames or video.total_pixels" if by_tokens else ""
    raise ConfigError(
        f"{int(over.sum())} of {len(samples)} samples do not fit into a batch of {key} = {budget:.10g}; the worst:\n"
        f"{listed}\nset {key} to at least {each.max():.10g}{smaller}, or set batching.oversize=alone (a batch of its "
        "own each) or skip (leave them out)"
    )
