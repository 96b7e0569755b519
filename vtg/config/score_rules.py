"""What `python -m vtg.score` cannot be asked."""

import os
import re
from pathlib import Path

from vtg.config.file_rules import read_fault
from vtg.config.score_settings import OWN_BUDGET, BenchmarkConfig, ScoreConfig
from vtg.errors import ConfigError

SET_BY_BUDGETS = (
    *("sampling", "fps", "last_frame", "max_frames", "min_frames"),
    *("min_pixels", "max_pixels", "frame_size", "total_pixels"),
)
"""Keys of `video` that every budget but `own` sets."""


def check_score(config: ScoreConfig) -> None:
    """Raises ConfigError for counts that cannot be, files that are missing, and settings that budgets replace."""
    for key, least in (("batch_size", 1), ("num_workers", 0), ("processes", 0)):
        if getattr(config, key) < least:
            raise ConfigError(f"{key} = {getattr(config, key)}: must be at least {least}")
    budgets = config.benchmark.budgets if config.budgets is None else config.budgets
    given = [key for key in SET_BY_BUDGETS if getattr(config.settings.video, key) is not None]
    if given and any(name != OWN_BUDGET for name in budgets):
        raise ConfigError(
            f"settings.video.{given[0]} = {getattr(config.settings.video, given[0])}: a budget sets it; leave it out, "
            f"or set budgets=[{OWN_BUDGET}]"
        )
    check_benchmark(config.benchmark)


def check_benchmark(benchmark: BenchmarkConfig) -> None:
    """Raises ConfigError where its files are not there: says where they are to be had, and where to put them."""
    if benchmark.max_samples < 0:
        raise ConfigError(f"benchmark.max_samples = {benchmark.max_samples}: must be 0 (all) or more")
    if not 0 <= benchmark.max_bad_share < 1:
        raise ConfigError(f"benchmark.max_bad_share = {benchmark.max_bad_share}: must be at least 0 and below 1")
    if benchmark.max_new_tokens is not None and benchmark.max_new_tokens < 1:
        raise ConfigError(f"benchmark.max_new_tokens = {benchmark.max_new_tokens}: must be at least 1")
    if benchmark.demo is not None and not os.path.exists(benchmark.annotation_file or ""):
        return  # its files are made on first use
    where = f" ({benchmark.get})" if benchmark.get else ""
    if benchmark.annotation_file is None:
        raise ConfigError(
            "benchmark.annotation_file is not set; choose a published set, benchmark=NAME (--help lists them), or give "
            "benchmark.annotation_file=ROWS.jsonl benchmark.video_dir=FOLDER"
        )
    if benchmark.root is None and ":None/" in benchmark.annotation_file:
        raise ConfigError(
            f"benchmark.root is not set; give the folder of {benchmark.title}: benchmark.root=FOLDER{where}"
        )
    if fault := read_fault(rows_path(benchmark), absent=f"put it there{where}, or give benchmark.root=FOLDER"):
        raise ConfigError(f"benchmark.annotation_file = {benchmark.annotation_file!r}: {fault}")
    if benchmark.video_dir is not None and "://" not in benchmark.video_dir and not Path(benchmark.video_dir).is_dir():
        raise ConfigError(
            f"benchmark.video_dir = {benchmark.video_dir!r}: no such folder (looked in {Path.cwd()}); put the videos "
            f"there{where}, or give benchmark.video_dir=FOLDER"
        )


def rows_path(benchmark: BenchmarkConfig) -> str:
    """The annotation file without the name of its form."""
    assert benchmark.annotation_file is not None
    return re.sub(r"^[a-z][a-z0-9_]+:(?!//)", "", benchmark.annotation_file)
