"""The one door from a composed Hydra config to typed settings. Past it nobody sees a DictConfig."""

import difflib
from dataclasses import fields
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from vtg.config.checks import check_choices, check_together
from vtg.config.setting import dataclass_of
from vtg.errors import ConfigError

ConfigT = TypeVar("ConfigT")


def load_config(cfg: DictConfig, schema: type[ConfigT]) -> ConfigT:
    """The composed config as a checked `schema`.

    Raises:
        ConfigError: an unknown key (the valid ones are listed), a wrong type, a value outside its choices, a missing
            file, or settings that cannot go together.
    """
    config = typed(cfg, schema)
    check_choices(config)
    check_together(config)
    return config


def typed(cfg: DictConfig, schema: type[ConfigT]) -> ConfigT:
    """The composed config as a `schema`, its values not checked beyond their types.

    Raises:
        ConfigError: an unknown key (the valid ones are listed), a wrong type, or a key without a value.
    """
    try:
        missing = sorted(OmegaConf.missing_keys(cfg))
        merged = OmegaConf.merge(OmegaConf.structured(schema), cfg)
        config = OmegaConf.to_object(merged)
    except ConfigKeyError as error:
        raise ConfigError(unknown_key(str(error.full_key), schema)) from None
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{error.full_key}: {reason}") from None
    if missing:
        raise ConfigError(f"{', '.join(missing)}: not set; give a value")
    assert isinstance(config, schema)
    return config


def unknown_key(key: str, schema: type) -> str:
    """The message for a key that `schema` does not have: the nearest valid keys and all beside it."""
    *parents, last = key.split(".")
    owner: Any = schema
    for at, name in enumerate(parents):
        types = {entry.name: entry.type for entry in fields(owner)}
        owner = dataclass_of(types.get(name))
        if owner is None:
            last, parents = name, parents[:at]
            owner = _owner(schema, parents)
            break
    valid = [entry.name for entry in fields(owner)]
    close = difflib.get_close_matches(last, valid, n=1)
    hint = f"did you mean {'.'.join([*parents, close[0]])}? " if close else ""
    place = ".".join(parents) or "the top level"
    return f"{key}: there is no such key; {hint}valid keys of {place}: {', '.join(valid)}"


def _owner(schema: type, parents: list[str]) -> Any:
    owner: Any = schema
    for name in parents:
        owner = dataclass_of({entry.name: entry.type for entry in fields(owner)}[name])
    return owner
