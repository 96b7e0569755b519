"""What data sets cannot be asked: files that are not there, shares, and the clips of the gym."""

import os
import re
from glob import glob
from pathlib import Path

from vtg.config.data_settings import DataConfig, GymConfig, RowsConfig
from vtg.config.file_rules import read_fault
from vtg.config.mixture_rules import check_mixture
from vtg.errors import ConfigError
from vtg.video.files import address

# WebDataset shards: a pattern as `shards/{000..099}.tar` is no file that could be looked for, and may be in a store.
SHARDS = ".tar"

FORM = re.compile(r"^[a-z][a-z0-9_]+:(?!//)")
"""The name of a form before a path."""

ROW_FILES = ("annotation_file", "val_file", "test_file")
"""Keys of files of rows."""

# The gym's shortest events are a twentieth of their clip, and its slowest frames are 0.43 s apart.
MIN_GYM_CLIP_S = 10.0
# Where it is not crowded, events last 1.5 s or more.
MIN_PLAIN_CLIP_S = 4.0


def check_data(data: DataConfig) -> None:
    """Raises ConfigError for missing files, shares outside [0, 1), and a mixture that cannot be."""
    if not 0 <= data.max_bad_share < 1:
        raise ConfigError(f"data.max_bad_share = {data.max_bad_share}: must be at least 0 and below 1")
    check_mixture(data)
    if data.sources:
        _check_sources(data)
        return
    check_rows(data, "data")
    if data.index_file is not None and not Path(data.index_file).is_file():
        raise ConfigError(
            f"data.index_file = {data.index_file!r}: no such file (looked in {Path.cwd()}); check the path, or make "
            f"it: python -m vtg.inspect --index {data.annotation_file} -o {data.index_file}"
        )


def _check_sources(data: DataConfig) -> None:
    """Raises ConfigError that says of every source what it lacks: those who fill in a stage want to know it at once."""
    faults: list[str] = []
    for name, source in data.read_sources.items():
        try:
            check_rows(source, f"data.sources.{name}")
        except ConfigError as error:
            faults.append(str(error))
    if len(faults) == 1:
        raise ConfigError(faults[0])
    if faults:
        raise ConfigError(
            "\n  ".join([f"{len(faults)} of {len(data.read_sources)} sources cannot be read:", *faults])
            + "\nGive each its rows (python -m vtg.download --list says what can be fetched), or leave it out: "
            "data.sources.NAME.weight=0" + (", and data.groups.NAME=0 of its group" if data.groups else "")
        )


def check_rows(rows: RowsConfig, prefix: str) -> None:
    """Raises ConfigError for missing files and shares outside [0, 1), naming keys under `prefix`."""
    if rows.max_samples < 0:
        raise ConfigError(f"{prefix}.max_samples = {rows.max_samples}: must be 0 (all) or more")
    if not 0 <= rows.val_share < 1:
        raise ConfigError(f"{prefix}.val_share = {rows.val_share}: must be at least 0 and below 1")
    if rows.gym is not None:
        check_gym(rows.gym, prefix)
    if rows.demo is not None or rows.gym is not None:  # its files are made on first use
        for key in ROW_FILES:
            if (path := getattr(rows, key)) is not None and os.path.exists(path):
                _check_file(path, f"{prefix}.{key}")
        return
    if rows.root is not None and not Path(rows.root).is_dir():
        raise ConfigError(f"{prefix}.root = {rows.root!r}: no such folder (looked in {Path.cwd()}); check the path")
    if rows.root is None and re.match(r"[a-z0-9_]+:None\b", rows.annotation_file or ""):
        raise ConfigError(f"{prefix}.root is not set; give the folder of the published files: {prefix}.root=FOLDER")
    if rows.annotation_file is None:
        raise ConfigError(f"{prefix}.annotation_file is not set; give the path of a JSONL file of annotation rows")
    webvid = rows.webvid
    if webvid is not None and f"/{webvid.dataset_name}/data/{webvid.split}/" not in rows.annotation_file:
        raise ConfigError(
            f"{prefix}.webvid = {webvid.dataset_name!r}, {webvid.split!r}, but {prefix}.annotation_file = "
            f"{rows.annotation_file!r} names others; give {prefix}.root alone, or name the same there"
        )
    if rows.lerobot is not None and not rows.annotation_file.endswith(f"?camera_key={rows.lerobot.camera_key}"):
        raise ConfigError(
            f"{prefix}.lerobot.camera_key = {rows.lerobot.camera_key!r}, but {prefix}.annotation_file = "
            f"{rows.annotation_file!r} names no such camera; give {prefix}.root alone, or name the camera there"
        )
    for key in ROW_FILES:
        _check_file(getattr(rows, key), f"{prefix}.{key}")
    if rows.video_dir is not None and (fault := address.fault(rows.video_dir)):
        raise ConfigError(f"{prefix}.video_dir: {fault}")
    if rows.video_dir is not None and not address.is_address(rows.video_dir) and not Path(rows.video_dir).is_dir():
        raise ConfigError(
            f"{prefix}.video_dir = {rows.video_dir!r}: no such folder (looked in {Path.cwd()}); check the path"
        )
    if rows.val_file is not None and rows.val_share:
        raise ConfigError(f"{prefix}.val_file and {prefix}.val_share are both set; keep one of them")


def _check_file(path: str | None, key: str) -> None:
    if path is None:
        return
    # A published file has its form's name before it (`vtg.annotations.formats.published`), and may be several, or a
    # folder; a LeRobot data set may have the name of a camera behind it.
    form, path = FORM.match(path), FORM.sub("", path).partition("?camera_key=")[0]
    if fault := address.fault(path):
        raise ConfigError(f"{key}: {fault}")
    if path.endswith(SHARDS):
        return
    if address.is_address(path):
        raise ConfigError(f"{key} = {path!r}: only shards (.tar) are read from a store; fetch the file first")
    if form and (os.path.isdir(path) or glob(path)):
        return
    if fault := read_fault(path):
        raise ConfigError(f"{key} = {path!r}: {fault}")


def check_gym(gym: GymConfig, prefix: str = "data") -> None:
    """Raises ConfigError for lengths of clips that are out of order, or too short for several events."""
    least_s = MIN_GYM_CLIP_S if gym.crowded else MIN_PLAIN_CLIP_S
    if not least_s <= gym.shortest_s <= gym.longest_s <= gym.long_s:
        raise ConfigError(
            f"{prefix}.gym.shortest_s = {gym.shortest_s:g}, longest_s = {gym.longest_s:g}, long_s = {gym.long_s:g}: "
            f"must be {least_s:g} or more seconds, each no less than the one before"
        )
