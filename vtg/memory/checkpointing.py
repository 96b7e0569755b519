"""`trainer.gradient_checkpointing=auto`: as few activations are computed again as the memory of the GPU allows."""

import logging
import os
from dataclasses import replace

import torch

from vtg.config.derived import activation_checkpointing
from vtg.config.schema import SFTConfig
from vtg.memory.parameters import ParameterCounts, count, empty_model
from vtg.memory.proposals import GB, SHARE
from vtg.memory.training_load import TrainingSetup
from vtg.memory.workload import Workload

log = logging.getLogger(__name__)

WAYS = ("none", "selective", "full")
"""The fastest first."""


def training_bytes(workload: Workload, counts: ParameterCounts, setup: TrainingSetup) -> dict[str, int]:
    """What a training of the model that was counted takes at most with each of WAYS, by the estimate."""
    clips = workload.longest_clips()
    setups = {way: replace(setup, gradient_checkpointing=way) for way in WAYS}
    return {way: workload.estimate(counts, clips, one).training_bytes for way, one in setups.items()}


def settle_checkpointing(config: SFTConfig, *, time_tokens: int) -> None:
    """Replaces `trainer.gradient_checkpointing=auto` in the settings of a training by what it comes to on this machine.

    To be called before the Trainer's arguments are made: from then on ZeRO-3 would part the model that is counted.

    Args:
        time_tokens: how many temporal tokens training adds to the model.
    """
    if activation_checkpointing(config.trainer) != "auto":
        return
    chosen, why = "none", "there is no GPU whose memory would be short"
    if torch.cuda.is_available() and not config.trainer.get("use_cpu", False):
        # The least of the machine's: ranks that recompute unlike layers would wait for each other under ZeRO-3.
        memory = min(torch.cuda.get_device_properties(at).total_memory for at in range(torch.cuda.device_count()))
        workload, quantization = Workload(config), config.model.quantization
        setup = workload.training_setup(gpu=True, ranks=int(os.environ.get("WORLD_SIZE", "1")))
        model = empty_model(config.model.path, workload.weights_dtype(gpu=True))
        counts = count(model, config.parts, config.lora, quantization=quantization, time_tokens=time_tokens)
        needed = training_bytes(workload, counts, setup)
        chosen = choose(needed, memory)
        why = ", ".join(f"{way} {size / GB:.0f} GB" for way, size in needed.items()) + f" of {memory / GB:.0f}"
    log.info("trainer.gradient_checkpointing = auto: %s (%s)", chosen, why)
    config.trainer.pop("activation_checkpointing", None)
    config.trainer["gradient_checkpointing"] = chosen


def choose(needed: dict[str, int], memory: int) -> str:
    """The fastest of WAYS that fits into so many bytes with room left; `full` where none does."""
    return next((way for way in WAYS if needed[way] <= SHARE * memory), "full")
