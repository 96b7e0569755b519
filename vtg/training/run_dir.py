"""The directory of a run: whose it is, and what tells of the run in it. Imports no torch."""

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from vtg.config.schema import SFTConfig
from vtg.errors import ConfigError
from vtg.models.checkpoint import last_checkpoint
from vtg.output import write_json, write_text
from vtg.threads import openmp_settings
from vtg.training.processes import is_main_process, wait_for_all
from vtg.training.saving import STAGING
from vtg.versions import versions

FREE_KEYS = ("resume", "on_nan")
"""Settings that may differ when a run goes on."""


class RunDir:
    """The directory of one run. It belongs to one configuration; the same one may go on in it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def open(self, config: SFTConfig) -> Path | None:
        """Makes or enters the directory; returns the checkpoint to go on from, if any.

        Raises:
            ConfigError: if it holds a run of another configuration, or `resume` does not allow it.
        """
        checkpoint = last_checkpoint(self.path)
        way_out = "choose another run_name or output_dir, or remove the folder"
        if config.resume == "never" and (self.path / "config.yaml").exists():
            raise ConfigError(f"resume = never, but {self.path} holds a run; {way_out}, or set resume=auto to go on")
        if config.resume == "must" and checkpoint is None:
            raise ConfigError(f"resume = must, but {self.path} holds no checkpoint; set resume=auto to start")
        differences = self._differences(config)
        if differences:
            listed = "\n".join(f"  {line}" for line in differences)
            raise ConfigError(f"{self.path} holds a run with other settings:\n{listed}\n{way_out}")
        wait_for_all()  # to have looked
        if is_main_process():
            self._begin(config)
        return checkpoint

    def _begin(self, config: SFTConfig) -> None:
        """Writes what tells of the run, and removes the half of a checkpoint that a kill left."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(self.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(asdict(config))))
            write_json(self.path / "environment.json", environment())
            if (self.path / STAGING).exists():
                shutil.rmtree(self.path / STAGING)
        except OSError as error:
            raise ConfigError(
                f"output_dir = {self.path}: cannot be written to ({error.strerror}); choose another output_dir, or "
                "make room or give yourself the right to write there"
            ) from error

    def _differences(self, config: SFTConfig) -> list[str]:
        path = self.path / "config.yaml"
        if not path.is_file():
            return []
        before = _flat(OmegaConf.to_container(OmegaConf.load(path)))
        now = _flat(OmegaConf.to_container(OmegaConf.create(asdict(config))))
        keys = [key for key in sorted(before.keys() | now.keys()) if key not in FREE_KEYS]
        absent = "(absent)"
        return [
            f"{key}: {before.get(key, absent)} there, {now.get(key, absent)} here"
            for key in keys
            if before.get(key, absent) != now.get(key, absent)
        ]


def environment() -> dict[str, Any]:
    """Versions, commit, command and hardware of this process."""
    import torch

    packages = versions()
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "python": packages.pop("python"),
        "platform": platform.platform(),
        "packages": packages,
        "git_commit": _git_commit(),
        "command": sys.argv,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "openmp": openmp_settings(),
        "gpus": gpus,
        "world_size": int(os.environ.get("WORLD_SIZE", "1")),
    }


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{prefix}{key}.").items()}
    return {prefix[:-1]: value}


def _git_commit() -> str | None:
    folder = Path(__file__).parent
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
