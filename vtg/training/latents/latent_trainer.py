"""The Hugging Face Trainer for predictors of latents: clips dealt out by the step, and errors of predictions."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers.trainer_utils import seed_worker

from vtg.data.workers import worker_context
from vtg.errors import ConfigError
from vtg.latents.future_clips import FoundFuture
from vtg.latents.future_model import FutureModel, generators
from vtg.latents.future_scores import MODEL, LatentErrors, latent_errors
from vtg.latents.latent_run import LatentSettings
from vtg.progress_bar import ProgressBar
from vtg.ranks import is_main_process
from vtg.storage.json_files import write_json
from vtg.training.guard import StepBatch
from vtg.training.latents.clip_batches import ClipBatches, ClipLoader
from vtg.training.latents.clip_dataset import ClipBatch, ClipDataset
from vtg.training.run_trainer import RunTrainer

POSITION_FILE = "clips.json"
"""In a checkpoint: the clips of an optimizer step, and the lines of the log by then."""


class LatentTrainer(RunTrainer):
    """The Trainer with the loss of predicted latents, a mean over those of a whole optimizer step on all ranks.

    Attributes:
        batches: this rank's.
        saved: settings written beside every checkpoint.
        batch_size: clips that are predicted at once in evaluation.
    """

    private_names_of = frozenset({"transformers"})

    def __init__(self, *, batches: ClipBatches, saved: LatentSettings, batch_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batches, self.saved, self.batch_size = batches, saved, batch_size
        self.model_accepts_loss_kwargs = True  # num_items_in_batch reaches compute_loss, which divides by it
        self.counts: Counter[str] = Counter()  # of this rank, since the last log entry
        self.begin_interval()

    @property
    def future_model(self) -> FutureModel:
        """The model without its wrappers."""
        model: Any = self.accelerator.unwrap_model(self.model)
        return model

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The part of a micro-batch in the mean loss over the observed latents of a whole step, on all ranks."""
        batch: ClipBatch = inputs["batch"]
        self.parts.report.add(batch.skipped)
        self.counts["clips/cached"] += sum(one.latents is not None for one in batch.found)
        self.counts["clips/decoded"] += sum(one.clip is not None for one in batch.found)
        # Through the wrapper: DDP gathers the gradients of what is called by it alone.
        mean = model(batch.found, self.batches.dataset.reader, batch.seeds)
        own = self._observed(batch.found)
        total = own if num_items_in_batch is None else float(num_items_in_batch)
        # Gradients are averaged over ranks; the total is of all of them.
        # The mean times its count is a sum, of which every rank's is divided by the count of all.
        loss = mean * (own * self.args.world_size / max(total, 1.0))
        return (loss, {}) if return_outputs else loss

    def _observed(self, found: Sequence[FoundFuture]) -> int:
        frames = self.future_model.encoder.frames_per_latent
        return sum(one.observed(frames) for one in found)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """The micro-batches of an optimizer step, and how many latents they are to predict together, on all ranks."""
        # The Trainer counts labels, of which there are none here.
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        items = torch.tensor(float(sum(self._observed(one["batch"].found) for one in batches)), device=device)
        if self.args.world_size > 1:
            gathered: Any = self.accelerator.gather(items)
            items = gathered.sum()
        return batches, items

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs; beside a training loss also how many clips of this rank were decoded, and how many were cached."""
        if "loss" in logs:
            logs |= {name: float(count) for name, count in sorted(self.counts.items())}
            self.counts.clear()
        super().log(logs, start_time)

    def step_batch(self, inputs: dict[str, Any]) -> StepBatch:
        rows = tuple(item.row for item in inputs["batch"].items)
        return StepBatch(rows, sum(row.tokens for row in rows))

    def get_train_dataloader(self) -> ClipLoader:
        """This rank's batches."""
        return ClipLoader(self.batches.dataset, batch_sampler=self.batches, **self._reading())

    def _reading(self) -> dict[str, Any]:
        workers = self.args.dataloader_num_workers
        seeded = partial(seed_worker, num_workers=workers, rank=self.args.process_index) if workers else None
        return {
            "collate_fn": _collate,
            "num_workers": workers,
            "multiprocessing_context": worker_context(workers),
            "prefetch_factor": self.args.dataloader_prefetch_factor,
            "worker_init_fn": seeded,
        }

    def planned_steps(self) -> int:
        if self.args.max_steps > 0:
            return self.args.max_steps
        return math.ceil(self.args.num_train_epochs * self.batches.steps)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Errors of predictions for the validation clips, beside those of the last latent, repeated."""
        dataset: Any = eval_dataset or self.eval_dataset
        rows = [row for _, errors in self.errors(dataset, "validating", draws=0) for row in errors]
        metrics = {}
        # Beside copy-last, whose error says how much there is to predict at all.
        for name, prefix in ((MODEL, ""), ("copy_last", "copy_last_")):
            for kind in ("l2", "cosine"):
                errors = [row.errors[name][kind] for row in rows]
                metrics[f"{metric_key_prefix}_{prefix}{kind}"] = sum(errors) / len(errors) if errors else math.nan
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def errors(self, dataset: ClipDataset, progress: str, *, draws: int) -> list[tuple[int, list[LatentErrors]]]:
        """(index, errors of its latents) of every clip that can be read, in order; ranks share the work.

        Args:
            draws: futures that are drawn of each clip, for the crps; 0: none.
        """
        model, found = self.future_model, []
        was_training = model.training
        # Dropout, if a predictor or a trained encoder has any, must not reach scores.
        model.eval()
        # One in so many: neighbours are often of one source, and as long.
        own = range(self.args.process_index, len(dataset), self.args.world_size)
        batches = [own[at : at + self.batch_size] for at in range(0, len(own), self.batch_size)]
        loader = torch.utils.data.DataLoader(dataset, batch_sampler=batches, **self._reading())  # type: ignore[arg-type]
        with ProgressBar(len(own), title=progress, unit="clip") as bar:
            for inputs in loader:
                batch: ClipBatch = inputs["batch"]
                self.parts.report.add(batch.skipped)
                found += self._errors_of(batch, dataset, draws=draws) if batch.items else []
                bar.update(len(batch.items) + len(batch.skipped))
        model.train(was_training)
        if self.args.world_size > 1:
            found = gather_object(found)
        return sorted(found, key=lambda one: one[0])

    @torch.no_grad()
    def _errors_of(self, batch: ClipBatch, dataset: ClipDataset, *, draws: int) -> list[tuple[int, list[LatentErrors]]]:
        model, predictor = self.future_model, self.future_model.predictor
        with self.compute_loss_context_manager():
            latents = model.encoded(batch.found, dataset.reader)
            asked = latents.context, latents.target.times_s, generators(batch.seeds)
            predicted = predictor.predict(*asked, asked=latents.target.observed)
            futures = predictor.futures(*asked, count=draws, asked=latents.target.observed) if draws else None
        # Intervals draw videos whole: windows of one share what makes it hard.
        names = [item.row.video for item in batch.items]
        of = latents.context, latents.target, names, predictor.normalizer
        rows = iter(latent_errors(predicted, *of, futures=futures))
        counts = latents.target.observed.sum(dim=1).tolist()
        return [(item.index, list(islice(rows, count))) for item, count in zip(batch.items, counts, strict=True)]

    def resume(self, checkpoint: Path) -> None:
        """Refuses other clips of a step than before: the steps that are done would be others."""
        position = json.loads((checkpoint / POSITION_FILE).read_text(encoding="utf-8"))
        # Of the log, lines after the checkpoint are of steps that are made again.
        self.train_log.lines = position["log_lines"]
        before, now = position["clips_per_step"], self.batches.shape.clips
        if before != now:
            shape = self.batches.shape
            raise ConfigError(
                f"an optimizer step has {now} clips (trainer.per_device_train_batch_size = {shape.batch_size}, "
                f"trainer.gradient_accumulation_steps = {shape.accumulation}, {shape.ranks} processes), and the run in "
                f"{self.args.output_dir} began with {before}; set them so that their product is {before}, or choose "
                "another run_name"
            )

    def save_extra(self, checkpoint: Path) -> None:
        """Writes how the steps until then were made."""
        if is_main_process():
            position = {"clips_per_step": self.batches.shape.clips, "log_lines": self.train_log.lines}
            write_json(checkpoint / POSITION_FILE, position)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves the weights and, beside them, the settings and the encoder that they go with."""
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            self.saved.write(Path(output_dir or str(self.args.output_dir)))


def _collate(items: list[Any]) -> dict[str, ClipBatch]:
    return {"batch": ClipBatch.of(items)}
