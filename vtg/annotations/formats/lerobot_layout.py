"""meta/info.json of a LeRobot data set (v3): its frame rate, its cameras, and the templates of its files' paths."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

from vtg.errors import ConfigError

# LeRobot's own, for an info.json that leaves them out.
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"


@dataclass(frozen=True, slots=True)
class LeRobotLayout:
    """What meta/info.json says.

    Attributes:
        fps: frames a second.
        cameras: features of dtype `video`, those with depth pictures left out.
        video_path, data_path: checked path templates, for `path_inside`.
    """

    fps: float
    cameras: tuple[str, ...]
    video_path: str
    data_path: str


def read_layout(root: Path) -> LeRobotLayout:
    """The layout of the data set in folder `root`. Raises ConfigError, naming the key, for what is not one of v3."""
    path = root / "meta" / "info.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; give the folder of a LeRobot data set, which holds meta/") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a JSON document ({error}); fetch it again") from None
    if not isinstance(info, dict):
        raise ConfigError(f"{path}: must be a JSON object, not {type(info).__name__}; fetch it again")
    version = info.get("codebase_version")
    if not (isinstance(version, str) and version.startswith("v3.")):
        raise ConfigError(
            f"{path}: codebase_version: is {version!r}, but only v3 is read; convert older data sets with LeRobot's "
            "convert_dataset_v21_to_v30"
        )
    fps, features = info.get("fps"), info.get("features")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < float("inf"):
        raise ConfigError(f"{path}: fps: must be a number above 0, not {fps!r}; correct it")
    if not isinstance(features, dict) or not all(isinstance(feature, dict) for feature in features.values()):
        raise ConfigError(f"{path}: features: must be an object of objects; fetch the file again")
    cameras = [key for key, feature in features.items() if feature.get("dtype") == "video" and not _is_depth(feature)]
    templates = [info.get("video_path") or VIDEO_PATH, info.get("data_path") or DATA_PATH]
    for name, template in zip(("video_path", "data_path"), templates, strict=True):
        _check_template(f"{path}: {name}", template)
    return LeRobotLayout(float(fps), tuple(cameras), *templates)


def _is_depth(feature: dict[str, Any]) -> bool:
    # Versions of LeRobot differ in the name of the object and in that of the key.
    facts: dict[str, Any] = {}
    for name in ("video_info", "info"):
        if isinstance(feature.get(name), dict):
            facts |= feature[name]
    return bool(facts.get("video.is_depth_map") or facts.get("is_depth_map"))


def _check_template(place: str, template: Any) -> None:
    """Only the known fields, written as they are or as zero-padded numbers: nothing else of a format string."""
    if not isinstance(template, str):
        raise ConfigError(f"{place}: must be a string, not {template!r}; correct it")
    try:
        fields = [field for field in Formatter().parse(template) if field[1] is not None]
    except ValueError as error:
        raise ConfigError(f"{place}: {template!r} is no path template ({error}); correct it") from None
    # `str.format` also reads attributes and items, which no downloaded file is to choose, and pads to any width.
    for _, name, spec, conversion in fields:
        numbers = name in ("chunk_index", "file_index")
        if (name != "video_key" and not numbers) or conversion or not _is_width(spec or "", numbers=numbers):
            raise ConfigError(
                f"{place}: {template!r}: {{{name}}} is not read as it stands; the fields of a v3 path are video_key, "
                "chunk_index:03d and file_index:03d"
            )


def _is_width(spec: str, *, numbers: bool) -> bool:
    return not spec or (numbers and re.fullmatch(r"0?\d?d", spec) is not None)


def path_inside(root: Path, template: str, **fields: Any) -> str:
    """A file inside of `root`; links are followed, as hub caches are made of them, but no `..` leads out."""
    relative = os.path.normpath(template.format(**fields))
    if os.path.isabs(relative) or relative.split(os.sep)[0] == "..":
        raise ConfigError(f"{root / 'meta' / 'info.json'}: the path {relative!r} leads out of the data set; correct it")
    return os.path.join(root, relative)
