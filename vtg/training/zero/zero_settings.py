"""DeepSpeed's JSON settings from the `deepspeed` group: what `deepspeed=zero2` and its like mean.

No optimizer and no scheduler is set here, so that the Trainer's own stay: its parameter groups and its learning rates.
"""

import json
import os
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtg.config.model_settings import DeepspeedConfig
from vtg.errors import ConfigError

if TYPE_CHECKING:  # this is also read where settings are checked, before transformers loads
    from transformers import TrainingArguments

AUTO = ("train_micro_batch_size_per_gpu", "train_batch_size", "gradient_accumulation_steps", "gradient_clipping")
"""Values that the Trainer fills in from its own."""

STAGES = (0, 1, 2, 3)

GATHER = "stage3_gather_16bit_weights_on_model_save"
"""Whether a checkpoint of ZeRO-3 holds the whole model; without it, one rank's part."""

# False: DeepSpeed would demand its own CPU Adam, compiled at the first start, in place of the Trainer's AdamW.
FORCE_ITS_OWN = "zero_force_ds_cpu_optimizer"
"""Whether DeepSpeed refuses the Trainer's optimizer where its state is on the host."""


def deepspeed_settings(config: DeepspeedConfig) -> dict[str, Any] | None:
    """What TrainingArguments take as `deepspeed`; None without DeepSpeed.

    Raises:
        ConfigError: settings that do not go together, a file that is no JSON object, or one that brings an optimizer;
            or DeepSpeed is not installed.
    """
    if (config.stage or config.file is not None) and find_spec("deepspeed") is None:
        raise ConfigError("deepspeed: is not installed; pip install deepspeed, or set deepspeed=none")
    if config.file is not None:
        return _read(config)
    if config.stage not in STAGES:
        raise ConfigError(f"deepspeed.stage = {config.stage}: must be one of {', '.join(map(str, STAGES))}")
    if config.offload_parameters and config.stage != 3:
        raise ConfigError(f"deepspeed.offload_parameters = true: needs deepspeed.stage = 3, not {config.stage}")
    if config.offload_optimizer and not config.stage:
        raise ConfigError("deepspeed.offload_optimizer = true: needs a stage; set deepspeed=zero2_offload")
    if not config.stage:
        return None
    # Gradients are sent while the backward pass goes on, from one block, so that they leave no holes in the memory.
    zero: dict[str, Any] = {"stage": config.stage, "overlap_comm": True, "contiguous_gradients": True}
    if config.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    if config.stage == 3:
        zero[GATHER] = True
        if config.offload_parameters:
            zero["offload_param"] = {"device": "cpu", "pin_memory": True}
    return {
        **dict.fromkeys(AUTO, "auto"),
        "zero_optimization": zero,
        FORCE_ITS_OWN: False,
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
    }


def set_accumulation(arguments: "TrainingArguments", steps: int) -> None:
    """So many batches of each rank make an optimizer step, for the Trainer and, where it runs, for DeepSpeed.

    To be called before the Trainer is made: DeepSpeed is told when its engine begins.
    """
    arguments.gradient_accumulation_steps = steps
    # Of what was "auto" the arguments made numbers when they were made themselves, before any batch was planned.
    if arguments.deepspeed:
        settings = arguments.hf_deepspeed_config.config
        settings["gradient_accumulation_steps"] = steps
        settings["train_batch_size"] = arguments.world_size * arguments.per_device_train_batch_size * steps


def set_single_process_launch() -> None:
    """Sets the environment of a launcher, where there is none, for a single process.

    DeepSpeed starts a process group even of one process, and without these variables looks for MPI.
    """
    if "RANK" in os.environ:
        return
    # A port that the system chose: two runs on one machine would both take a fixed one.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    alone = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in alone.items()})


def _read(config: DeepspeedConfig) -> dict[str, Any]:
    """The settings of `deepspeed.file`."""
    if config.stage:
        raise ConfigError("deepspeed.file and deepspeed.stage are both set; keep one of them")
    path = Path(str(config.file))
    if not path.is_file():
        raise ConfigError(f"deepspeed.file = {config.file!r}: no such file (looked in {Path.cwd()}); check the path")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ConfigError(f"deepspeed.file = {config.file!r}: is no JSON ({error})") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"deepspeed.file = {config.file!r}: must hold a JSON object")
    for block in ("optimizer", "scheduler"):
        if block in settings:
            raise ConfigError(
                f"deepspeed.file = {config.file!r}: has a block {block!r}, which would take the place of trainer.* "
                "(its parameter groups, learning rates and schedule); remove the block and set trainer.*"
            )
    zero = settings.get("zero_optimization", {})
    # DeepSpeed's default is false: found here rather than at the first checkpoint.
    if zero.get("stage") == 3 and not zero.get(GATHER):
        raise ConfigError(
            f"deepspeed.file = {config.file!r}: zero_optimization.{GATHER} must be true, or checkpoints would hold no "
            "model; add it"
        )
    return {FORCE_ITS_OWN: False} | settings
