"""Folders of synthetic data that are made once and found again: whole or not there, and never of other settings."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vtg.errors import ConfigError
from vtg.storage.atomic import atomic_folder

RECIPE = "recipe.json"


def made_once(folder: Path, *, recipe: dict[str, Any], group: str, make: Callable[[Path], None]) -> Path:
    """`folder`, filled by `make` if it does not exist, under a temporary name that is renamed when it is whole.

    Args:
        recipe: all that the contents depend on; kept in the folder.
        group: the settings of the recipe, as a user knows them: `data.demo`.

    Raises:
        ConfigError: the folder exists and was not made of this recipe.
    """
    text = json.dumps(recipe)
    if folder.exists():
        made = folder / RECIPE
        if not made.is_file() or made.read_text(encoding="utf-8") != text:
            name = group.removeprefix("data.")
            raise ConfigError(
                f"data.video_dir = {str(folder)!r}: exists, but is not the {name} data of these {group} settings; "
                "remove it or choose another data.video_dir"
            )
        return folder
    with atomic_folder(folder, proof=RECIPE) as beside:
        make(beside)
        # Last: a folder that holds its recipe holds everything else.
        (beside / RECIPE).write_text(text, encoding="utf-8")
    return folder


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
