"""The Hugging Face Trainer, as vtg trains with it."""

import math
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import EarlyStoppingCallback
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import seed_worker

from vtg.config.schema import SFTConfig
from vtg.data.encoding import IGNORE_INDEX
from vtg.data.grounding_dataset import SkipReport
from vtg.data.packing import attention
from vtg.data.workers import worker_context
from vtg.models.checkpoint import base_model
from vtg.models.loading import choose_attention
from vtg.training.batch_log import BatchSizes
from vtg.training.grounding_trainer import GroundingTrainer, SaveBest
from vtg.training.guard import StepBatch
from vtg.training.processes import is_main_process
from vtg.training.progress import Progress, TrainLog
from vtg.training.sft.batches import PlannedBatches, PlannedLoader
from vtg.training.sft.epoch_position import Position
from vtg.training.stopping import StopOnSignal

BATCH_COUNTS = ("samples", "batches", "tokens", "slots")
"""What a collator counts of its batches: `slots` are the tokens that are computed, padding included."""


def epoch_and_batches(global_step: int, batches: int, accumulation: int) -> tuple[int, int]:
    """(epoch, batches done in it) after so many optimizer steps, where an epoch has `batches` on every rank."""
    epoch, updates = divmod(global_step, -(-batches // accumulation))
    return epoch, updates * accumulation


class SFTTrainer(GroundingTrainer):
    """The Trainer with planned batches, loss on answer tokens alone, evaluation by generation, and settings beside
    every checkpoint.
    """

    shift: int = 0
    """See `Position`."""

    def __init__(self, *, config: SFTConfig, report: SkipReport, batches: PlannedBatches, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config, self.report, self.batches = config, report, batches
        self.counts: Counter[str] = Counter()
        self.sizes = BatchSizes()
        self.begin_interval()
        self.base = base_model(config.model)
        self.model_accepts_loss_kwargs = True  # num_items_in_batch reaches compute_loss, which divides by it
        self.stop = StopOnSignal()
        self.remove_callback(PrinterCallback)
        self.train_log = TrainLog(Path(config.output_dir) / "train_log.jsonl")
        for callback in (SaveBest(), Progress(), self.train_log, self.stop):
            self.add_callback(callback)
        if config.evaluation.early_stopping_patience and self.eval_dataset is not None:
            self.add_callback(EarlyStoppingCallback(config.evaluation.early_stopping_patience))

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean cross-entropy over the answer tokens of the whole accumulated batch, on all ranks.

        Only the positions that predict an answer token are projected to the vocabulary: the same loss without the
        logits of thousands of vision tokens.
        """
        self.report.add(inputs.pop("skipped"))
        del inputs["rows"]
        counts = inputs.pop("counts")
        self.counts += counts
        self.sizes.add(counts["samples"])
        inputs = self._attention(model, inputs)
        labels = inputs.pop("labels")[:, 1:]
        keep = (labels != IGNORE_INDEX).any(0).nonzero()[:, 0]
        keep = keep if len(keep) else torch.zeros(1, dtype=torch.long, device=labels.device)
        outputs = model(**inputs, logits_to_keep=keep, use_cache=False)
        targets = labels[:, keep].flatten()
        total = cross_entropy(
            outputs.logits.float().flatten(0, 1),
            targets,
            ignore_index=IGNORE_INDEX,
            reduction="sum",
            label_smoothing=self.args.label_smoothing_factor,
        )
        items = num_items_in_batch if num_items_in_batch is not None else (targets != IGNORE_INDEX).sum()
        loss = total / max(1, int(items))
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # gradients are averaged over ranks, the count is their sum
        return (loss, outputs) if return_outputs else loss

    def step_batch(self, inputs: dict[str, Any]) -> StepBatch:
        return StepBatch(tuple(inputs["rows"]), inputs["input_ids"].numel())

    def get_train_dataloader(self) -> PlannedLoader:
        """This rank's batches; they are planned for all ranks together, so Accelerate shards nothing."""
        return PlannedLoader(
            self.train_dataset,  # type: ignore[arg-type]
            batch_sampler=self.batches,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            multiprocessing_context=worker_context(self.args.dataloader_num_workers),
            pin_memory=self.args.dataloader_pin_memory,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            worker_init_fn=partial(
                seed_worker, num_workers=self.args.dataloader_num_workers, rank=self.args.process_index
            )
            if self.args.dataloader_num_workers
            else None,
        )

    def resume(self, checkpoint: Path) -> None:
        """Prepares to resume from a checkpoint: with other ranks or batches than it had, the rest of its epoch is
        planned anew.
        """
        position = Position.read(checkpoint)
        if position is None:
            return
        self.train_log.lines, self.shift = position.log_lines, position.shift
        ranks, size = self.args.world_size, self.batches.planner.size
        sizes = position.sizes or (size,) * len(position.parts)
        is_own = [(count, each) == (ranks, size) for (count, _), each in zip(position.parts, sizes, strict=True)]
        if all(is_own):
            return
        done = 0
        if is_own[-1]:  # these ranks had taken over from others before
            done = position.parts[-1][1]
            position = replace(position, parts=position.parts[:-1], sizes=sizes[:-1])
        done += self.batches.resume(position)
        accumulation = self.args.gradient_accumulation_steps
        counted = position.epoch * -(-len(self.batches) // accumulation) + done // accumulation
        if self.args.max_steps > 0 and sizes[-1] != size:  # so many updates are to be made, of whichever batches
            self.shift = int(checkpoint.name.rpartition("-")[2]) - counted
        elif not (is_own[-1] and self.shift):
            self.recount_steps(checkpoint, counted + self.shift)

    def set_initial_training_values(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's counts. Steps that were made with batches of another size may leave more epochs than it counts
        until `max_steps`.
        """
        epochs, *others = super().set_initial_training_values(*args, **kwargs)
        return (sys.maxsize if self.shift else epochs, *others)

    def planned_steps(self) -> int:
        if self.args.max_steps > 0:
            return self.args.max_steps
        updates = -(-len(self.batches) // self.args.gradient_accumulation_steps)
        return math.ceil(self.args.num_train_epochs * updates)

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        super()._init_training_state(*args, **kwargs)
        return epoch_and_batches(
            self.state.global_step - self.shift, len(self.batches), self.args.gradient_accumulation_steps
        )

    def _attention(self, model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        """A packed batch's inputs with what says who attends to whom."""
        if "segments" not in inputs:
            return inputs
        plain: Any = self.accelerator.unwrap_model(model)
        dtype = torch.bfloat16 if self.args.bf16 else torch.float16 if self.args.fp16 else plain.dtype
        implementation = choose_attention(self.config.model.attention, self.args.device)
        return attention(inputs, dtype=dtype, implementation=implementation)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds to a training loss what the batches since the last one were: sizes, padding, balance, speed; and how
        many clips of this rank were decoded, or read from memory or the cache.
        """
        if "loss" in logs:
            logs |= self._batch_statistics()
            clips = {name: count for name, count in sorted(self.counts.items()) if name not in BATCH_COUNTS}
            logs |= {f"clips/{name}": float(count) for name, count in clips.items()}
            self.counts.clear()
        super().log(logs, start_time)

    def _batch_statistics(self) -> dict[str, float]:
        """Of all ranks, since the last call; every rank has to call it."""
        elapsed_s, self.interval_s = time.monotonic() - self.interval_s, time.monotonic()
        mine = torch.tensor([float(self.counts[name]) for name in BATCH_COUNTS], device=self.args.device)
        ranks: Any = self.accelerator.gather(mine[None])
        _, batches, tokens, slots = ranks.sum(0).tolist()
        sizes = self.sizes.take(self.accelerator)
        if not batches:
            return {}
        most = float(ranks[:, -1].max())
        return {
            **sizes,
            "batch/tokens": tokens / batches,
            "batch/padding": 1 - tokens / slots,
            "batch/rank_balance": slots / (len(ranks) * most),
            "batch/tokens_per_second": tokens / elapsed_s,
        }

    def save_extra(self, checkpoint: Path) -> None:
        """Where its epoch is."""
        if not is_main_process():
            return
        epoch, batches = epoch_and_batches(
            self.state.global_step - self.shift, len(self.batches), self.args.gradient_accumulation_steps
        )
        position = self.batches.position(epoch, batches)
        replace(position, log_lines=self.train_log.lines, shift=self.shift).write(checkpoint)
