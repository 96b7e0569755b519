"""`${vtg.accumulate:128}` of the configs: batches of each GPU that make an optimizer step of 128, however many GPUs.

A published batch size so stays what it is on one GPU, on eight, and after a resume with another number of them.
"""

import os

from omegaconf import OmegaConf


def _resolve(size: int) -> int:
    """`size` over the number of processes, of which each takes one at a time.

    Raises:
        ValueError: the processes do not share it equally.
    """
    # Set by torchrun and deepspeed before Python starts; without a launcher there is one process.
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if size % processes:
        raise ValueError(
            f"a step of {size} cannot be shared by {processes} processes; start a number that divides {size}, or give "
            "trainer.gradient_accumulation_steps=N"
        )
    return size // processes


OmegaConf.register_new_resolver("vtg.accumulate", _resolve, replace=True)
