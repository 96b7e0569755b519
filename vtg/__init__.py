"""Fine-tuning of Qwen-VL models for video temporal grounding."""

import logging
import os
from typing import TYPE_CHECKING

from vtg.threads import share_cores

if TYPE_CHECKING:
    from vtg.evaluation.loaded_model import LoadedModel

__version__ = "0.2.0"

share_cores()  # before any module here imports torch
# PEFT imports bitsandbytes where it is installed, which then asks for a package that would fetch code from the hub.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def load(
    checkpoint: str | os.PathLike[str], *overrides: str, device: str | None = None, dtype: str | None = None
) -> "LoadedModel":
    """A model to ask when something happens: `vtg.load("outputs/sft_tiny_demo").ground("a.mp4", "a man sits down")`.

    Args:
        checkpoint: a run directory (its best/), a checkpoint or model folder, a name on the hub, or `tiny`.
        overrides: settings of `python -m vtg.predict`, such as `settings.video.fps=1` or `max_new_tokens=96`.
        device: `cpu`, `cuda` or `cuda:1`; None: the GPU where there is one.
        dtype: `auto`, `float32`, `bfloat16` or `float16` (`settings.model.dtype`); None: what fits the device.

    Raises:
        ConfigError: the checkpoint is not there or cannot be loaded, an override is no setting,
            or there is no such device.
        RunError: the weights are truncated, or an adapter does not fit its base model.
    """
    from vtg.evaluation.loaded_model import load_model_of  # imports torch, which takes seconds

    return load_model_of(os.fspath(checkpoint), overrides, device=device, dtype=dtype)
