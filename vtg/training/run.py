"""What every training run has, whichever way it trains: its directory, its arguments, its log, its way to stop."""

import dataclasses
import difflib
import importlib.metadata
import json
import logging
import os
import platform
import shutil
import signal
import subprocess
import sys
import warnings
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from omegaconf import OmegaConf
from tqdm import tqdm
from transformers import TrainerCallback, TrainingArguments

from vtg.config.schema import SFTConfig
from vtg.errors import ConfigError
from vtg.models.checkpoint import last_checkpoint
from vtg.output import write_json, write_text
from vtg.training.processes import is_main_process, wait_for_all
from vtg.training.saving import STAGING
from vtg.training.zero.settings import deepspeed_settings, launch_alone

log = logging.getLogger("vtg")

PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "peft",
    "trl",
    "accelerate",
    "deepspeed",
    "flash-attn",
    "av",
    "numpy",
)

OURS = {
    "output_dir": "output_dir",
    "seed": "seed",
    "data_seed": "seed",
    "resume_from_checkpoint": "resume",
    "ignore_data_skip": "nothing (a run that goes on never trains again what it trained)",
    "dataloader_drop_last": "batching.drop_last",
    "dataloader_persistent_workers": "nothing (workers start anew with every epoch, whose frames and prompts differ)",
    "train_sampling_strategy": "batching.by",
    "deepspeed": "deepspeed=zero2 (or zero3, zero2_offload, zero3_offload), or deepspeed.file",
    "auto_find_batch_size": "batching.target_batch_tokens",
    "logging_nan_inf_filter": "on_nan",
    "remove_unused_columns": "nothing (the rows are read as they are)",
    "load_best_model_at_end": "data.val_file or data.val_share (the best mIoU is kept where there is validation)",
    "metric_for_best_model": "nothing (it is mIoU)",
    "greater_is_better": "nothing (a higher mIoU is better)",
}
"""TrainingArguments that vtg sets, and the key to set instead."""

FREE_KEYS = ("resume", "on_nan")
"""Settings that may differ when a run goes on."""


def start_logging(level: int = logging.INFO) -> None:
    """Sends vtg's log lines to stderr, from the main process alone, and quiets libraries."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger().handlers[:] = [handler]
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("vtg").setLevel(level if is_main_process() else logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


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
    versions = {}
    for name in ("vtg", *PACKAGES):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "git_commit": _git_commit(),
        "command": sys.argv,
        "cpus": os.cpu_count(),
        "gpus": gpus,
        "world_size": int(os.environ.get("WORLD_SIZE", "1")),
    }


def has_validation(config: SFTConfig) -> bool:
    """Whether there are samples to validate on while training."""
    return config.data.val_file is not None or config.data.val_share > 0


def training_arguments(
    config: SFTConfig, kind: type[TrainingArguments] = TrainingArguments, **more: Any
) -> TrainingArguments:
    """`trainer.*`, `more` and what follows from the other settings, as TrainingArguments or their subclass `kind`.

    Raises:
        ConfigError: for a name TrainingArguments does not have, one that vtg sets, or a value of the wrong type.
    """
    known = {field.name: field for field in dataclasses.fields(TrainingArguments) if field.init}
    given = dict(config.trainer)
    for key, value in given.items():
        if key in OURS:
            raise ConfigError(f"trainer.{key} is set by vtg; set {OURS[key]} instead")
        if key not in known:
            close = difflib.get_close_matches(key, known, n=3)
            hint = (
                f"did you mean {' or '.join(close)}?" if close else "see transformers.TrainingArguments for its names"
            )
            raise ConfigError(f"trainer.{key}: TrainingArguments of transformers has no such setting; {hint}")
        if isinstance(known[key].default, (int, float)) and isinstance(value, str):
            given[key] = number(f"trainer.{key}", value)
    validated = has_validation(config)
    if not validated:
        given["eval_strategy"] = "no"
    # Without it several processes on CPUs would each be told that it is alone.
    given.setdefault("use_cpu", not torch.accelerator.is_available())
    on_gpu = torch.cuda.is_available() and not given.get("use_cpu", False)
    given.setdefault("dataloader_pin_memory", on_gpu)
    given.setdefault("bf16", on_gpu and config.model.dtype != "float16")
    given.setdefault("fp16", on_gpu and config.model.dtype == "float16")
    given.setdefault("gradient_checkpointing_kwargs", {"use_reentrant": False})
    given.setdefault("ddp_find_unused_parameters", False)  # every batch has a video, and so uses all of them
    settings = deepspeed_settings(config.deepspeed)
    if settings is not None:
        if find_spec("deepspeed") is None:
            raise ConfigError("deepspeed: is not installed; pip install deepspeed, or set deepspeed=none")
        given["deepspeed"] = settings
        launch_alone()
    try:
        arguments = kind(
            **(given | more),
            output_dir=config.output_dir,
            seed=config.seed,
            data_seed=config.seed,
            remove_unused_columns=False,
            logging_nan_inf_filter=False,  # which would hide what on_nan looks for
            load_best_model_at_end=validated,
            metric_for_best_model="mIoU" if validated else None,
            greater_is_better=True if validated else None,
            disable_tqdm=True,
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"trainer: {error}") from error
    if settings is not None:
        # ZeRO-3 partitions a model as it is loaded, and must know of its processes by then.
        import deepspeed  # type: ignore[import-not-found]

        deepspeed.init_distributed("gloo" if arguments.use_cpu else "nccl")
    log.debug("training on %s", arguments.device)  # asked for it, they start the process group of several processes
    return arguments


SHOWN = (
    ("loss", "loss"),
    ("eval_mIoU", "mIoU"),
    ("reward", "reward"),
    ("iou/mean", "IoU"),
    ("batch/samples", "batch"),
    ("batch/padding", "padding"),
    ("batch/tokens_per_second", "tok/s"),
)
"""Entries of the log that the progress bar shows, and their names there."""


class Progress(TrainerCallback):
    """A progress bar over optimizer steps, with the latest loss and validation mIoU."""

    bar: tqdm | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        self.shown: dict[str, str] = {}
        self.bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc="training",
            unit="step",
            disable=not is_main_process(),
        )

    def on_step_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **kwargs):
        for key, short in SHOWN:
            if self.bar is not None and logs and key in logs:
                self.shown[short] = f"{logs[key]:.3g}"
                self.bar.set_postfix(self.shown)

    def on_train_end(self, args, state, control, **kwargs):
        self.close()

    def close(self) -> None:
        """Ends the line of the bar; also where training ends by an error, which then has a line of its own."""
        if self.bar is not None:
            self.bar.close()


class TrainLog(TrainerCallback):
    """`train_log.jsonl`: one line for each log entry, with its step. Lines after the step of a resume are dropped.

    `lines`: written so far; set before training to what a checkpoint was saved with, where that is known: right also
    where steps were counted otherwise (with another number of ranks).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: int | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        if self.lines is not None:
            kept = lines[: self.lines]
        else:
            kept = [line for line in lines if json.loads(line)["step"] <= state.global_step and state.global_step]
        self.lines = len(kept)
        write_text(self.path, "".join(f"{line}\n" for line in kept))

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero and logs and state.max_steps:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": state.global_step, **logs}) + "\n")
            self.lines = (self.lines or 0) + 1


class StopOnSignal(TrainerCallback):
    """SIGTERM, SIGUSR1 (which Slurm sends before the time is up) or Ctrl-C: the step is finished, a checkpoint saved,
    and training ends; a second Ctrl-C ends it at once.

    `exit_code` is then 128 plus the signal's number, else None.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._before: dict[int, Any] = {}

    def on_train_begin(self, args, state, control, **kwargs):
        for name in ("SIGTERM", "SIGINT", "SIGUSR1"):
            number = getattr(signal, name, None)  # Windows has no SIGUSR1
            if number is not None:
                self._before[number] = signal.signal(number, self._note)

    def on_step_end(self, args, state, control, **kwargs):
        if self._any_rank():
            control.should_save = True
            control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs):
        self.let_go()

    def let_go(self) -> None:
        """Signals are handled as before; also where training ends by an error."""
        while self._before:
            signal.signal(*self._before.popitem())

    def _note(self, number: int, frame: Any) -> None:
        if self.exit_code is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.exit_code = 128 + number
        log.warning("%s: saving a checkpoint after this step, then stopping", signal.Signals(number).name)

    def _any_rank(self) -> bool:
        if not torch.distributed.is_initialized():
            return self.exit_code is not None
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        code = torch.tensor(self.exit_code or 0, device=device)
        torch.distributed.all_reduce(code, op=torch.distributed.ReduceOp.MAX)
        self.exit_code = int(code) or None
        return self.exit_code is not None


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{prefix}{key}.").items()}
    return {prefix[:-1]: value}


def number(key: str, value: str) -> float:
    """The number that a setting's text says. Raises ConfigError where it says none."""
    try:
        return float(value)
    except ValueError:
        raise ConfigError(f"{key} = {value!r}: must be a number") from None


def _git_commit() -> str | None:
    folder = Path(__file__).parent
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
