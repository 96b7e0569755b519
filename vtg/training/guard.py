"""Errors of a training step: out of memory, and losses or gradients that are not finite.

Losses are checked once an optimizer step, for all its micro-batches and all ranks together, where the gradient norm is
known and the weights are still those before the update. (DeepSpeed has made its update by then.) The Trainer's public
callbacks check in turn that the guard was called: a Trainer that no longer did would train on NaN in silence.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object

from vtg.config.derived import activation_checkpointing
from vtg.config.schema import SFTConfig
from vtg.config.task_settings import EvaluationConfig
from vtg.config.video_settings import VideoConfig
from vtg.data.grounding_dataset import BatchRow
from vtg.errors import JointRunError, RunError

log = logging.getLogger(__name__)

# float16 starts from a loss scale of 2^16 and halves it at each overflow, so 16 skips in a row can be healthy.
MAX_SKIPPED = 20
"""Updates skipped in a row; one more ends the run."""

# Enough to look at by hand; a packed batch of hundreds would bury the message's advice.
NAMED = 8
"""Samples that a message names."""


@dataclass(frozen=True)
class StepBatch:
    """A micro-batch as errors name it.

    Attributes:
        rows: its samples; there may be none.
        slots: tokens that are computed for it, padding and completions included.
    """

    rows: tuple[BatchRow, ...]
    slots: int

    def __str__(self) -> str:
        if not self.rows:
            return "a batch without samples"
        longest = max(self.rows, key=lambda row: row.tokens)
        return (
            f"batch: {len(self.rows)} samples of {sum(row.tokens for row in self.rows)} tokens, {self.slots} computed\n"
            f"samples: {_named([row.qid for row in self.rows])}\n"
            f"longest clip: {longest.qid} ({longest.video}, {longest.duration_s:.1f} s, {longest.tokens} tokens)"
        )


def out_of_memory(error: torch.OutOfMemoryError, what: str, remedies: Sequence[str]) -> RunError:
    """The error for an allocation that failed, with what to change.

    Args:
        what: what was being done, and to which samples.
        remedies: what to change, the first to try first.
    """
    first_line = str(error).strip().splitlines()[0][:300]  # the rest is torch's table of its allocator
    numbered = "\n".join(f"  {at}. {remedy}" for at, remedy in enumerate(remedies, 1))
    return RunError(
        f"out of memory in {what}\ntorch: {first_line}\nlower, in this order:\n{numbered}\n"
        "python -m vtg.doctor look=memory, with the same overrides, tells what a step takes and what fits"
    )


ANOTHER_RUN = ", in a run of another name"
"""Follows a remedy that decides what is learned: a run with checkpoints does not resume with another value of it."""


def training_remedies(config: SFTConfig) -> list[str]:
    """What lowers the memory of a training step; what is in force already is left out."""
    # The least harm first: smaller batches and recomputation change nothing that is learned, fewer pixels do.
    batching, trainer = config.batching, config.trainer
    by_budget = {
        "tokens": f"batching.target_batch_tokens (now {batching.target_batch_tokens or 'as many as the longest clip'})",
        "duration": f"batching.target_batch_duration (now {batching.target_batch_duration:g})",
    }
    by_rows = f"trainer.per_device_train_batch_size (now {trainer.get('per_device_train_batch_size', 8)})"
    remedies = [by_budget.get(batching.by, by_rows)]
    if activation_checkpointing(trainer) != "full":
        remedies.append("set trainer.gradient_checkpointing=full")
    remedies.append(f"video.total_pixels (now {config.video.total_pixels}){ANOTHER_RUN}")
    if not config.lora.enabled:
        remedies.append(f"set lora=default{ANOTHER_RUN}")
    if config.deepspeed.file is None and config.deepspeed.stage < 3:
        remedies.append(f"set deepspeed=zero3 on several GPUs, or deepspeed=zero2_offload{ANOTHER_RUN}")
    elif not config.deepspeed.offload_parameters:
        remedies.append(f"set deepspeed=zero3_offload{ANOTHER_RUN}")
    return remedies


def answering_remedies(evaluation: EvaluationConfig, video: VideoConfig) -> list[str]:
    """What lowers the memory of answering by generation."""
    return [
        f"evaluation.batch_size (now {evaluation.batch_size})",
        f"video.total_pixels (now {video.total_pixels}){ANOTHER_RUN}",
    ]


@dataclass
class FiniteGuard:
    """Checks once an optimizer step whether losses and gradients are finite, and skips the update or ends the run.

    Attributes:
        on_nan: `stop` or `skip`.
        skipped: updates skipped since the last log entry.
        in_a_row: updates skipped since the last one that was made.
    """

    on_nan: str
    skipped: int = 0
    in_a_row: int = 0
    _window: list[tuple[torch.Tensor, StepBatch]] = field(default_factory=list)
    _last: torch.Tensor | None = None

    def add(self, loss: torch.Tensor, batch: StepBatch) -> torch.Tensor:
        """Notes the loss of a micro-batch; returns it, or the last finite one, so that the logged mean is finite."""
        # All on the device: a look at each loss from Python would make the GPU wait at every micro-batch.
        self._window.append((loss, batch))
        last = torch.zeros_like(loss) if self._last is None else self._last
        self._last = torch.where(torch.isfinite(loss), loss, last)
        return self._last

    def skips_update(self, grad_norm: Any, accelerator: Accelerator, *, step: int) -> bool:
        """Whether to skip the update of this step, the same on every rank; every rank has to call it.

        Args:
            grad_norm: of all gradients, before clipping; None where it is not known.

        Raises:
            JointRunError: a loss or the norm is not finite and the run is to end; or `add` was not called for the step.
        """
        window, self._window = self._window, []
        if not window:
            raise _unguarded(step, "training_step")
        bad = ~torch.isfinite(torch.stack([loss.float() for loss, _ in window]))
        norm = None if grad_norm is None else torch.as_tensor(grad_norm, device=bad.device).float()
        is_bad_norm = norm is not None and not torch.isfinite(norm)
        flags = torch.stack([bad.any(), torch.as_tensor(is_bad_norm, device=bad.device)]).float()
        is_bad_loss, is_bad_norm = (accelerator.reduce(flags, reduction="sum") > 0).tolist()  # type: ignore[operator]
        if not is_bad_loss and not is_bad_norm:
            self.in_a_row = 0
            return False
        self.skipped += 1
        self.in_a_row += 1
        # float16: gradients that overflow under a finite loss are how the loss scale is found, and no fault.
        scaled = accelerator.scaler is not None and not is_bad_loss
        stops = self.on_nan == "stop" and not scaled
        if stops or self.in_a_row > MAX_SKIPPED:
            named = [
                batch for (_, batch), is_bad in zip(window, bad.tolist(), strict=False) if is_bad or not is_bad_loss
            ]
            # An error of all ranks together: the message names the samples of each, and none waits for another.
            everywhere = gather_object([(accelerator.process_index, named)])
            can_skip = accelerator.distributed_type != DistributedType.DEEPSPEED
            raise JointRunError(self._message(step, is_bad_loss, everywhere, can_skip=can_skip))
        log.warning(
            "step %d: %s is not finite: its update is left out", step, "a loss" if is_bad_loss else "the gradient"
        )
        return accelerator.scaler is None  # a scaler skips the update itself, and lowers its scale

    def check_was_called(self, step: int) -> None:
        """Checks, before and after the update of a step, that `skips_update` has seen its losses.

        Raises:
            JointRunError: it has not, because the Trainer no longer calls what vtg overrides.
        """
        if self._window:
            raise _unguarded(step, "_get_grad_norm")

    def take_skipped(self) -> int:
        """The number of updates skipped since the last call."""
        count, self.skipped = self.skipped, 0
        return count

    def _message(
        self, step: int, is_bad_loss: bool, named: Sequence[tuple[int, list[StepBatch]]], *, can_skip: bool
    ) -> str:
        ranks = [rank for rank, batches in named if batches]
        qids = [row.qid for _, batches in named for batch in batches for row in batch.rows]
        where = f" on rank {', '.join(map(str, ranks))}" if len(named) > 1 else ""
        what = f"the loss is not finite{where}" if is_bad_loss else "the loss is finite, its gradient is not"
        often = f" (the last of {self.in_a_row} updates in a row that were left out)" if self.in_a_row > 1 else ""
        skip = ", or set on_nan=skip to leave out such updates" if can_skip and self.on_nan == "stop" else ""
        return (
            f"step {step}: {what}{often}\nsamples: {_named(qids)}\n"
            "try a lower trainer.learning_rate or trainer.max_grad_norm; trainer.bf16=true instead of trainer.fp16; or "
            f"look at these samples (python -m vtg.validate --probe){skip}. The same command goes on from the last "
            "checkpoint"
        )


def _unguarded(step: int, name: str) -> JointRunError:
    return JointRunError(
        f"step {step}: nothing asked whether its loss and gradient are finite: the Trainer of transformers "
        f"{transformers.__version__} does not call {name} as vtg needs it to; install the versions that were tried: "
        "pip install -e . -c env/constraints.txt"
    )


def _named(qids: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(qids))
    more = f" and {len(distinct) - NAMED} more" if len(distinct) > NAMED else ""
    return ", ".join(distinct[:NAMED]) + more
