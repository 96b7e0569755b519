"""Faults for the tests of training: hooks that make the real model run out of memory, give a NaN, or be killed.

As a program: `python faults.py nan|killed RANK AT,AT… sft|rl OVERRIDE…` is `train_sft.py` or `train_rl.py` with that
fault in these of the forwards of that rank that are trained on.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_hook


@contextmanager
def in_training_forwards(fault: Callable[[int, Any], Any]) -> Iterator[None]:
    """Calls `fault(n, output)` after the n-th forward of the backbone that is trained on, from 1."""
    done = 0

    def hook(module: Any, args: Any, output: Any) -> Any:
        nonlocal done
        if type(module).__name__ == "Qwen3VLModel" and module.training and torch.is_grad_enabled():
            done += 1
            return fault(done, output)

    handle = register_module_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def no_memory(at: int) -> Callable[[int, Any], None]:
    """Runs out of memory in forward `at`."""

    def fault(done: int, output: Any) -> None:
        if done == at:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    return fault


def nan(*at: int) -> Callable[[int, Any], Any]:
    """Makes the hidden states of these forwards NaN."""

    def fault(done: int, output: Any) -> Any:
        if done in at:
            output.last_hidden_state = output.last_hidden_state * float("nan")
        return output

    return fault


def killed(at: int) -> Callable[[int, Any], None]:
    """Kills the process in forward `at`, as the system does when memory runs out."""

    def fault(done: int, output: Any) -> None:
        if done == at:
            os.kill(os.getpid(), signal.SIGKILL)

    return fault


if __name__ == "__main__":
    kind, rank, at, script, *words = sys.argv[1:]
    sys.argv = [f"train_{script}.py", *words]
    here = [int(one) for one in at.split(",") if os.environ["RANK"] == rank]
    with in_training_forwards((nan if kind == "nan" else killed)(*here) if here else lambda done, output: None):
        if script == "sft":
            from vtg.sft import main
        else:
            from vtg.rl import main
        main()
