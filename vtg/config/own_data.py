"""A data set of one's own: how to make its file, and which of its lines is still to be filled in."""

import difflib
from collections.abc import Iterable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from vtg.config.help import offered
from vtg.errors import ConfigError

# The choice of conf/data/ that is there to be filled in.
TEMPLATE = "my_dataset"

# The choice that every data set builds on: its annotation file is given on the command line, not in its yaml.
SHARED = "jsonl"


def unknown_choice(group: str, choice: str, choices: Iterable[str], *, shipped: Path) -> str:
    """The message for `group=choice` where there is no such file: the nearest choices, all, and how to add one.

    `shipped`: the folder of vtg's own configs.
    """
    names = offered(group, choices)
    close = difflib.get_close_matches(choice, names, n=1)
    hint = f"did you mean {group}={close[0]}? " if close else ""
    text = f"{group}={choice}: there is no such choice; {hint}choices of {group}: {', '.join(names)}"
    if group != "data":
        return text
    return f"{text}; to make one, {_copied(shipped, choice)}"


def check_filled_in(cfg: DictConfig) -> None:
    """Raises ConfigError where the chosen data set's file names no annotation file: says which line to fill in."""
    data, choices = cfg.get("data"), HydraConfig.get().runtime.choices
    choice = choices.get("data")
    if not isinstance(data, DictConfig) or choice == SHARED:
        return
    if OmegaConf.is_interpolation(data, "annotation_file") or data.get("annotation_file") is not None:
        return
    # Hydra's order: a file in the user's --config-dir hides one of that name in conf/.
    folders = [Path(source.path) for source in HydraConfig.get().runtime.config_sources if source.schema == "file"]
    file = next((path for folder in folders if (path := folder / "data" / f"{choice}.yaml").is_file()), None)
    lines = file.read_text(encoding="utf-8").splitlines() if file is not None else []
    at = next((number for number, line in enumerate(lines, 1) if line.startswith("annotation_file:")), None)
    if file is not None and at is not None:
        raise ConfigError(
            f"data.annotation_file is not set: {_filled_in(file, at, str(choice))}, or give data.annotation_file=FILE"
        )


def _filled_in(file: Path, line: int, choice: str) -> str:
    if _is_installed(file.parents[1]):
        return f"{_copied(file.parents[1], choice)} (line {line})"
    return f"fill in line {line} of {file}"


def _copied(shipped: Path, choice: str) -> str:
    template = shipped / "data" / f"{TEMPLATE}.yaml"
    if _is_installed(shipped):
        return f"copy {template} to FOLDER/data/{choice}.yaml, fill it in there and add --config-dir FOLDER"
    beside = template.with_name(f"{choice}.yaml")
    own = f"or to FOLDER/data/{choice}.yaml and add --config-dir FOLDER"
    return f"copy {template} to {beside}, {own}, and fill it in"


def _is_installed(shipped: Path) -> bool:
    """Whether configs lie within the package, in site-packages, where nothing is to be edited."""
    return shipped == Path(__file__).parents[1] / "conf"
