"""The directory of a run: which settings may use it, and the files that say how the run was made. Imports no torch."""

import logging
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Any

from omegaconf import OmegaConf

from vtg.config.file_rules import writing_to
from vtg.config.latents_schema import LatentsConfig
from vtg.config.resume import may_change_on_resume
from vtg.config.schema import RLConfig, RunConfig, SFTConfig
from vtg.errors import ConfigError
from vtg.models.checkpoint import has_weights, last_checkpoint
from vtg.ranks import is_main_process
from vtg.storage.atomic import write_text
from vtg.storage.json_files import whole_lines, write_json
from vtg.threads import openmp_settings
from vtg.training.checkpoint_saving import STAGING
from vtg.training.processes import wait_for_all
from vtg.training.run_lock import hold_run_lock
from vtg.training.run_record import FILES, RunRecord
from vtg.versions import versions

log = logging.getLogger("vtg")

ABSENT = "(absent)"

FREE_FORM = ("trainer", "rl")
"""Groups whose keys other libraries define: one that is absent has the library's default."""

ANSWERS_DEPEND_ON = ("model.", "video.", "task.", "evaluation.max_new_tokens")
"""Prefixes of the settings that the base model's answers depend on."""

TRAINING_LOGS = ("train_log.jsonl", "completions", "tensorboard")
"""Files and folders that training appends to step by step."""

BATCHES = (
    *("batching.target_batch_tokens", "batching.target_batch_duration", "batching.max_batch_size"),
    *("batching.min_batch_size", "trainer.per_device_train_batch_size", "trainer.gradient_accumulation_steps"),
    "batching.global_size",
)
"""Settings that say what a batch holds, and how many make a step."""

SCRIPTS = {"rollout.engine": "train_rl.py", "predictor.kind": "train_latents.py"}
"""Setting → the script that alone has it; a run without any of them is of train_sft.py."""

Changes = Mapping[str, tuple[Any, Any]]
"""Key → its value before, and now."""


class RunDir:
    """The directory of one run, `output_dir`, and whether these settings may start or resume in it.

    Once there are checkpoints, the settings that decide what is learned must stay; those of the means (workers, cache,
    batch sizes) may change. A directory where only the base model was tested holds the settings its answers depend on,
    and an empty one takes any.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.path = Path(config.output_dir)

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Holds the directory's lock inside, once it was checked that this run may use it.

        Raises:
            ConfigError: as `check` does; another run is going on there; or it cannot be written to.
        """
        with ExitStack() as stack:
            with writing_to(self.path):
                if is_main_process():  # the ranks of one run would refuse each other
                    stack.enter_context(hold_run_lock(self.path))
            self.check()
            if is_main_process():
                stack.push(partial(self._record_end, len(RunRecord.read(self.path).history)))
            yield

    def _record_end(
        self, starts: int, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keeps how the start ended that was made since there were `starts`, for `python -m vtg.report --follow`."""
        state, why = "finished", ""
        if isinstance(error, SystemExit | KeyboardInterrupt):
            code = error.code if isinstance(error, SystemExit) else 130
            state, why = "stopped", f"exit code {code}"
        elif error is not None:
            state, why = "failed", str(error) or type(error).__name__
        # A disk that is full is what the run failed of: its own error is to be seen, not one of this.
        with suppress(OSError, ConfigError):
            if len(RunRecord.read(self.path).history) > starts:
                now = datetime.now().astimezone().isoformat(timespec="seconds")
                with RunRecord.update(self.path) as record:
                    record.history[-1]["end"] = {"time": now, "state": state, "why": why}

    def check(self) -> Changes:
        """The settings that differ from those of the run in the directory, all of which may change on a resume.

        Raises:
            ConfigError: for a setting that may not change, a run of a newer vtg, or where `resume` does not allow it.
        """
        config = self.config
        RunRecord.read(self.path)  # refuses a newer format before anything else is judged by it
        way_out = "choose another run_name or output_dir, or remove the folder"
        if config.resume == "never" and (self.is_trained or self.has_answers):
            raise ConfigError(f"resume = never, but {self.path} holds a run; {way_out}, or set resume=auto to go on")
        if config.resume == "must" and last_checkpoint(self.path) is None:
            raise ConfigError(f"resume = must, but {self.path} holds no checkpoint; set resume=auto to start")
        changes = self._changes()
        if not self.is_trained and not self.has_answers:
            return changes
        if self.settings and (program := _program(self.settings)) != _program(settings_of(config)):
            raise ConfigError(f"{self.path} holds a run of {program}; {way_out}")
        refused = {key: change for key, change in changes.items() if not self._may_change(key)}
        if refused:
            listed = "\n".join(f"  {key}: {before} there, {now} here" for key, (before, now) in refused.items())
            raise ConfigError(
                f"{self.path} holds a run with other settings:\n{listed}\nset {'it' if len(refused) == 1 else 'them'} "
                f"back, or {way_out}"
            )
        return changes

    def open(self) -> tuple[Path | None, Changes]:
        """Makes or enters the directory; returns the checkpoint to resume from, if any, and the changed settings.

        Raises:
            ConfigError: as `check` does, or the directory cannot be written to.
        """
        changes = self.check()
        checkpoint = last_checkpoint(self.path)
        # Every rank judges the directory as the last start left it, before the main process writes config.yaml anew.
        wait_for_all()
        if is_main_process():
            with writing_to(self.path):
                self._begin(checkpoint, changes)
        return checkpoint, changes

    @property
    def is_trained(self) -> bool:
        """Whether there are trained weights."""
        return last_checkpoint(self.path) is not None or has_weights(self.path / "best")

    @property
    def has_answers(self) -> bool:
        """Whether there are answers to test questions, if only to the first of them."""
        parts = (part for name in FILES.values() for part in self.path.glob(f"{name}.part*"))
        return any((self.path / name).is_file() for name in FILES.values()) or any(
            len(whole_lines(part)) > 1  # the first line is the header
            for part in parts
        )

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Key → value of the run in the directory, as it last started; empty where there is none."""
        path = self.path / "config.yaml"
        return flat(OmegaConf.to_container(OmegaConf.load(path))) if path.is_file() else {}

    def _may_change(self, key: str) -> bool:
        # Without weights only the base model's answers would be wrong under other settings.
        if not self.is_trained and not key.startswith(ANSWERS_DEPEND_ON):
            return True
        # Of latents a resume compares the clips of a step, which several settings and the ranks make (`ClipBatches`).
        if key in BATCHES and not isinstance(self.config, LatentsConfig) and not self._has_batch_sizes():
            return False
        return may_change_on_resume(key) and not _fixed_by_another_setting(key, self.config)

    def _has_batch_sizes(self) -> bool:
        """Whether the last checkpoint records the batch sizes of its steps; those before batches could change do not.

        Without them nobody can tell which samples of the epoch are left.
        """
        checkpoint = last_checkpoint(self.path)
        files = ("batches.json", '"sizes"'), ("rollouts.json", '"batches"')
        return checkpoint is not None and any(
            (checkpoint / name).is_file() and key in (checkpoint / name).read_text(encoding="utf-8")
            for name, key in files
        )

    def _changes(self) -> dict[str, tuple[Any, Any]]:
        before, now = self.settings, settings_of(self.config)
        if not before:
            return {}
        is_older = RunRecord.read(self.path).format == 0
        # A run of a vtg that had not yet a setting did what is its default now.
        defaults = settings_of(type(self.config)())
        changes = {}
        for key in sorted(before.keys() | now.keys()):
            pair = before.get(key, defaults.get(key, ABSENT)), now.get(key, ABSENT)
            if pair[0] == pair[1] or key == "resume":
                continue
            if is_older and ABSENT in pair and key.partition(".")[0] not in FREE_FORM:
                continue  # a setting that one of the two versions does not have
            changes[key] = pair
        return changes

    def _begin(self, checkpoint: Path | None, changes: Changes) -> None:
        """Writes run.json, config.yaml and environment.json, and removes the half of a checkpoint that a kill left."""
        self.path.mkdir(parents=True, exist_ok=True)
        is_new = not self.is_trained and not self.has_answers
        record = RunRecord() if is_new else RunRecord.read(self.path)
        if changes and is_new:
            log.info("%s: nothing was kept of a run with other settings; it begins anew", self.path)
        elif changes:
            verb = "resuming with" if self.is_trained else "with"
            for key, (before, now) in changes.items():
                log.info("%s %s = %s (was %s)", verb, key, now, before)
        if not self.is_trained:  # steps that no checkpoint holds are made again, and would be logged twice
            for name in TRAINING_LOGS:
                _remove(self.path / name)
        start = {"time": datetime.now().astimezone().isoformat(timespec="seconds")}
        more = {
            "checkpoint": checkpoint.name if checkpoint else None,
            "changes": {k: list(v) for k, v in changes.items()},
        }
        record.history.append(start | more)
        record.write(self.path)
        write_text(self.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(asdict(self.config))))
        write_json(self.path / "environment.json", environment())
        _remove(self.path / STAGING)


def settings_of(config: RunConfig) -> dict[str, Any]:
    """Key → value of every setting: `video.fps` → 2.0."""
    return flat(OmegaConf.to_container(OmegaConf.create(asdict(config))))


def _program(settings: Mapping[str, Any]) -> str:
    """The script whose run has these settings."""
    return next((script for key, script in SCRIPTS.items() if key in settings), "train_sft.py")


def _fixed_by_another_setting(key: str, config: RunConfig) -> bool:
    """Whether a setting that may change by itself decides what is learned, because of another setting's value."""
    if key == "trainer.learning_rate":  # their rate is a state, not a function of the step
        return config.trainer.get("lr_scheduler_type") in ("reduce_lr_on_plateau", "greedy")
    if not isinstance(config, SFTConfig):
        return False
    batching = config.batching
    # Which rows are one sample follows from the limits; prompts of RL are planned anew under others.
    makes_samples = bool(batching.share_video) and not isinstance(config, RLConfig)
    if key.startswith("batching.") and key.partition(".")[2] in ("target_batch_tokens", "target_batch_duration"):
        return batching.oversize == "skip" or makes_samples
    return key == "batching.max_batch_size" and makes_samples


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
        # As it was typed: `vtg.entry` puts the `++` there.
        "command": [word.removeprefix("++") for word in sys.argv],
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
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None  # installed from a wheel, or without git
    return head.stdout.strip()
