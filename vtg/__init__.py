"""Fine-tuning of Qwen-VL models for video temporal grounding."""

import os
from typing import TYPE_CHECKING

from vtg.threads import share_cores

if TYPE_CHECKING:
    from vtg.evaluation.loaded_model import LoadedModel

__version__ = "0.2.0"

share_cores()  # before any module here imports torch


def load(checkpoint: str | os.PathLike[str], *overrides: str) -> "LoadedModel":
    """A model to ask when something happens: `vtg.load("outputs/sft_tiny_demo").ground("a.mp4", "a man sits down")`.

    Args:
        checkpoint: a run directory (its best/), a checkpoint or model folder, a name on the hub, or `tiny`.
        overrides: settings of `python -m vtg.predict`, such as `settings.video.fps=1` or `max_new_tokens=96`.

    Raises:
        ConfigError: the checkpoint is not there or cannot be loaded, or an override is no setting.
    """
    from vtg.evaluation.loaded_model import load_model_of  # imports torch, which takes seconds

    return load_model_of(os.fspath(checkpoint), overrides)
