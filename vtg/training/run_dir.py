"""The directory of a run: whose it is, and what tells of the run in it. Imports no torch."""

import logging
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from vtg.config.resume import may_change_on_resume
from vtg.config.schema import RLConfig, SFTConfig
from vtg.errors import ConfigError
from vtg.models.checkpoint import has_weights, last_checkpoint
from vtg.output import whole_lines, write_json, write_text
from vtg.threads import openmp_settings
from vtg.training.checkpoint_saving import STAGING
from vtg.training.processes import is_main_process, wait_for_all
from vtg.training.run_lock import hold_run_lock
from vtg.training.run_record import FILES, RunRecord
from vtg.versions import versions

log = logging.getLogger("vtg")

ABSENT = "(absent)"

FREE_FORM = ("trainer", "rl")
"""Groups of names that others define: one that is not there has their default, and is none of ours that came later."""

ANSWERS_DEPEND_ON = ("model.", "video.", "task.", "evaluation.max_new_tokens")
"""How the settings begin that the answers of the base model depend on."""

TRAINING_LOGS = ("train_log.jsonl", "completions", "tensorboard")
"""What training writes step by step."""

BATCHES = (
    *("batching.target_batch_tokens", "batching.target_batch_duration", "batching.max_batch_size"),
    *("batching.min_batch_size", "trainer.per_device_train_batch_size", "trainer.gradient_accumulation_steps"),
)
"""Settings that say what a batch holds, and how many make a step."""

Changes = Mapping[str, tuple[Any, Any]]
"""Key → its value before, and now."""


class RunDir:
    """The directory of one run. It belongs to what that run learns; the same may resume in it, by other means.

    A directory without a checkpoint belongs to nobody, and one in which the base model alone was measured to what its
    answers depend on.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @contextmanager
    def claimed(self, config: SFTConfig) -> Iterator[None]:
        """Inside, no other run can be in the directory, and it was checked that this one can.

        Raises:
            ConfigError: as `check` does; another run is going on there; or it cannot be written to.
        """
        with ExitStack() as held:
            with self._writable():
                if is_main_process():
                    held.enter_context(hold_run_lock(self.path))
            self.check(config)
            yield

    def check(self, config: SFTConfig) -> Changes:
        """What differs from the settings of the run that the directory holds, and may.

        Raises:
            ConfigError: for a run that learns something else, or was made by a newer vtg, or where `resume` does not
                allow it.
        """
        RunRecord.read(self.path)
        way_out = "choose another run_name or output_dir, or remove the folder"
        if config.resume == "never" and (self.is_trained or self.has_answers):
            raise ConfigError(f"resume = never, but {self.path} holds a run; {way_out}, or set resume=auto to go on")
        if config.resume == "must" and last_checkpoint(self.path) is None:
            raise ConfigError(f"resume = must, but {self.path} holds no checkpoint; set resume=auto to start")
        changes = self._changes(config)
        if not self.is_trained and not self.has_answers:
            return changes
        if self.settings and ("rollout.engine" in self.settings) != isinstance(config, RLConfig):
            program = "train_sft.py" if isinstance(config, RLConfig) else "train_rl.py"
            raise ConfigError(f"{self.path} holds a run of {program}; {way_out}")
        refused = {key: change for key, change in changes.items() if not self._may_change(key, config)}
        if refused:
            listed = "\n".join(f"  {key}: {before} there, {now} here" for key, (before, now) in refused.items())
            raise ConfigError(
                f"{self.path} holds a run with other settings:\n{listed}\nset {'it' if len(refused) == 1 else 'them'} "
                f"back, or {way_out}"
            )
        return changes

    def open(self, config: SFTConfig) -> tuple[Path | None, Changes]:
        """Makes or enters the directory; returns the checkpoint to resume from, if any, and what differs since.

        Raises:
            ConfigError: as `check` does, or the directory cannot be written to.
        """
        changes = self.check(config)
        checkpoint = last_checkpoint(self.path)
        wait_for_all()  # to have looked
        if is_main_process():
            with self._writable():
                self._begin(config, checkpoint, changes)
        return checkpoint, changes

    @property
    def is_trained(self) -> bool:
        """Whether there is what was learned."""
        return last_checkpoint(self.path) is not None or has_weights(self.path / "best")

    @property
    def has_answers(self) -> bool:
        """Whether there are answers, be they of the first questions only."""
        parts = (part for name in FILES.values() for part in self.path.glob(f"{name}.part*"))
        return any((self.path / name).is_file() for name in FILES.values()) or any(
            len(whole_lines(part)) > 1 for part in parts
        )

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Key → value of the run that is there, as it last started; empty where there is none."""
        path = self.path / "config.yaml"
        return flat(OmegaConf.to_container(OmegaConf.load(path))) if path.is_file() else {}

    def _may_change(self, key: str, config: SFTConfig) -> bool:
        if not self.is_trained and not key.startswith(ANSWERS_DEPEND_ON):
            return True
        if key in BATCHES and not self._knows_its_batches():
            return False
        return may_change_on_resume(key) and not _fixed_by_another_setting(key, config)

    def _knows_its_batches(self) -> bool:
        """Whether the last checkpoint says with which batches it came so far; older ones do not."""
        checkpoint = last_checkpoint(self.path)
        files = ("batches.json", '"sizes"'), ("rollouts.json", '"batches"')
        return checkpoint is not None and any(
            (checkpoint / name).is_file() and said in (checkpoint / name).read_text(encoding="utf-8")
            for name, said in files
        )

    def _changes(self, config: SFTConfig) -> dict[str, tuple[Any, Any]]:
        before, now = self.settings, settings_of(config)
        if not before:
            return {}
        is_older = RunRecord.read(self.path).format == 0
        found = {}
        for key in sorted(before.keys() | now.keys()):
            pair = before.get(key, ABSENT), now.get(key, ABSENT)
            if pair[0] == pair[1] or key == "resume":
                continue
            if is_older and ABSENT in pair and key.partition(".")[0] not in FREE_FORM:
                continue  # a setting that one of the two versions does not have
            found[key] = pair
        return found

    def _begin(self, config: SFTConfig, checkpoint: Path | None, changes: Changes) -> None:
        """Writes what tells of the run, and removes the half of a checkpoint that a kill left."""
        self.path.mkdir(parents=True, exist_ok=True)
        is_new = not self.is_trained and not self.has_answers
        record = RunRecord() if is_new else RunRecord.read(self.path)
        if changes and is_new:
            log.info("%s: nothing was kept of a run with other settings; it begins anew", self.path)
        elif changes:
            verb = "resuming with" if self.is_trained else "with"
            for key, (before, now) in changes.items():
                log.info("%s %s = %s (was %s)", verb, key, now, before)
        if not self.is_trained:
            for name in TRAINING_LOGS:
                _remove(self.path / name)
        start = {"time": datetime.now().astimezone().isoformat(timespec="seconds")}
        more = {
            "checkpoint": checkpoint.name if checkpoint else None,
            "changes": {k: list(v) for k, v in changes.items()},
        }
        record.history.append(start | more)
        record.write(self.path)
        write_text(self.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(asdict(config))))
        write_json(self.path / "environment.json", environment())
        _remove(self.path / STAGING)

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(
                f"output_dir = {self.path}: cannot be written to ({error.strerror}); choose another output_dir, or "
                "make room or give yourself the right to write there"
            ) from error


def settings_of(config: SFTConfig) -> dict[str, Any]:
    """Key → value of every setting: `video.fps` → 2.0."""
    return flat(OmegaConf.to_container(OmegaConf.create(asdict(config))))


def _fixed_by_another_setting(key: str, config: SFTConfig) -> bool:
    """Whether another setting makes one that may change by itself decide what is learned."""
    batching, schedule = config.batching, str(config.trainer.get("lr_scheduler_type", ""))
    if key.startswith("batching.") and key.partition(".")[2] in ("target_batch_tokens", "target_batch_duration"):
        return batching.oversize == "skip" or batching.share_video  # which samples there are, and which of them are one
    if key == "batching.max_batch_size":
        return batching.share_video
    if key == "trainer.learning_rate":
        return schedule in ("reduce_lr_on_plateau", "greedy")  # whose rate is a state, not a function of the step
    return False


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


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one: `{"a": {"b": 1}}` is `{"a.b": 1}`."""
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in flat(inner, f"{prefix}{key}.").items()}
    return {prefix[:-1]: value}


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _git_commit() -> str | None:
    folder = Path(__file__).parent
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
