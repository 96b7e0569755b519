"""The sources of a mixture, each filled in from the data set of conf/data/ that it names."""

import difflib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from vtg.config.data_settings import SourceConfig
from vtg.errors import ConfigError


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
