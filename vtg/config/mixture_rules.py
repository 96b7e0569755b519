"""What cannot be mixed: weights, groups and epochs of `data.sources`, and what draws no mixture."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import fields

from vtg.config.data_settings import DataConfig, RowsConfig, SourceConfig
from vtg.config.programs import DoctorConfig, reinforces
from vtg.config.schema import RLConfig, SFTConfig
from vtg.errors import ConfigError

NAME = r"[A-Za-z][\w-]*"
"""Names of sources and groups: they stand in keys of the log."""

OF_ROWS = tuple(entry.name for entry in fields(RowsConfig))
OF_MIXTURES = ("weights", "groups", "epoch_samples", "epoch_source")


def check_mixed(config: SFTConfig) -> None:
    """Raises ConfigError for a mixture with what cannot draw one."""
    if isinstance(config, RLConfig) and not isinstance(config, DoctorConfig):
        if config.batching.global_size:
            raise ConfigError(
                f"batching.global_size = {config.batching.global_size}: is for train_sft.py; set "
                "trainer.gradient_accumulation_steps, and rl.num_generations of each prompt"
            )
        if config.data.sources and config.curriculum.zero_variance == "resample":
            raise ConfigError(
                "curriculum.zero_variance = 'resample' with data.sources: prompts of other sources would take the "
                "place of those that are dropped, and no source would have its share; set curriculum.zero_variance=drop"
            )
    if not config.data.sources:
        return
    # In RL prompts are drawn one by one, and those that share a clip are put together afterwards.
    if config.batching.share_video and not reinforces(config):
        raise ConfigError(
            "batching.share_video = true: the rows of one clip are drawn together then, and no source would have its "
            "share; set batching.share_video=false, or train on one data set"
        )
    if config.batching.drop_last and config.batching.by != "fixed":
        raise ConfigError(
            f"batching.drop_last = true with batching.by = {config.batching.by!r}: epochs of a mixture would have "
            "different numbers of steps; set batching.drop_last=false, or batching=fixed"
        )


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
