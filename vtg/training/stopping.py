"""Signals that stop a run: the step is finished and a checkpoint saved first."""

import logging
import signal
from typing import Any

import torch
from transformers import TrainerCallback

log = logging.getLogger("vtg")


class StopOnSignal(TrainerCallback):
    """Ends training with a checkpoint at SIGTERM, SIGUSR1 (Slurm's warning, if asked for) or Ctrl-C.

    A second Ctrl-C ends it at once.

    Attributes:
        exit_code: 128 plus the signal's number, as a shell reports it; None without a signal.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._before: dict[int, Any] = {}

    def on_train_begin(self, args, state, control, **kwargs):
        for name in ("SIGTERM", "SIGINT", "SIGUSR1"):
            number = getattr(signal, name, None)  # Windows has no SIGUSR1
            if number is not None:
                self._before[number] = signal.signal(number, self._note)

    def on_step_end(self, args, state, control, **kwargs):
        # Asked at the same step on every rank: one that stopped alone would leave the others in a collective call.
        if self._any_rank():
            control.should_save = True
            control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs):
        self.restore_handlers()

    def restore_handlers(self) -> None:
        """Restores the handlers of before; called also where training ends by an error."""
        while self._before:
            signal.signal(*self._before.popitem())

    def _note(self, number: int, frame: Any) -> None:
        if self.exit_code is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.exit_code = 128 + number
        log.warning("%s: saving a checkpoint after this step, then stopping", signal.Signals(number).name)

    def _any_rank(self) -> bool:
        if not torch.distributed.is_initialized():
            return self.exit_code is not None
        # A signal may reach one rank alone.
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        code = torch.tensor(self.exit_code or 0, device=device)
        torch.distributed.all_reduce(code, op=torch.distributed.ReduceOp.MAX)
        self.exit_code = int(code) or None
        return self.exit_code is not None
