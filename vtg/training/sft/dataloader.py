"""The batches that `train_sft.py` would train on, for a loop of one's own: `vtg.get_dataloader`."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler
from transformers import AutoConfig
from transformers.trainer_utils import seed_worker

from vtg.config.schema import SFTConfig
from vtg.data.augmentation import Augmentation
from vtg.data.encoding import token_cost
from vtg.data.grounding_dataset import BatchRow, GroundingDataset, make_provider
from vtg.data.skip_report import SkipReport
from vtg.data.splits import read_splits
from vtg.data.training_collator import TrainingCollator
from vtg.data.workers import worker_context
from vtg.demo.synthetic_data import ensure_synthetic
from vtg.entry import compose_settings
from vtg.errors import ConfigError
from vtg.models.checkpoint import resolve_base
from vtg.models.hub import find_model
from vtg.models.loading import load_processor
from vtg.tasks.span_task import SpanTask
from vtg.tasks.time_vocabulary import add_time_tokens
from vtg.training.sft.batches import PlannedBatches, costs_of, planner_of
from vtg.training.sft.epoch_position import BatchSize, Position
from vtg.training.sft.planner import batch_budget

STAGES = {"pretraining": "molmo2_pretraining", "sft": "molmo2_sft", "long": "molmo2_long"}
"""Short names of stages of Molmo2 → the experiment."""

BESIDE = ("answers", "skipped", "counts", "drawn")
"""What a batch has for vtg's own trainer alone."""


class TrainingBatches:
    """This rank's batches of a training, epoch after epoch: iterating goes through one, and the next time the next.

    A batch is what the model takes: `input_ids`, `labels`, the pixels and grids of its family. Packed ones have
    `segments` in place of an attention mask (`vtg.data.packing.attention` makes it).

    Attributes:
        epoch: that of the next batch.
        rows: the samples of the batch that came last, and what each costs.
        accumulation: batches of this rank that make an optimizer step.
        config: all settings of the training.
        mixture: how samples are drawn, where they are of several sources.
    """

    def __init__(self, config: SFTConfig, *, rank: int, ranks: int, num_workers: int) -> None:
        self.config, self._workers, self.epoch, self._done = config, num_workers, 0, 0
        self._folder = TemporaryDirectory(prefix="vtg-batches-")  # of the report of rows that cannot be used
        self._report = SkipReport(Path(self._folder.name) / "skipped.jsonl", max_bad_share=config.data.max_bad_share)
        find_model(config.model.path)
        processor: Any = load_processor(config.model.path)
        add_time_tokens(processor.tokenizer, config.task, path=config.model.path)
        task = SpanTask(config.task)
        ensure_synthetic(config.data)
        splits = read_splits(config.data, seed=config.seed, report=self._report, takes_sets=task.takes_sets)
        read = AutoConfig.from_pretrained(resolve_base(config.model.path), trust_remote_code=False)
        self._dataset = GroundingDataset(
            splits.train,
            task=task,
            processor=processor,
            provider=make_provider(config.video, processor),
            video_dir=config.data.video_dir,
            max_length=config.model.max_length,
            tokens_per_second=float(getattr(read.vision_config, "tokens_per_second", 2.0)),
            training=True,
            augmentation=Augmentation.of(config, processor),
            clips_recur=bool(config.batching.share_video),
            seed=config.seed,
        )
        trainer, budget = config.trainer, batch_budget(config.batching, config.video, token_cost(processor))
        size = BatchSize.of_trainer(
            int(trainer.get("per_device_train_batch_size", 8)),
            int(trainer.get("gradient_accumulation_steps", 1)),
            budget,
        )
        # Each rank by itself: with `rank` and `world_size` given there need not be a process group to share them by.
        costs = costs_of(self._dataset, config.batching, config.data, config.video)
        shape = {"ranks": ranks, "seed": config.seed, "report": self._report, "mixture": splits.mixture}
        planner, _ = planner_of(self._dataset, costs, config.batching, size, **shape)
        self._batches = PlannedBatches(planner, rank=rank, ranks=ranks, dataset=self._dataset)
        self._collate = TrainingCollator(processor.tokenizer.pad_token_id, config.batching)
        self.rows: Sequence[BatchRow] = ()
        self.accumulation, self.mixture = planner.accumulation, planner.mixture

    def __len__(self) -> int:
        """Batches of this rank in an epoch, the same on every rank and in every epoch."""
        return len(self._batches)

    def set_epoch(self, epoch: int) -> None:
        """The next batches are those of this epoch, from its beginning unless it is the one that is going on."""
        if epoch != self.epoch:
            self.epoch, self._done = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """How far it has come, the batch that came last included: a few numbers, the same on every rank."""
        return asdict(self._batches.position(self.epoch, self._done))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where another was, on as many ranks or on others: the samples left of the epoch are dealt anew."""
        position = Position.of(state)
        ranks, size = self._batches.ranks, self._batches.planner.size
        sizes = position.sizes or (size,) * len(position.parts)
        own = [(count, each) == (ranks, size) for (count, _), each in zip(position.parts, sizes, strict=True)]
        self.epoch, self._done = position.epoch, 0
        if own[-1]:
            self._done = position.parts[-1][1]
            position = replace(position, parts=position.parts[:-1], sizes=sizes[:-1])
        if position.parts:
            self._done += self._batches.resume(position)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        self._batches.set_epoch(self.epoch)
        workers = self._workers
        loader: DataLoader = DataLoader(
            self._dataset,
            batch_sampler=_Left(self._batches, self._done),
            collate_fn=self._collate,
            num_workers=workers,
            multiprocessing_context=worker_context(workers),
            worker_init_fn=partial(seed_worker, num_workers=workers, rank=self._batches.rank) if workers else None,
        )
        for batch in loader:
            self._report.add(batch["skipped"])
            self.rows = batch.pop("rows")
            self._done += 1
            yield {name: value for name, value in batch.items() if name not in BESIDE}
        self.epoch, self._done = self.epoch + 1, 0


class _Left(Sampler[list[int]]):
    """An epoch's batches without those that are done, of which none is read."""

    def __init__(self, batches: PlannedBatches, done: int) -> None:
        self._batches, self._done = batches, done

    def __len__(self) -> int:
        return len(self._batches) - self._done

    def __iter__(self) -> Iterator[list[int]]:
        yield from (batch for at, batch in enumerate(self._batches) if at >= self._done)


def dataloader_of(
    stage: str | None,
    overrides: Sequence[str],
    *,
    batch_size: int | None,
    num_workers: int | None,
    rank: int | None,
    world_size: int | None,
) -> TrainingBatches:
    """What `vtg.get_dataloader` does, in a module that may import torch."""
    words = [*([] if stage is None else [f"experiment={STAGES.get(stage, stage)}"])]
    if batch_size is not None:
        words += ["batching=fixed", f"trainer.per_device_train_batch_size={batch_size}"]
    config = compose_settings("sft", [*words, *overrides], SFTConfig, checked=True)
    if (rank is None) != (world_size is None):
        raise ConfigError(f"rank = {rank}, world_size = {world_size}: give both, or neither (torch.distributed knows)")
    if rank is None or world_size is None:
        there = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank = torch.distributed.get_rank() if there else int(os.environ.get("RANK", "0"))
        world_size = torch.distributed.get_world_size() if there else int(os.environ.get("WORLD_SIZE", "1"))
    if not 0 <= rank < world_size:
        raise ConfigError(f"rank = {rank}, world_size = {world_size}: must be 0 <= rank < world_size")
    workers = config.trainer.get("dataloader_num_workers", 0) if num_workers is None else num_workers
    if workers < 0:
        raise ConfigError(f"num_workers = {workers}: must be 0 (none) or more")
    return TrainingBatches(config, rank=rank, ranks=world_size, num_workers=int(workers))
