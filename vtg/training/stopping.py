"""How a run is stopped from outside: it saves first."""

import logging
import signal
from typing import Any

import torch
from transformers import TrainerCallback

log = logging.getLogger("vtg")


class StopOnSignal(TrainerCallback):
    """SIGTERM, SIGUSR1 (which Slurm sends before the time is up) or Ctrl-C: the step is finished, a checkpoint saved,
    and training ends; a second Ctrl-C ends it at once.

    `exit_code` is then 128 plus the signal's number, else None.
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
        if self._any_rank():
            control.should_save = True
            control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs):
        self.restore_handlers()

    def restore_handlers(self) -> None:
        """Signals are handled as before; also where training ends by an error."""
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
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        code = torch.tensor(self.exit_code or 0, device=device)
        torch.distributed.all_reduce(code, op=torch.distributed.ReduceOp.MAX)
        self.exit_code = int(code) or None
        return self.exit_code is not None
