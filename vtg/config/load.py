"""From a composed Hydra config to typed, checked settings: the only code here that sees a DictConfig."""

from pathlib import Path
from typing import TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

import vtg.config.run_name  # noqa: F401 - which configs refer to
from vtg.config.accumulation import settle_global_size
from vtg.config.rollout_rules import settle_shared_clips
from vtg.config.rules import check_choices, check_together
from vtg.config.schema import SFTConfig
from vtg.config.sources import fill_sources
from vtg.config.unknown import unknown_key
from vtg.errors import ConfigError

ConfigT = TypeVar("ConfigT")


def conf_dir() -> Path:
    """The folder of the shipped configs: conf/ in a source tree, vtg/conf/ in an installed wheel."""
    package = Path(__file__).parents[1]
    return next(folder for folder in (package / "conf", package.parent / "conf") if folder.is_dir())


def load_config(cfg: DictConfig, schema: type[ConfigT]) -> ConfigT:
    """The composed config as a checked `schema`.

    Raises:
        ConfigError: an unknown key (the valid ones are listed), a wrong type, a value outside its choices, a missing
            file, or settings that cannot go together.
    """
    config = typed(cfg, schema)
    check_choices(config)
    if isinstance(config, SFTConfig):
        settle_shared_clips(config)
    check_together(config)
    if isinstance(config, SFTConfig):
        settle_global_size(config)
    return config


def typed(cfg: DictConfig, schema: type[ConfigT]) -> ConfigT:
    """The composed config as a `schema`, its values not checked beyond their types.

    Raises:
        ConfigError: an unknown key (the valid ones are listed), a wrong type, or a key without a value.
    """
    try:
        # Before the merge, in which the schema's default would take the place of `???`.
        missing = sorted(OmegaConf.missing_keys(cfg))
        merged = OmegaConf.merge(OmegaConf.structured(schema), fill_sources(cfg))
        config = OmegaConf.to_object(merged)
    except ConfigKeyError as error:
        raise ConfigError(unknown_key(str(error.full_key), schema)) from None
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        if "is not a ListConfig" in reason:
            value = OmegaConf.select(cfg, str(error.full_key))
            raise ConfigError(f"{error.full_key} = {value}: must be a list; set {error.full_key}=[{value}]") from None
        raise ConfigError(f"{error.full_key}: {reason}") from None
    if missing:
        raise ConfigError(f"{', '.join(missing)}: not set; give a value")
    assert isinstance(config, schema)
    return config
