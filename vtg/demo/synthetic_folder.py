"""Folders of synthetic data that are made once and found again: whole or not there, and never of other settings."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from vtg.errors import ConfigError
from vtg.progress_bar import ProgressBar
from vtg.storage.atomic import atomic_folder
from vtg.threads import usable_cores, within_limit

RECIPE = "recipe.json"

Made = TypeVar("Made")


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


def make_videos(
    counts: dict[str, int], make: Callable[[str, int], Made], *, title: str
) -> Iterator[tuple[str, list[Made]]]:
    """Each split, and what `make(split, number)` returned for each of its `counts` videos, in their order.

    They are made by as many threads as there are cores, with a progress bar of that title.
    """
    # Threads are enough: NumPy and the encoder release Python's lock.
    with (
        ThreadPoolExecutor(within_limit(usable_cores())) as pool,
        ProgressBar(sum(counts.values()), title=title, unit="video") as progress,
    ):
        for split, count in counts.items():
            videos = []
            for made in pool.map(partial(make, split), range(count)):
                videos.append(made)
                progress.update()
            yield split, videos


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
