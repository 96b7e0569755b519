"""Fine-tuning of Qwen-VL models for video temporal grounding."""

import logging
import os
from typing import TYPE_CHECKING

from vtg.threads import share_cores

if TYPE_CHECKING:
    from vtg.evaluation.loaded_model import LoadedModel
    from vtg.training.sft.dataloader import TrainingBatches

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


def get_dataloader(
    *overrides: str,
    stage: str | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
    rank: int | None = None,
    world_size: int | None = None,
) -> "TrainingBatches":
    """The batches that `train_sft.py` would train on, for a loop of one's own: `for batch in get_dataloader(stage=…)`.

    Args:
        overrides: settings of train_sft.py, such as `data=mixture` or `model=qwen3_vl_4b`.
        stage: an experiment of conf/ by its name, as `molmo2_sft`; also `pretraining`, `sft` and `long` for Molmo2's.
        batch_size: samples of a batch (`batching=fixed`); None: batches as the settings plan them.
        num_workers: processes that read clips; None: `trainer.dataloader_num_workers`.
        rank, world_size: which part of each step's batches; None: as torch.distributed or a launcher says.

    Raises:
        ConfigError: settings, files or a model that cannot be.
        TooManyBadRows: while iterating, past `data.max_bad_share`.
    """
    from vtg.training.sft.dataloader import dataloader_of  # imports torch, which takes seconds

    given = {"batch_size": batch_size, "num_workers": num_workers, "rank": rank, "world_size": world_size}
    return dataloader_of(stage, overrides, **given)
