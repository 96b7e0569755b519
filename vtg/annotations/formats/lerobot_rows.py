"""A LeRobot data set as annotation rows: `lerobot:FOLDER`, or `lerobot:FOLDER?camera_key=observation.images.top`.

FOLDER holds meta/, data/ and videos/. Rows are those of `vtg.annotations.formats.lerobot.grounding_rows`: one a subtask
of an episode, on the videos of one camera, the first of the data set where none is named.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from vtg.annotations.formats.json_rows import single_file
from vtg.errors import ConfigError, SampleError

PREFIX, CAMERA = "lerobot:", "?camera_key="

# Whatever rows depend on: tables, and not videos, of which the tables tell the parts.
TABLES = ("meta/info.json", "meta/*.parquet", "meta/episodes/*/*.parquet", "data/*/*.parquet")


def is_lerobot(path: str) -> bool:
    """Whether an annotation file is a LeRobot data set."""
    return path.startswith(PREFIX)


def lerobot_rows(path: str) -> Iterator[tuple[int, bytes]]:
    """(number, row as JSON) of every subtask of every episode.

    Raises:
        SampleError: not a LeRobot v3 data set, or one that lacks a file, a column, the camera, or subtasks; says which.
    """
    # Late: rows are checked without numpy, which this imports.
    from vtg.annotations.formats.lerobot import grounding_rows

    root, camera_key = _parts(path)
    try:
        rows = grounding_rows(root, camera_key)
    except ConfigError as error:
        raise SampleError(str(error)) from error
    for number, row in enumerate(rows, 1):
        yield number, msgspec.json.encode(row)


def lerobot_files(path: str) -> list[tuple[str, int, int]]:
    """(true path, bytes, time in ns) of the tables. Raises ConfigError where there is no data set."""
    root, _ = _parts(path)
    tables = sorted(table for pattern in TABLES for table in Path(root).glob(pattern))
    if not tables:
        raise ConfigError(f"{root}: no LeRobot data set; give the folder that holds meta/info.json")
    return [stamp for table in tables for stamp in single_file(str(table))]


def _parts(path: str) -> tuple[str, str | None]:
    """The folder, and the camera that is named."""
    root, _, camera_key = path.removeprefix(PREFIX).partition(CAMERA)
    return root, camera_key or None
