"""What all trainers share: whole checkpoints, resuming, stopping, and errors that name the step."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints

from vtg.data.skip_report import SkipReport
from vtg.models.activation_checkpointing import keep_last_half
from vtg.models.loading import whole_files
from vtg.private_names import check_private_names
from vtg.training.best_weights import SaveBest
from vtg.training.checkpoint_saving import STAGING, explain_write_errors, keep_best, rename_into_place
from vtg.training.guard import FiniteGuard, StepBatch, out_of_memory
from vtg.training.part_rates import PartRates
from vtg.training.progress import Progress, TrainLog
from vtg.training.stopping import StopOnSignal
from vtg.training.zero.zero_trainer import ZeroTrainer


@dataclass(frozen=True)
class StepParts:
    """What every trainer is given by its run, besides what the Hugging Face Trainer takes.

    Attributes:
        on_nan: what a loss or gradient that is not finite does, as the setting of that name.
        checkpointing: which layers compute activations again: none, selective (half of them) or full.
        remedies: what lowers the memory of a training step, the least harm first.
        own_rates: learning rates and weight decays of the model's parts.
        report: to which samples that cannot be read are added.
    """

    on_nan: str
    checkpointing: str
    remedies: Sequence[str]
    own_rates: PartRates
    report: SkipReport


class RunTrainer(ZeroTrainer):
    """A Trainer that saves whole checkpoints, resumes exactly, stops at signals, and names the samples of a step that
    fails.

    Attributes:
        parts: what the run gives it.
        guard: checks the losses of this run.
        stop: knows whether a signal ended the run.
        interval_s: `time.monotonic()` where what the next log entry counts began.
        resumed_steps: optimizer steps done before, counted in steps of the present world size, where a checkpoint of
            another one is resumed; None otherwise.
        outdated: checkpoints of more steps than `resumed_steps`, to be replaced as training reaches them.
        private_names_of: libraries whose private names this trainer overrides or calls, whatever the settings.
    """

    interval_s: float
    _current_batch: StepBatch | None = None
    resumed_steps: int | None = None
    outdated: Sequence[Path] = ()
    private_names_of: frozenset[str] = frozenset({"transformers", "peft"})
    _saves_to: str | None = None

    def __init__(self, *, args: TrainingArguments, parts: StepParts, **kwargs: Any) -> None:
        # First: an override of a method that a new release renamed would never be called, without an error.
        plugins = frozenset({"trl", "deepspeed"}) if args.deepspeed else frozenset()
        check_private_names(self.private_names_of | plugins)
        self.parts, self.guard, self.stop = parts, FiniteGuard(parts.on_nan), StopOnSignal()
        self.own_rates = parts.own_rates
        self.train_log = TrainLog(Path(str(args.output_dir)) / "train_log.jsonl")
        super().__init__(args=args, **kwargs)
        # Progress prints the losses; the Trainer's own printer would print each entry a second time.
        self.remove_callback(PrinterCallback)
        for callback in (_Hooks(self), SaveBest(), Progress(), self.train_log, self.stop):
            self.add_callback(callback)

    def step_batch(self, inputs: Any) -> StepBatch:
        """The samples and tokens of a micro-batch of the training loader."""
        raise NotImplementedError

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Trains.

        Raises:
            RunError: memory ran out, or a loss was not finite: says in which step, of which samples, and what to do.
        """
        try:
            return super().train(*args, **kwargs)
        except torch.OutOfMemoryError as error:
            step = f"step {self.state.global_step + 1}\n{self._current_batch}"
            raise out_of_memory(error, step, self.parts.remedies) from error
        finally:
            self.stop.restore_handlers()
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, Progress):
                    callback.close()

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """One micro-batch; remembers what it holds, for errors."""
        batch = self._current_batch = self.step_batch(inputs)
        return self.guard.add(super().training_step(model, inputs, num_items_in_batch), batch)

    def compute_loss_context_manager(self) -> Any:
        """What the Trainer computes each loss in."""
        if self.parts.checkpointing == "selective":
            # Each time, and after what training_step does first: sampling switches checkpointing off and on again, in
            # all layers.
            keep_last_half(self.model)
        return super().compute_loss_context_manager()

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """The gradient norm; skips the update of a step whose losses or gradients are not finite."""
        # The Trainer asks for it once an optimizer step: the one place between the gradients and the update.
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if self.guard.skips_update(norm, self.accelerator, step=self.state.global_step + 1):
            model.zero_grad(set_to_none=True)  # without gradients the optimizer does nothing
            return None
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs, with `skipped_updates` since the last entry beside a training loss."""
        if "loss" in logs and (self.guard.skipped or self.parts.on_nan == "skip"):
            logs["skipped_updates"] = float(self.guard.take_skipped())
        super().log(logs, start_time)

    def resume(self, checkpoint: Path) -> None:
        """Restores from a checkpoint what the Trainer does not; here that is nothing."""

    def planned_steps(self) -> int:
        """Optimizer steps of the whole run, those before a resume included."""
        raise NotImplementedError

    def recount_steps(self, checkpoint: Path, steps: int) -> None:
        """Resumes from a checkpoint as from step `steps`, because its world size or batches were others.

        Twice the ranks take half the steps for the same samples: epochs, schedule and `max_steps` count those.
        """
        self.resumed_steps = steps
        by_step = {int(folder.name.rpartition("-")[2]): folder for folder in checkpoint.parent.glob("checkpoint-*")}
        self.outdated = [folder for step, folder in by_step.items() if step >= steps]

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        epoch_and_batch = super()._init_training_state(*args, **kwargs)
        if self.resumed_steps is not None:
            self.state.global_step = self.resumed_steps
            self.state.best_global_step = None  # `best_model_checkpoint` tells where it is
        return epoch_and_batch

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with whole_files(path=resume_from_checkpoint, folder=resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def begin_interval(self) -> None:
        """Starts the clock and counts of the next log entry, so that evaluation does not count as training."""
        self.interval_s = time.monotonic()

    # A checkpoint is written to .saving, and renamed once all ranks are done: a kill leaves no half of one.

    def save_extra(self, checkpoint: Path) -> None:
        """Writes what a subclass needs to resume into a checkpoint; every rank calls it."""

    def _get_output_dir(self, trial: Any) -> str:
        return self._saves_to or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Saves a checkpoint, whole or not at all.

        Raises:
            RunError: it cannot be written; the checkpoints before it stay as they were.
        """
        run, name = Path(str(self.args.output_dir)), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        staging = run / STAGING
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)  # the half of one that a kill or a full disk left
        self.accelerator.wait_for_everyone()
        with explain_write_errors(run, name):
            self._saves_to = str(staging)
            try:
                super()._save_checkpoint(model, trial)
                self.save_extra(staging / name)
            finally:
                self._saves_to = None
            self.find_best(name)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                before = [old for old in self.outdated if str(old) == self.state.best_model_checkpoint]
                if before:
                    self.state.best_model_checkpoint = str(keep_best(before[0], run))
                # Written again: the Trainer's own has the best checkpoint under the name of the staging folder.
                self.state.save_to_json(str(staging / name / TRAINER_STATE_NAME))
                rename_into_place(staging / name, run / name)
                best, limit = self.state.best_model_checkpoint, self.args.save_total_limit
                rotate_checkpoints(str(run), limit, best, use_mtime=True)
                # Of the former world size, with higher numbers: without their state nothing resumes from them.
                for old in self.outdated:
                    if old.name != name:
                        (old / TRAINER_STATE_NAME).unlink(missing_ok=True)
                self.outdated = ()
        self.accelerator.wait_for_everyone()

    def find_best(self, being_saved: str | None = None) -> None:
        """Sets the path of the best checkpoint to where it is, or will be once renamed.

        Args:
            being_saved: name of the checkpoint that is in the staging folder.
        """
        # The path in the state is of the staging folder, or of where the run directory was before it was moved.
        if self.state.best_global_step:
            best = Path(str(self.args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.best_global_step}"
            if best.name == being_saved or best.is_dir():
                self.state.best_model_checkpoint = str(best)


class _Hooks(TrainerCallback):
    """Public callbacks of the Trainer: settings that may change on a resume take effect, and the guard is checked."""

    def __init__(self, trainer: RunTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Applies this start's settings: learning rate, and the steps between logs, validations and checkpoints."""
        # A checkpoint brings its own of all of these, and would silently override what the user has changed.
        state.compute_steps(args, state.max_steps)
        schedule, steps = kwargs.get("lr_scheduler"), self.trainer.resumed_steps
        if not state.global_step or not isinstance(schedule, LambdaLR):
            return
        rates = self.trainer.part_rates
        schedule.base_lrs = list(rates) or [args.learning_rate] * len(schedule.base_lrs)
        for at, group in enumerate(kwargs["optimizer"].param_groups):
            group["initial_lr"] = rates[at] if rates else args.learning_rate
        schedule.last_epoch = (schedule.last_epoch if steps is None else steps) - 1
        schedule.step()  # the schedule's rate of that step, of as many steps as there are now

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.guard.check_was_called(state.global_step + 1)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.guard.check_was_called(state.global_step)
