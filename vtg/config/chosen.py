"""Which settings the config files chosen on the command line set: `rl=r1` sets task.think, an experiment many."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

DEFAULTS_ONLY = ("model", "rl_model")
"""Groups whose files say what suits a size of model, and so give way to what a checkpoint of it was trained with."""


def chosen_settings(program: str, overrides: Sequence[str], folders: Sequence[str | Path]) -> set[str]:
    """Keys (`task.think`), and groups that are chosen whole (`video`), that the command line sets: by themselves, or
    in the config files of the groups that it chooses, `model` excepted. Hydra must be initialised.

    Args:
        program: name of the primary config, such as `rl`.
        overrides: the words of the command line.
        folders: where config files are looked up, the first that has a file wins.
    """
    loader: Any = GlobalHydra.instance().config_loader()
    tree = loader.compute_defaults_list(program, list(overrides), RunMode.RUN)
    choices, origins = tree.overrides.override_choices, tree.overrides.override_metadata
    named = {word.lstrip("+~").partition("=")[0].partition("@")[0] for word in overrides} - set(DEFAULTS_ONLY)
    files = {f"{group}/{choice}" for group, choice in choices.items() if group in named}
    files |= {f"{added.group}/{added.value}" for added in tree.overrides.append_group_defaults if added.group in named}
    # A chosen file may build on others (rl/r1 on rl/grpo): what these set is chosen with it.
    while True:
        more = {entry.config_path for entry in tree.defaults if entry.parent in files} - files
        if not more:
            break
        files |= more
    chosen_there = {group for group, origin in origins.items() if origin.containing_config_path in files}
    keys = {
        key
        for entry in tree.defaults
        if entry.config_path in files
        for key in _keys(_content(entry.config_path, folders), entry.package)
    }
    return named | keys | (chosen_there - set(DEFAULTS_ONLY))


def _content(path: str, folders: Sequence[str | Path]) -> dict[str, Any]:
    files = [Path(folder) / f"{path}.yaml" for folder in folders]
    content: Any = OmegaConf.to_container(OmegaConf.load(next(file for file in files if file.is_file())))
    return {key: value for key, value in content.items() if key != "defaults"} if content else {}


def _keys(content: Any, prefix: str) -> set[str]:
    """`video.fps` for every value in a mapping of mappings that stands at `prefix`."""
    if not isinstance(content, dict):
        return {prefix}
    return {inner for key, value in content.items() for inner in _keys(value, f"{prefix}.{key}" if prefix else key)}
