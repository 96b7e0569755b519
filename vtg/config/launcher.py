"""Which launcher started this process: under DeepSpeed's, training is with ZeRO-2 unless the user chooses otherwise."""

import os
from collections.abc import Mapping, Sequence

VARIABLE = "VTG_DEEPSPEED"
"""Environment variable from which conf/training.yaml takes the default of the group `deepspeed`; unset: `none`."""

# Not stage 3, which gathers the weights again in every forward and backward pass.
DEFAULT = "zero2"


def launched_by_deepspeed(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether `deepspeed SCRIPT` started this process.

    Its launch.py sets CROSS_RANK and CROSS_SIZE besides what torch wants. torchrun, and accelerate which uses it, set
    TORCHELASTIC_RUN_ID instead.
    """
    return {"CROSS_RANK", "CROSS_SIZE", "RANK"} <= environment.keys() and "TORCHELASTIC_RUN_ID" not in environment


def set_deepspeed_default(overrides: Sequence[str]) -> None:
    """Lets the command line's settings be composed with ZeRO-2 where DeepSpeed's launcher started this process.

    A choice of the group wins over this default, and so does a file, which brings a stage of its own.
    """
    brings_file = any(word.lstrip("+").startswith("deepspeed.file=") for word in overrides)
    if launched_by_deepspeed() and not brings_file:
        os.environ[VARIABLE] = DEFAULT
    else:
        os.environ.pop(VARIABLE, None)  # one that a parent process set is not about this run
