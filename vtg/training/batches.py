"""From the samples of a training set to this rank's batches, planned anew every epoch.

One plan for all ranks (`vtg.data.batching`): the Trainer gets each rank's part of it as a batch sampler of its own, so
nothing is sharded again. A batch is a list of indices into the training set; a negative one, ~i, is a stand-in: sample
i without loss.

A checkpoint holds how far the epoch had come (`batches.json`). Going on with the same number of ranks skips what was
trained, without decoding it; with another number the samples that are left of the epoch are planned for the new ranks,
so that each is trained once.
"""

import json
import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import broadcast_object_list
from torch.utils.data import DataLoader, Sampler
from transformers import TrainingArguments

from vtg.config.checks import is_packed, longest_clip_tokens
from vtg.config.schema import BatchingConfig, SFTConfig
from vtg.data.batching import (
    Plan,
    PlanStatistics,
    plan_epoch,
    plan_fixed,
    rest_of_epoch,
    statistics,
    steps_per_epoch,
)
from vtg.data.cost import SampleCosts, sample_costs, video_facts
from vtg.data.dataset import GroundingDataset, Skipped, SkipReport
from vtg.data.schema import Sample, resolve_video
from vtg.errors import ConfigError
from vtg.output import write_json

log = logging.getLogger(__name__)

POSITION_FILE = "batches.json"
PLAN_FILE = "batching.json"
"""In the run directory: what the first epoch's plan is expected to cost."""

NAMED = 5
"""Samples over the budget that an error names."""


@dataclass(frozen=True)
class Position:
    """How far an epoch has come: `parts` are (ranks, steps done on them), one for every number of ranks it had."""

    epoch: int
    parts: tuple[tuple[int, int], ...]
    log_lines: int | None = None
    """Lines that train_log.jsonl had by then."""

    @classmethod
    def read(cls, checkpoint: Path) -> "Position | None":
        """The position of a checkpoint folder, None where it has none."""
        file = checkpoint / POSITION_FILE
        if not file.is_file():
            return None
        found = json.loads(file.read_text(encoding="utf-8"))
        return cls(found["epoch"], tuple((ranks, steps) for ranks, steps in found["parts"]), found["log_lines"])

    def write(self, checkpoint: Path) -> None:
        write_json(checkpoint / POSITION_FILE, asdict(self))


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
    units: Sequence[np.ndarray]
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
        """The plan of a whole epoch, of indices of units."""
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

    def rest(self, position: Position, ranks: int) -> tuple[Plan, int]:
        """The plan, on `ranks`, of what is left of an epoch, and how many of the epoch's steps count as done.

        Together they are as many steps as a whole epoch has on `ranks`, and those done are whole optimizer steps.
        """
        (first_ranks, first_done), *later = position.parts
        left = rest_of_epoch(self.epoch(position.epoch, first_ranks), first_done)
        for part_ranks, done in later:
            left = rest_of_epoch(self._plan_left(left, position.epoch, part_ranks)[0], done)
        return self._plan_left(left, position.epoch, ranks)

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
            "max_batch_size": self.config.max_batch_size,
            "min_batch_size": self.config.min_batch_size,
            "oversize_alone": self.config.oversize == "alone",
        }


class PlannedBatches(Sampler[list[int]]):
    """This rank's batches of a training set: lists of its indices, planned anew each epoch.

    Raises (on construction):
        ConfigError: for a plan that cannot be, such as fewer batches than ranks with `drop_last`.
    """

    def __init__(self, planner: Planner, *, rank: int, ranks: int, dataset: GroundingDataset | None = None) -> None:
        self.planner, self.rank, self.ranks, self.dataset = planner, rank, ranks, dataset
        self.current = 0
        self._resumed: Position | None = None
        try:
            self._steps = planner.steps(ranks)
        except ValueError as error:
            raise ConfigError(f"batching: {error}") from None
        if not self._steps:
            raise ConfigError(
                f"batching.drop_last leaves nothing: fewer batches than the {ranks} ranks; set batching.drop_last=false"
            )

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose batches come next, also for the data set, which draws prompts and frames anew."""
        self.current = epoch
        if self.dataset is not None:
            self.dataset.set_epoch(epoch)

    def go_on(self, position: Position) -> int:
        """Plans what is left of an epoch instead of all of it; returns how many of its batches count as done."""
        self._resumed = position
        return self.planner.rest(position, self.ranks)[1]

    def position(self, epoch: int, steps: int) -> Position:
        """What to remember once so many steps of an epoch are done."""
        if self._resumed is None or self._resumed.epoch != epoch:
            return Position(epoch, ((self.ranks, steps),))
        done = self.planner.rest(self._resumed, self.ranks)[1]
        return Position(epoch, (*self._resumed.parts, (self.ranks, steps - done)))

    def plan(self) -> tuple[Plan, int]:
        """Of the current epoch, of units; and how many of its steps are done already, which are not in the plan."""
        if self._resumed is not None and self._resumed.epoch == self.current:
            return self.planner.rest(self._resumed, self.ranks)
        return self.planner.epoch(self.current, self.ranks), 0

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[list[int]]:
        plan, done = self.plan()
        yield from ([] for _ in range(done))  # never fetched: the Trainer skips them
        for step in range(plan.steps):
            yield [index for unit in plan.batch(step, self.rank).tolist() for index in self._indices(unit)]

    def _indices(self, unit: int) -> list[int]:
        indices = self.planner.units[unit if unit >= 0 else ~unit].tolist()
        return indices if unit >= 0 else [~index for index in indices]


class PlannedLoader(DataLoader):
    """A DataLoader over `PlannedBatches` that hands the epoch on to them.

    Where a run goes on the Trainer takes another loader over the same batches, and tells them itself.
    """

    def set_epoch(self, epoch: int) -> None:
        assert isinstance(self.batch_sampler, PlannedBatches)
        self.batch_sampler.set_epoch(epoch)


def plan_batches(
    config: SFTConfig, dataset: GroundingDataset, arguments: TrainingArguments, *, report: SkipReport
) -> PlannedBatches:
    """This rank's batches of a training set; samples that no batch can hold are taken out of it, where that is set.

    Costs are found on the main process and handed to the others, so that all plan the same.

    Raises:
        ConfigError: samples over the budget, or a plan that cannot be.
    """
    batching = config.batching
    paths = [resolve_video(sample.video, dataset.video_dir) for sample in dataset.samples]
    costs: list[SampleCosts | None] = [None]
    if arguments.process_index == 0:
        reads_headers = batching.by == "tokens" or is_packed(batching)
        costs = [
            sample_costs(
                dataset.samples,
                paths,
                video_facts(paths, progress=True) if reads_headers else {},
                task=dataset.task,
                processor=dataset.processor,
                video=config.video,
            )
        ]
    (found,) = broadcast_object_list(costs)
    assert found is not None
    over = over_budget(config, dataset.samples, found)
    if over.all():
        raise ConfigError(
            f"batching.oversize = 'skip' leaves nothing: all {len(over)} samples are over the budget of "
            f"{budget(config):.10g}; raise it"
        )
    if over.any():
        log.warning("%d of %d samples are over the budget of a batch and left out", int(over.sum()), len(over))
        if arguments.process_index == 0:
            out = [dataset.samples[at] for at in np.flatnonzero(over).tolist()]
            report.leave_out([Skipped(s.place, "batching.oversize = skip", s.qid, s.video) for s in out])
        dataset.samples = [
            sample for sample, is_over in zip(dataset.samples, over.tolist(), strict=True) if not is_over
        ]
        found = SampleCosts(*(getattr(found, field.name)[~over] for field in fields(found)))
    planner = make_planner(
        config,
        dataset.samples,
        found,
        batch_size=arguments.per_device_train_batch_size,
        accumulation=arguments.gradient_accumulation_steps,
    )
    batches = PlannedBatches(planner, rank=arguments.process_index, ranks=arguments.world_size, dataset=dataset)
    told = planner.statistics(planner.epoch(0, arguments.world_size))
    log.info(
        "%d samples of %.1f to %.1f s; an epoch has %d batches of %d to %d %s (%.1f on average) on each of %d ranks; "
        "expected: %.1f %% of the work useful, %.1f %% padding, the slowest rank %.3f x the mean",
        *(len(dataset.samples), found.seconds.min(), found.seconds.max(), told.steps, told.min_batch_size),
        *(told.max_batch_size, "clips" if batching.share_video else "samples", told.mean_batch_size),
        *(arguments.world_size, 100 * told.efficiency, 100 * told.padding, told.straggler),
    )
    if batching.share_video:
        alone, shared = int(found.tokens.sum()), int(planner.tokens.sum())
        log.info(
            "videos shared by their rows: %d tokens instead of %d (%.1f %% saved)",
            shared,
            alone,
            100 * (1 - shared / alone),
        )
    if arguments.process_index == 0:
        write_json(Path(config.output_dir) / PLAN_FILE, asdict(told) | {"by": batching.by})
    return batches


def make_planner(
    config: SFTConfig, samples: Sequence[Sample], costs: SampleCosts, *, batch_size: int, accumulation: int
) -> Planner:
    """The planner of a training set.

    Args:
        costs: of the samples, none of them over the budget unless `batching.oversize` is `alone` (`over_budget`).
        batch_size, accumulation: the Trainer's per_device_train_batch_size and gradient_accumulation_steps.
    """
    batching, tokens = config.batching, costs.tokens.astype(np.float64)
    units = _units(samples, costs, config) if batching.share_video else [np.array([at]) for at in range(len(samples))]
    first = np.array([unit[0] for unit in units])
    again = np.array([len(unit) - 1 for unit in units]) * costs.shared_tokens[first]  # a shared video is there once
    work = np.array([tokens[unit].sum() for unit in units]) - again
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


def _units(samples: Sequence[Sample], costs: SampleCosts, config: SFTConfig) -> list[np.ndarray]:
    """Indices of the samples of the same clip together, as many as a batch holds."""
    batching, limit = config.batching, budget(config)
    most = batching.max_batch_size or len(samples)
    clips: dict[tuple, list[int]] = defaultdict(list)
    for at, sample in enumerate(samples):
        clips[sample.video, sample.video_start_s, sample.video_end_s, sample.duration_s].append(at)
    units: list[list[int]] = []
    for rows in clips.values():
        held = math.inf
        for row in rows:
            own = float(costs.tokens[row] - costs.shared_tokens[row])
            is_full = batching.by == "tokens" and held + own > limit
            if held == math.inf or is_full or len(units[-1]) >= most:
                units.append([])
                held = float(costs.shared_tokens[row])
            units[-1].append(row)
            held += own
    return [np.array(unit) for unit in units]
