"""From the samples of a training set to this rank's batches, planned anew every epoch.

One plan for all ranks (`vtg.batching`), of which each rank's part is its Trainer's batch sampler. A batch is a list of
indices into the training set; a negative one, ~i, is a stand-in: sample i without loss.

A checkpoint holds how far the epoch had come (`batches.json`). A resume with the same world size skips what was
trained, without decoding it; with another one the samples that are left of the epoch are planned for the new ranks, so
that each is trained once.
"""

import logging
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from torch.utils.data import DataLoader, Sampler
from transformers import TrainingArguments

from vtg.annotations.sample_table import SampleTable
from vtg.batching import Mixture, Plan, PlanStatistics
from vtg.batching.cost import SampleCosts, sample_costs, video_facts
from vtg.config.data_settings import BatchingConfig, DataConfig
from vtg.config.derived import is_packed
from vtg.config.video_settings import VideoConfig
from vtg.data.grounding_dataset import GroundingDataset
from vtg.data.skip_report import SkipReport
from vtg.errors import ConfigError
from vtg.ranks import is_main_process
from vtg.storage.json_files import write_json
from vtg.training.batch_log import log_target
from vtg.training.mixture_record import log_mixture, without_over_budget
from vtg.training.sft.epoch_position import BatchSize, Position
from vtg.training.sft.planner import Planner, make_planner, over_budget
from vtg.training.zero.zero_settings import set_accumulation
from vtg.video.video_index import VideoIndex

log = logging.getLogger(__name__)

PLAN_FILE = "batching.json"
"""In the run directory: the expected efficiency, padding and batch sizes of the first epoch."""


class PlannedBatches(Sampler[list[int]]):
    """This rank's batches of a training set: lists of its indices, planned anew each epoch.

    Raises (on construction):
        ConfigError: for a plan that cannot be, such as fewer batches than ranks with `drop_last`.
    """

    def __init__(self, planner: Planner, *, rank: int, ranks: int, dataset: GroundingDataset | None = None) -> None:
        self.planner, self.rank, self.ranks, self.dataset = planner, rank, ranks, dataset
        self.current = 0
        self._resumed: Position | None = None
        # Known before training: the Trainer computes its number of steps and its schedule from the loader's length.
        try:
            self._steps = planner.steps(ranks)
        except ValueError as error:
            raise ConfigError(f"batching: {error}") from None
        if not self._steps:
            raise ConfigError(
                f"batching.drop_last leaves nothing: fewer batches than the {ranks} ranks; set batching.drop_last=false"
            )

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch whose batches come next, also for the data set, which draws prompts and frames anew."""
        self.current = epoch
        if self.dataset is not None:
            self.dataset.set_epoch(epoch)

    def resume(self, position: Position) -> int:
        """Plans what is left of the position's epoch; returns how many of its batches count as done."""
        self._resumed = position
        return self.planner.remaining(position, self.ranks)[1]

    def position(self, epoch: int, steps: int) -> Position:
        """The position once `steps` batches of an epoch are done, for a checkpoint."""
        size = self.planner.size
        # A part for each world size lasts for the epoch it was interrupted in: the next one is planned whole.
        if self._resumed is None or self._resumed.epoch != epoch:
            return Position(epoch, ((self.ranks, steps),), sizes=(size,))
        done = self.planner.remaining(self._resumed, self.ranks)[1]
        before = self._resumed.sizes or (size,) * len(self._resumed.parts)
        return Position(epoch, (*self._resumed.parts, (self.ranks, steps - done)), sizes=(*before, size))

    def plan(self) -> tuple[Plan, int]:
        """The plan of the current epoch, of units, without the steps that are done; and how many these are."""
        if self._resumed is not None and self._resumed.epoch == self.current:
            return self.planner.remaining(self._resumed, self.ranks)
        return self.planner.epoch(self.current, self.ranks), 0

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[list[int]]:
        plan, done = self.plan()
        # Empty batches for those that are done: the Trainer skips so many, and a skipped batch is never fetched.
        yield from ([] for _ in range(done))
        for step in range(plan.steps):
            yield [index for unit in plan.batch(step, self.rank).tolist() for index in self._indices(unit)]

    def _indices(self, unit: int) -> list[int]:
        indices = self.planner.units[unit if unit >= 0 else ~unit].tolist()
        return indices if unit >= 0 else [~index for index in indices]


class PlannedLoader(DataLoader):
    """A DataLoader over `PlannedBatches` that passes the epoch on to them."""

    # On a resume the Trainer makes another loader over the same batches (skip_first_batches), and calls them itself.

    def set_epoch(self, epoch: int) -> None:
        assert isinstance(self.batch_sampler, PlannedBatches)
        self.batch_sampler.set_epoch(epoch)


def plan_batches(
    dataset: GroundingDataset,
    arguments: TrainingArguments,
    *,
    batching: BatchingConfig,
    data: DataConfig,
    video: VideoConfig,
    budget: float,
    report: SkipReport,
    mixture: Mixture | None = None,
) -> PlannedBatches:
    """This rank's batches of a training set; samples that no batch can hold are taken out of it, where that is set.

    With `batching.global_size` the accumulation of `arguments` becomes what makes about so many samples a step.

    Args:
        budget: what a batch may cost, in tokens or seconds; see `batch_budget`.
        mixture: how samples are drawn; None: each once an epoch.

    Raises:
        ConfigError: samples over the budget, or a plan that cannot be.
    """
    size = BatchSize.of_trainer(arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps, budget)
    costs = _costs_on_all_ranks(dataset, batching, data, video)
    shape = {"ranks": arguments.world_size, "seed": arguments.seed, "report": report, "mixture": mixture}
    planner, costs = planner_of(dataset, costs, batching, size, **shape)
    set_accumulation(arguments, planner.accumulation)
    batches = PlannedBatches(planner, rank=arguments.process_index, ranks=arguments.world_size, dataset=dataset)
    expected = planner.statistics(planner.epoch(0, arguments.world_size))
    if planner.mixture is not None:
        log_mixture(planner.mixture)
    _log_plan(planner, expected, costs, ranks=arguments.world_size)
    if arguments.process_index == 0:
        write_json(Path(str(arguments.output_dir)) / PLAN_FILE, asdict(expected) | {"by": batching.by})
    return batches


def planner_of(
    dataset: GroundingDataset,
    costs: SampleCosts,
    batching: BatchingConfig,
    size: BatchSize,
    *,
    ranks: int,
    seed: int,
    report: SkipReport,
    mixture: Mixture | None = None,
) -> tuple[Planner, SampleCosts]:
    """The planner of a training set and the costs of its samples, without those that no batch can hold.

    With `batching.global_size` and batches that are filled to a budget, as many of them make an optimizer step as come
    nearest to it on average.

    Raises:
        ConfigError: samples over the budget, where they are not to be left out.
    """
    # Before the plan, which has no place for a sample that no batch can hold.
    over = over_budget(batching, SampleTable.of(dataset.samples), costs, budget=size.budget)
    if over.any():
        dataset.leave_out(over, report, budget=size.budget)
        costs = SampleCosts(*(getattr(costs, field.name)[~over] for field in fields(costs)))
        mixture = None if mixture is None else without_over_budget(mixture, over)
    numbers = {"budget": size.budget, "batch_size": size.batch_size, "accumulation": size.accumulation, "seed": seed}
    planner = make_planner(batching, SampleTable.of(dataset.samples), costs, **numbers, mixture=mixture)
    if not batching.global_size:
        return planner, costs
    a_batch = planner.statistics(planner.epoch(0, ranks)).mean_batch_size * ranks
    if batching.by != "fixed":  # of those it follows from the settings: `vtg.config.accumulation`
        planner = replace(planner, accumulation=max(1, round(batching.global_size / a_batch)))
    log.info(
        "batching.global_size = %d: %d batches of each rank make an optimizer step, %s%.1f samples",
        *(batching.global_size, planner.accumulation),
        "" if batching.by == "fixed" else "on average ",
        planner.accumulation * a_batch,
    )
    return planner, costs


def _needs_tokens(batching: BatchingConfig) -> bool:
    """Whether a plan depends on how many tokens a clip has, which only its video's size and rate tell."""
    return batching.by == "tokens" or is_packed(batching)


def costs_of(dataset: GroundingDataset, batching: BatchingConfig, data: DataConfig, video: VideoConfig) -> SampleCosts:
    """What each sample of a training set costs; opens its videos where batches depend on their tokens."""
    samples, facts = SampleTable.of(dataset.samples), None
    if _needs_tokens(batching):
        index = VideoIndex.beside(data.annotation_file, data.index_file)
        facts = video_facts(samples.videos()[0], video_dir=dataset.video_dir, index=index, progress=True)
    return sample_costs(samples, facts, task=dataset.task, processor=dataset.processor, video=video)


def _costs_on_all_ranks(*what: Any) -> SampleCosts:
    """`costs_of`; every rank has to call it."""
    # The main process alone: ranks that saw a file system differently would plan differently, and wait for each other
    # for ever. (The costs of a million rows take 16 s, of which 4.5 s are looking at videos: benchmarks/scale.py.)
    (shared,) = broadcast_object_list([costs_of(*what) if is_main_process() else None])
    assert shared is not None
    return shared


def _log_plan(planner: Planner, expected: PlanStatistics, costs: SampleCosts, *, ranks: int) -> None:
    """Says what the first epoch's batches hold, how even they are, and what a shared video saves."""
    batching = planner.config
    of = "clips" if batching.share_video else "samples"
    log.info(
        "%d samples of %.1f to %.1f s; an epoch has %d batches of %d to %d %s (%.1f on average) on each of %d ranks; "
        "expected: %.1f %% of the work useful, %.1f %% padding, the slowest rank %.3f x the mean",
        *(len(costs.seconds), costs.seconds.min(), costs.seconds.max(), expected.steps, expected.min_batch_size),
        *(expected.max_batch_size, of, expected.mean_batch_size),
        *(ranks, 100 * expected.efficiency, 100 * expected.padding, expected.straggler),
    )
    log_target(
        batching.by,
        limit=planner.budget if batching.by != "fixed" else planner.batch_size,
        mean_s=float(costs.seconds.mean()),
        expected=expected.mean_batch_size,
        accumulation=planner.accumulation,
        ranks=ranks,
        of=of,
    )
    if batching.share_video:
        alone, shared = int(costs.tokens.sum()), int(planner.tokens.sum())
        log.info(
            "videos shared by their rows: %d tokens instead of %d (%.1f %% saved)",
            shared,
            alone,
            100 * (1 - shared / alone),
        )
