"""Callbacks that show and record training: a progress bar, and train_log.jsonl."""

import json
from datetime import datetime
from pathlib import Path

from transformers import TrainerCallback

from vtg.progress_bar import ProgressBar
from vtg.storage.atomic import write_text
from vtg.storage.json_files import whole_lines

SHOWN = (
    ("loss", "loss"),
    ("eval_mIoU", "mIoU"),
    ("eval_score", "score"),
    ("reward", "reward"),
    ("iou/mean", "IoU"),
    ("batch/samples", "batch"),
    ("batch/padding", "padding"),
    ("batch/tokens_per_second", "tok/s"),
)
"""Entries of the log that the progress bar shows, and their names there."""


class Progress(TrainerCallback):
    """A progress bar over optimizer steps, with the latest loss and validation mIoU."""

    bar: ProgressBar | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        self.shown: dict[str, str] = {}
        self.bar = ProgressBar(state.max_steps, title="training", unit="step", initial=state.global_step, leave=True)

    def on_step_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **kwargs):
        shown = {short: f"{logs[key]:.3g}" for key, short in SHOWN if logs and key in logs}
        if shown and self.bar is not None:
            self.shown |= shown
            self.bar.note(self.shown)

    def on_train_end(self, args, state, control, **kwargs):
        self.close()

    def close(self) -> None:
        """Ends the line of the bar."""
        # Called after an error too, where on_train_end is not: its text gets a line of its own.
        if self.bar is not None:
            self.bar.close()


class TrainLog(TrainerCallback):
    """`train_log.jsonl`: one line for each log entry, with its step and its time.

    Lines after the step of a resume are dropped.

    Attributes:
        lines: lines of the file; set before training to those that the checkpoint was saved with, where that is known.
    """

    # By lines rather than by step where possible: after a change of the world size steps are counted anew, and lines
    # of before the checkpoint can have a higher step than it.

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: int | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        lines = whole_lines(self.path)
        if self.lines is not None:
            valid = lines[: self.lines]
        else:
            valid = [line for line in lines if json.loads(line)["step"] <= state.global_step and state.global_step]
        self.lines = len(valid)
        write_text(self.path, "".join(valid))

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero and logs and state.max_steps:
            # TRL's mean of a reward that no completion got: all were of tasks that it is not for.
            logs = {key: value for key, value in logs.items() if not (key.startswith("rewards/") and value != value)}
            with self.path.open("a", encoding="utf-8") as file:
                now = datetime.now().astimezone().isoformat(timespec="milliseconds")
                file.write(json.dumps({"step": state.global_step, "time": now, **logs}) + "\n")
            self.lines = (self.lines or 0) + 1
