"""What data sets cannot be asked: files that are not there, shares, and the clips of the gym."""

import re
from pathlib import Path

from vtg.config.data_settings import DataConfig, GymConfig
from vtg.errors import ConfigError
from vtg.video.files import address

# WebDataset shards: a pattern as `shards/{000..099}.tar` is no file that could be looked for, and may be in a store.
SHARDS = ".tar"

# The gym's shortest events are a twentieth of their clip, and its slowest frames are 0.43 s apart.
MIN_GYM_CLIP_S = 10.0


def check_data(data: DataConfig) -> None:
    """Raises ConfigError for missing files and shares outside [0, 1)."""
    if data.max_samples < 0:
        raise ConfigError(f"data.max_samples = {data.max_samples}: must be 0 (all) or more")
    for key in ("val_share", "max_bad_share"):
        if not 0 <= getattr(data, key) < 1:
            raise ConfigError(f"data.{key} = {getattr(data, key)}: must be at least 0 and below 1")
    if data.gym is not None:
        check_gym(data.gym)
    if data.demo is not None or data.gym is not None:  # its files are made on first use
        return
    if data.root is not None and not Path(data.root).is_dir():
        raise ConfigError(f"data.root = {data.root!r}: no such folder (looked in {Path.cwd()}); check the path")
    if data.root is None and ":None/" in (data.annotation_file or ""):
        raise ConfigError("data.root is not set; give the folder of the published files: data.root=FOLDER")
    if data.annotation_file is None:
        raise ConfigError("data.annotation_file is not set; give the path of a JSONL file of annotation rows")
    for key in ("annotation_file", "val_file", "test_file"):
        path = getattr(data, key)
        # A published file has its form's name before it (`vtg.annotations.formats.published`).
        path = path if path is None else re.sub(r"^[a-z][a-z0-9_]+:(?!//)", "", path)
        if path is not None and (fault := address.fault(path)):
            raise ConfigError(f"data.{key}: {fault}")
        if path is not None and not path.endswith(SHARDS) and address.is_address(path):
            raise ConfigError(f"data.{key} = {path!r}: only shards (.tar) are read from a store; fetch the file first")
        if path is not None and not path.endswith(SHARDS) and not Path(path).is_file():
            raise ConfigError(f"data.{key} = {path!r}: no such file (looked in {Path.cwd()}); check the path")
    if data.index_file is not None and not Path(data.index_file).is_file():
        raise ConfigError(
            f"data.index_file = {data.index_file!r}: no such file (looked in {Path.cwd()}); check the path, or make "
            f"it: python -m vtg.inspect --index {data.annotation_file} -o {data.index_file}"
        )
    if data.video_dir is not None and (fault := address.fault(data.video_dir)):
        raise ConfigError(f"data.video_dir: {fault}")
    if data.video_dir is not None and not address.is_address(data.video_dir) and not Path(data.video_dir).is_dir():
        raise ConfigError(
            f"data.video_dir = {data.video_dir!r}: no such folder (looked in {Path.cwd()}); check the path"
        )
    if data.val_file is not None and data.val_share:
        raise ConfigError("data.val_file and data.val_share are both set; keep one of them")


def check_gym(gym: GymConfig) -> None:
    """Raises ConfigError for lengths of clips that are out of order, or too short for several events."""
    if not MIN_GYM_CLIP_S <= gym.shortest_s <= gym.longest_s <= gym.long_s:
        raise ConfigError(
            f"data.gym.shortest_s = {gym.shortest_s:g}, longest_s = {gym.longest_s:g}, long_s = {gym.long_s:g}: must "
            f"be {MIN_GYM_CLIP_S:g} or more seconds, each no less than the one before"
        )
