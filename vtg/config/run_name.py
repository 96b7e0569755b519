"""`${vtg.run_name:sft}` of the configs: what a run is called that was given no name.

The program, the model, the data set, the annotation file where the group is one for any file, and the experiment:
`sft_tiny_demo`, `rl_qwen3_vl_4b_my_dataset`, `sft_tiny_jsonl_charades`, `sft_tiny_demo_smoke`, and
`rl_sft_tiny_demo_demo_rl` of a run that starts from the run sft_tiny_demo. So runs of other models and data sets do not
meet in one folder.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

# Choices of `data` that say nothing of the rows: the annotation file's name is added.
FOR_ANY_FILE = ("jsonl", "real")

# Environment variable with the sweep's name: its runs share a folder even where they sweep over what names a run.
SWEEP = "VTG_SWEEP_NAME"


def name_of(kind: str, *, choices: Mapping[str, Any], annotation_file: str | None, model_path: str | None) -> str:
    """The name of a run. What learns is a model, or a predictor of an encoder's latents.

    Args:
        kind: of training.
        choices: group → the choice that was made.
        model_path: as the command line gives it, if it does.
    """
    data = choices.get("data")
    # A program has one of both groups.
    learner = choices.get("model") or choices.get("encoder")
    parts = [kind, _model(learner, model_path), choices.get("predictor"), data]
    if data in FOR_ANY_FILE and annotation_file:
        parts.append(Path(annotation_file).stem)
    parts.append(choices.get("experiment"))
    return "_".join(_slug(part) for part in parts if part)


def _model(choice: Any, path: str | None) -> str | None:
    """The group's name, unless the command line names another model: a hub name, a folder, or a run to start from."""
    if path is None or path == "tiny":
        return choice
    folder = Path(path)
    if folder.name == "best":
        folder = folder.parent
    elif folder.name.startswith("checkpoint-"):
        return f"{folder.parent.name}_{folder.name}"
    return folder.name.lower()


def _slug(text: Any) -> str:
    return re.sub(r"[^\w.]+", "_", str(text)).strip("_.") or "x"


def _given(overrides: Sequence[str], key: str) -> str | None:
    values = [word.partition("=")[2].strip("'\"") for word in overrides if word.lstrip("+").partition("=")[0] == key]
    return values[-1] if values else None


def _resolve(kind: str, *, _root_: DictConfig) -> str:
    own = OmegaConf.select(_root_, "hydra")
    if own is None and not HydraConfig.initialized():
        return kind  # composed for a command that starts no run: no choices are known
    hydra = own if own is not None else HydraConfig.get()
    if own is None and hydra.mode == RunMode.MULTIRUN and os.environ.get(SWEEP):
        return os.environ[SWEEP]
    name = name_of(
        kind,
        choices=hydra.runtime.choices,
        annotation_file=OmegaConf.select(_root_, "data.annotation_file"),
        model_path=_given(hydra.overrides.task, "encoder.path" if kind == "latents" else "model.path"),
    )
    if own is not None and hydra.mode == RunMode.MULTIRUN:
        os.environ[SWEEP] = name  # asked for the sweep's own folder, before its runs begin
    return name


OmegaConf.register_new_resolver("vtg.run_name", _resolve, replace=True)
