"""Faults for the tests of training: hooks that make the real model run out of memory, or give a NaN.

As a program: `python faults.py RANK AT,AT… OVERRIDE…` is `train_sft.py` with a NaN in these of the forwards of that
rank that are trained on.
"""

import os
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


if __name__ == "__main__":
    rank, at, *words = sys.argv[1:]
    sys.argv = ["train_sft.py", *words]
    with in_training_forwards(nan(*map(int, at.split(",") if os.environ["RANK"] == rank else []))):
        from vtg.sft import main

        main()
