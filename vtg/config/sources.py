"""The sources of a mixture: each is filled in from the data set of conf/data/ that it names, and checked."""

import difflib
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from vtg.config.data_settings import DataConfig, RowsConfig, SourceConfig
from vtg.errors import ConfigError

NAME = r"[A-Za-z][\w-]*"
"""Names of sources and groups: they stand in keys of the log."""

OF_ROWS = tuple(entry.name for entry in fields(RowsConfig))
OF_MIXTURES = ("weights", "groups", "epoch_samples", "epoch_source")


def fill_sources(cfg: DictConfig) -> DictConfig:
    """The composed config with what `preset` says in every source of `data.sources` that names one.

    Raises:
        ConfigError: there is no such data set, or it is a mixture itself.
    """
    sources = OmegaConf.select(cfg, "data.sources")
    if not isinstance(sources, DictConfig) or not sources:
        return cfg
    filled = {
        str(name): _filled(str(name), given, cfg)
        for name, given in sources.items()
        if isinstance(given, DictConfig) and given.get("preset") is not None
    }
    whole = cfg.copy()
    with open_dict(whole.data.sources):
        whole.data.sources.update(filled)
    return whole


def _filled(name: str, given: DictConfig, cfg: DictConfig) -> dict[str, Any]:
    """A source with what its preset says; what stands in the source itself wins."""
    preset = str(given.preset)
    folders = _folders()
    known = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
    if preset not in known:
        close = difflib.get_close_matches(preset, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ConfigError(
            f"data.sources.{name}.preset = {preset!r}: there is no such data set; {hint}choices of data: "
            f"{', '.join(known)}; or leave preset out and give annotation_file"
        )
    whole = OmegaConf.merge(_preset(preset, folders), OmegaConf.masked_copy(given, list(given)))
    assert isinstance(whole, DictConfig)
    if whole.get("sources"):
        raise ConfigError(
            f"data.sources.{name}.preset = {preset!r}: is a mixture itself; name its sources here, with its weights"
        )
    # What a preset says of other settings (`${data.video_dir}`, `${task.moments}`) is meant as if it were chosen alone.
    around = OmegaConf.create({"data": whole, "task": OmegaConf.select(cfg, "task")})
    resolved = OmegaConf.to_container(around, resolve=True)
    assert isinstance(resolved, dict)
    own = {entry.name for entry in fields(SourceConfig)} | set(map(str, given))
    return {key: value for key, value in resolved["data"].items() if key in own}


def _preset(name: str, folders: Sequence[Path]) -> DictConfig:
    """A file of conf/data/ on top of those it builds on."""
    file = next(folder / f"{name}.yaml" for folder in folders if (folder / f"{name}.yaml").is_file())
    content = OmegaConf.load(file)
    assert isinstance(content, DictConfig)
    bases = [one for one in content.pop("defaults", []) if isinstance(one, str) and one != "_self_"]
    return OmegaConf.merge(*(_preset(base, folders) for base in bases), content)  # type: ignore[return-value]


def _folders() -> list[Path]:
    """The folders of data sets, the user's own (`--config-dir`) first."""
    shipped = Path(__file__).parents[1]
    folders = [folder / "data" for folder in (shipped / "conf", shipped.parent / "conf") if folder.is_dir()]
    if not HydraConfig.initialized():
        return folders
    given = [Path(one.path) / "data" for one in HydraConfig.get().runtime.config_sources if one.schema == "file"]
    return [folder for folder in given if folder.is_dir()] or folders


def check_mixture(data: DataConfig) -> None:
    """Raises ConfigError for weights, groups and epochs that cannot be, or that no mixture is there for."""
    if not data.sources:
        default = DataConfig()
        for key in OF_MIXTURES:
            if (value := getattr(data, key)) != getattr(default, key):
                raise ConfigError(
                    f"data.{key} = {value!r}: is of a mixture, and data.sources names none; choose data=mixture, or "
                    "name sources: data.sources.NAME.preset=demo"
                )
        return
    _check_alone(data)
    for name, source in data.sources.items():
        key = f"data.sources.{name}"
        if not re.fullmatch(NAME, name):
            raise ConfigError(f"{key}: {name!r} is no name for a source; letters, digits, _ and -, a letter first")
        if source.weight is None or not math.isfinite(source.weight) or source.weight < 0:
            raise ConfigError(f"{key}.weight = {source.weight}: must be a number, 0 or more")
    if not any(source.weight for source in data.sources.values()):
        raise ConfigError(
            f"data.sources: the weights of {', '.join(data.sources)} sum to nothing; give one a weight over 0"
        )
    _check_groups(data)
    _check_twice(data.sources)
    if data.epoch_samples < 0:
        raise ConfigError(f"data.epoch_samples = {data.epoch_samples}: must be 0 (all) or more")
    if data.epoch_source is not None:
        if data.epoch_samples:
            raise ConfigError("data.epoch_samples and data.epoch_source are both set; keep one of them")
        weighed = [name for name, source in data.sources.items() if source.weight]
        if data.epoch_source not in weighed:
            raise ConfigError(
                f"data.epoch_source = {data.epoch_source!r}: must be a source with a weight: {', '.join(weighed)}"
            )


def _check_alone(data: DataConfig) -> None:
    default = RowsConfig()
    for key in (*OF_ROWS, "index_file"):
        if (value := getattr(data, key)) != getattr(default, key, None):
            raise ConfigError(
                f"data.{key} = {value!r} and data.sources ({', '.join(data.sources)}) are both set: sources "
                f"have their own; set data.sources.NAME.{key}"
                if key in OF_ROWS
                else f"data.{key} = {value!r}: a mixture reads the headers of its videos; leave it out"
            )


def _check_groups(data: DataConfig) -> None:
    members: dict[str, list[str]] = {}
    for name, source in data.sources.items():
        if source.group is not None:
            members.setdefault(source.group, []).append(name)
    for group, part in data.groups.items():
        if part is None or not math.isfinite(part) or part < 0:
            raise ConfigError(f"data.groups.{group} = {part}: must be a number, 0 or more")
        if group not in members:
            raise ConfigError(
                f"data.groups.{group}: no source is in it; set data.sources.NAME.group={group}, or leave it out"
            )
        if part and not any(data.sources[name].weight for name in members[group]):
            raise ConfigError(
                f"data.groups.{group} = {part}: the weights of its sources ({', '.join(members[group])}) sum to nothing"
            )
    for group, names in members.items():
        if group not in data.groups:
            raise ConfigError(
                f"data.sources.{names[0]}.group = {group!r}: data.groups does not say its part; set "
                f"data.groups.{group}=NUMBER (known: {', '.join(data.groups) or 'none'})"
            )
    if data.groups and (alone := [name for name, one in data.sources.items() if one.group is None and one.weight]):
        raise ConfigError(
            f"data.sources.{alone[0]}: is in no group, while data.groups parts the samples among "
            f"{', '.join(data.groups)}; set data.sources.{alone[0]}.group"
        )
    if data.groups and not any(data.groups.values()):
        raise ConfigError(f"data.groups: the parts of {', '.join(data.groups)} sum to nothing; give one a part over 0")


def _check_twice(sources: Mapping[str, SourceConfig]) -> None:
    """Raises ConfigError for an annotation file that two sources train on."""
    seen: dict[str, str] = {}
    for name, source in sources.items():
        if source.annotation_file is None or not source.weight:
            continue
        path = os.path.realpath(source.annotation_file)
        if path in seen:
            raise ConfigError(
                f"data.sources.{seen[path]} and data.sources.{name} are the same source twice "
                f"({source.annotation_file}): its rows would be weighed twice; leave one out, and add its weight to "
                "the other's"
            )
        seen[path] = name
