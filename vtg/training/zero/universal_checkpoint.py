"""Going on from a DeepSpeed checkpoint with another number of processes than shared its optimizer state.

DeepSpeed's universal checkpoint holds that state by parameter instead of by process. It is written beside the shards,
loaded by all processes, and removed.
"""

import io
import logging
import shutil
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from vtg.training.processes import is_main_process

log = logging.getLogger(__name__)

FOLDER, LATEST = "universal", "latest_universal"
"""In a checkpoint: the state by parameter, and DeepSpeed's note of which folder holds it."""


def shards(checkpoint: Path) -> int:
    """How many processes share the optimizer state of a checkpoint; 0 of one that DeepSpeed did not save."""
    return len(list(checkpoint.glob("global_step*/*_optim_states.pt")))


@contextmanager
def resharded(checkpoint: Path, accelerator: Accelerator) -> Iterator[None]:
    """DeepSpeed engines that are made and loaded inside take the state of a checkpoint of any number of processes.

    Every process has to enter.
    """
    plugin: Any = accelerator.deepspeed_plugin
    config: dict[str, Any] = plugin.deepspeed_config
    if is_main_process():
        log.info(
            "sharing the optimizer state of %d processes out among %d", shards(checkpoint), accelerator.num_processes
        )
        _write_by_parameter(checkpoint)
    accelerator.wait_for_everyone()
    config["checkpoint"] = {**config.get("checkpoint", {}), "load_universal": True}
    yield
    config["checkpoint"]["load_universal"] = False
    accelerator.wait_for_everyone()
    if is_main_process():
        _remove(checkpoint)


def restore_groups(optimizer: Any, settings: Sequence[dict[str, Any]]) -> None:
    """Gives every parameter group what is its own again: its settings but the learning rate, which is the schedule's,
    and its count of steps.

    Under ZeRO-3 DeepSpeed gives all groups the settings of the first, so that weight decay would reach what must not
    decay, and one and the same tensor to count steps in, so that each step would count once for each of them.
    """
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update({key: value for key, value in own.items() if key != "lr"})
    for state in optimizer.state.values():
        if torch.is_tensor(state.get("step")):
            state["step"] = state["step"].clone()


def _write_by_parameter(checkpoint: Path) -> None:
    from deepspeed.checkpoint.ds_to_universal import main  # type: ignore[import-not-found]

    _remove(checkpoint)
    shards_folder = checkpoint / (checkpoint / "latest").read_text(encoding="utf-8").strip()
    settings = Namespace(
        input_folder=str(shards_folder),
        output_folder=str(checkpoint / FOLDER),
        num_extract_workers=1,  # more would fork this process, whose threads hold the process group
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        main(settings)


def _remove(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint / FOLDER, ignore_errors=True)
    (checkpoint / LATEST).unlink(missing_ok=True)
