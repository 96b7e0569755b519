"""The same files as Hydra reads them: `inherits` becomes a defaults list that ends with the file itself."""

import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vtg.config.inherits.inherited_files import InheritedFile
from vtg.errors import ConfigError, RunError

# Keys keep their place, whichever folder a file lies in. Hydra reads this in the first lines only.
HEADER = "# @package _global_\n"

NAME = re.compile(r"[\w./+-]+")
"""Of a config: what else a path may hold, Hydra reads as a package, a choice or a list."""


def config_names(paths: Iterable[Path]) -> dict[Path, str]:
    """File → its name in Hydra: the path below the folder that all are in, without .yaml.

    Raises ConfigError for a name that Hydra cannot have, and for two files of one name.
    """
    paths = list(paths)
    # That folder, and not the sources' own: names must lie below --config-dir, and files inherit from ../ folders.
    root = Path(os.path.commonpath([path.parent for path in paths]))
    names: dict[Path, str] = {}
    for path in paths:
        name = path.relative_to(root).with_suffix("") if path.suffix in (".yaml", ".yml") else path.relative_to(root)
        text = name.as_posix()
        if not NAME.fullmatch(text):
            raise ConfigError(f"{path}: Hydra takes letters, digits and _ . + - in a config's name; rename the file")
        if text in names.values():
            first = next(one for one, taken in names.items() if taken == text)
            raise ConfigError(f"{path}: would be the config {text}, as {first}; rename one of both")
        names[path] = text
    return names


def hydra_text(file: InheritedFile, names: Mapping[Path, str]) -> str:
    """The file's text, comments kept, with `defaults` in the place of `inherits`."""
    if file.key is None:
        return HEADER + file.text
    # Names start with /: relative ones would be looked up in the folder of the file.
    edits = [(*file.key, "defaults")]
    edits += [(*place, f"/{names[path]}") for place, path in zip(file.items, file.parents, strict=True)]
    # Last, as the file's own values override all that it inherits. Said outright: versions of Hydra differ in that.
    if not file.items:
        edits.append((*file.listed, "[_self_]"))
    elif file.in_brackets:
        edits[-1] = (*file.items[-1], f"{edits[-1][2]}, _self_")
    else:
        start = file.listed[0]
        column = start - (file.text.rfind("\n", 0, start) + 1)
        edits[-1] = (*file.items[-1], f"{edits[-1][2]}\n{' ' * column}- _self_")
    text = file.text
    # From the end, so that the places of earlier edits stay true.
    for first, last, new in reversed(edits):
        text = text[:first] + new + text[last:]
    return HEADER + text


def check_composed(texts: Mapping[str, str], wanted: Mapping[str, dict[str, Any]]) -> None:
    """Composes configs with Hydra. `texts`: of every config by name; `wanted`: the values of those to compose.

    Raises RunError where Hydra cannot, or comes to other values.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.items():
            path = Path(folder, f"{name}.yaml")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        with hydra.initialize_config_dir(folder, version_base="1.3"):
            for name, values in wanted.items():
                try:
                    composed = OmegaConf.to_container(hydra.compose(name), resolve=False)
                except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
                    raise RunError(f"{name}: Hydra cannot compose it: {str(error).splitlines()[0]}") from None
                if composed != values:
                    assert isinstance(composed, dict)
                    key = next(key for key in {**values, **composed} if values.get(key, ...) != composed.get(key, ...))
                    raise RunError(
                        f"{name}: Hydra composes {key} = {composed.get(key)!r}, where the file and those that it "
                        f"inherits say {values.get(key)!r}; nothing is written: write that value without anchors, and "
                        "tell us the file"
                    )
