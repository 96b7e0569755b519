"""Batches of each GPU that make an optimizer step of a size that stays the same however many GPUs there are.

`${vtg.accumulate:128}` of the configs says it of batches, `batching.global_size` of samples: a published batch size so
stays what it is on one GPU, on eight, and after a resume with another number of them.
"""

import os

from omegaconf import OmegaConf

from vtg.config.schema import SFTConfig
from vtg.errors import ConfigError


def _resolve(size: int) -> int:
    """`size` over the number of processes, of which each takes one at a time.

    Raises:
        ValueError: the processes do not share it equally.
    """
    processes = _processes()
    if size % processes:
        raise ValueError(
            f"a step of {size} cannot be shared by {processes} processes; start a number that divides {size}, or give "
            "trainer.gradient_accumulation_steps=N"
        )
    return size // processes


def _processes() -> int:
    # Set by torchrun and deepspeed before Python starts; without a launcher there is one process.
    return int(os.environ.get("WORLD_SIZE", "1"))


def settle_global_size(config: SFTConfig) -> None:
    """Sets `trainer.gradient_accumulation_steps` to what makes `batching.global_size` samples, of batches of one size.

    Batches that are filled to a budget are known only once they are planned: `vtg.training.sft.batches` sets it then.

    Raises:
        ConfigError: no whole number of batches makes it, or it cannot be kept.
    """
    size, by = config.batching.global_size, config.batching.by
    if not size:
        return
    if size < 0:
        raise ConfigError(f"batching.global_size = {size}: must be 0 (trainer.gradient_accumulation_steps) or more")
    if by != "fixed":
        # A file may say itself how many batches make a step, which is checked before any is planned.
        if config.deepspeed.file is not None:
            raise ConfigError(
                f"batching.global_size = {size} with batching.by = {by!r} and deepspeed.file: a file is read before "
                "batches are planned; set deepspeed=zero2 or zero3, batching=fixed, or "
                "trainer.gradient_accumulation_steps"
            )
        return
    ranks, each = _processes(), int(config.trainer.get("per_device_train_batch_size", 8))  # 8: the Trainer's own
    if size % (ranks * each):
        below, above = size // (ranks * each) * ranks * each, -(-size // (ranks * each)) * ranks * each
        near = " or ".join(str(one) for one in (below, above) if one)
        raise ConfigError(
            f"batching.global_size = {size}: batches of {each} (trainer.per_device_train_batch_size) on {ranks} "
            f"{'process' if ranks == 1 else 'processes'} do not add up to it; set {near}, or another batch size"
        )
    config.trainer["gradient_accumulation_steps"] = size // (ranks * each)


OmegaConf.register_new_resolver("vtg.accumulate", _resolve, replace=True)
