"""Resuming from a DeepSpeed checkpoint with another world size than its optimizer state was partitioned for.

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

from vtg.ranks import is_main_process

log = logging.getLogger(__name__)

FOLDER, LATEST = "universal", "latest_universal"
"""In a checkpoint: the state by parameter, and DeepSpeed's note of which folder holds it."""


def shards(checkpoint: Path) -> int:
    """World size that the optimizer state of a checkpoint is partitioned for; 0 of one that DeepSpeed did not save."""
    return len(list(checkpoint.glob("global_step*/*_optim_states.pt")))


@contextmanager
def resharded(checkpoint: Path, accelerator: Accelerator) -> Iterator[None]:
    """Inside, DeepSpeed engines load the optimizer state of a checkpoint of any world size.

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
    # Or the engine would look for the universal form in the checkpoints that this run saves itself.
    config["checkpoint"]["load_universal"] = False
    accelerator.wait_for_everyone()
    if is_main_process():
        _remove(checkpoint)


def restore_groups(optimizer: Any, settings: Sequence[dict[str, Any]]) -> None:
    """Gives every parameter group its own settings again, and every parameter its own count of steps.

    Args:
        settings: of each group of `optimizer`; the learning rate stays as the schedule has set it.
    """
    # After loading under ZeRO-3 all groups have the settings of the first: weight decay would reach norms and biases.
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update({key: value for key, value in own.items() if key != "lr"})
    # … and one tensor that counts the steps of all of them, to which a step would add once for each.
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
