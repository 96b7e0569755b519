"""What vtg's trainers have in common: evaluation by generation, and settings beside every checkpoint."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import Trainer
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from vtg.config.schema import ModelConfig, SFTConfig
from vtg.data.dataset import GroundingDataset, SkipReport
from vtg.evaluation.generate import predict, score
from vtg.models.checkpoint import Settings, save_settings
from vtg.training.guard import FiniteGuard, StepBatch, answering_remedies, out_of_memory, training_remedies
from vtg.training.run import StopOnSignal, is_main_process


class GroundingTrainer(Trainer):
    """A Trainer whose evaluation are greedy answers, scored in temporal IoU, and which says what a step failed on.

    Subclasses set, before they evaluate or save: `config`; `report`, which hears of what cannot be read; `base`, the
    model that an adapter stands on; and `stop`, which knows whether a signal ended the run.
    """

    config: SFTConfig
    report: SkipReport
    base: ModelConfig
    stop: StopOnSignal
    interval_s: float
    _shown: StepBatch | None = None
    _guard: FiniteGuard | None = None

    @property
    def guard(self) -> FiniteGuard:
        """What watches the losses of this run."""
        if self._guard is None:
            self._guard = FiniteGuard(self.config.on_nan)
        return self._guard

    def step_batch(self, inputs: Any) -> StepBatch:
        """What a micro-batch of the training loader holds."""
        raise NotImplementedError

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Trains.

        Raises:
            RunError: memory ran out, or a loss was not finite: says in which step, of which samples, and what to do.
        """
        try:
            return super().train(*args, **kwargs)
        except torch.OutOfMemoryError as error:
            remedies = training_remedies(self.config, self.args.per_device_train_batch_size)
            raise out_of_memory(error, f"step {self.state.global_step + 1}\n{self._shown}", remedies) from error
        finally:
            self.stop.let_go()

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """One micro-batch; remembers what it holds, for errors."""
        shown = self._shown = self.step_batch(inputs)
        return self.guard.add(super().training_step(model, inputs, num_items_in_batch), shown)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """The gradient norm; asked for once an optimizer step, before the update, which is left out here if it must."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if self.guard.leaves_out(norm, self.accelerator, step=self.state.global_step + 1):
            model.zero_grad(set_to_none=True)  # without gradients the optimizer does nothing
            return None
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds to a training loss how many updates were left out since the last one."""
        if "loss" in logs and (self.guard.skipped or self.config.on_nan == "skip"):
            logs["skipped_updates"] = float(self.guard.take_skipped())
        super().log(logs, start_time)

    def go_on(self, checkpoint: Path) -> None:
        """Takes up from a checkpoint what the Trainer does not restore itself; here that is nothing."""

    def begin_interval(self) -> None:
        """Begins what the next log entry counts: what was read and how long it took before is not training."""
        self.interval_s = time.monotonic()
        for dataset in (self.train_dataset, self.eval_dataset):
            if isinstance(dataset, GroundingDataset):
                dataset.provider.take_counts()

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Answers to the validation samples by generation, scored in temporal IoU."""
        began_s = time.monotonic()
        rows = self.answers(eval_dataset or self.eval_dataset, progress="validating")  # type: ignore[arg-type]
        metrics = {f"{metric_key_prefix}_{key}": float(value) for key, value in score(rows).items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        training_s = began_s - self.interval_s
        self.begin_interval()
        self.interval_s -= training_s
        return metrics

    def answers(
        self, dataset: GroundingDataset, *, progress: str, shuffled_videos: bool = False
    ) -> list[dict[str, Any]]:
        """Prediction rows for all samples that can be read, shared among the ranks, on every rank."""
        try:
            with self._whole_model() as model:
                found, skipped = predict(
                    model,
                    dataset,
                    batch_size=self.config.evaluation.batch_size,
                    max_new_tokens=self.config.evaluation.max_new_tokens,
                    rank=self.args.process_index,
                    world_size=self.args.world_size,
                    shuffled_videos=shuffled_videos,
                    progress=progress if is_main_process() else None,
                )
        except torch.OutOfMemoryError as error:
            raise out_of_memory(error, f"{progress}, by generation", answering_remedies(self.config)) from error
        if self.args.world_size > 1:
            found = dict(gather_object(list(found.items())))
            skipped = gather_object(skipped)
        self.report.add(skipped)
        return [found[index] for index in sorted(found)]

    @contextmanager
    def _whole_model(self) -> Iterator[Any]:
        """The model without what is wrapped around it; under ZeRO-3 gathered on every rank meanwhile, for ranks answer
        for different numbers of tokens.
        """
        if not is_deepspeed_zero3_enabled():
            yield self.accelerator.unwrap_model(self.model)
            return
        import deepspeed  # type: ignore[import-not-found]
        from trl.models.utils import add_hooks, remove_hooks

        with deepspeed.zero.GatheredParameters(list(self.model.parameters())):  # type: ignore[union-attr]
            if self.model_wrapped is self.model:
                yield self.model
                return
            engine: Any = self.model_wrapped
            remove_hooks(engine)
            yield self.accelerator.unwrap_model(self.model)
            add_hooks(engine)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            folder = output_dir or self.config.output_dir
            save_settings(Settings(self.base, self.config.video, self.config.task), folder)
