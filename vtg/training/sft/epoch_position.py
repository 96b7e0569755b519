"""How far an epoch of planned batches has come, as a checkpoint remembers it (`batches.json`)."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vtg.storage.json_files import write_json

POSITION_FILE = "batches.json"


@dataclass(frozen=True)
class BatchSize:
    """Limits of a batch, and batches per optimizer step; a run may resume with other values of them.

    Attributes:
        batch_size: samples, under `by: fixed`.
        budget: tokens or seconds of video, otherwise.
        max_batch_size: samples; 0: no limit.
        min_batch_size: samples, where the budget allows.
        accumulation: batches of an optimizer step.
    """

    batch_size: int
    budget: float
    max_batch_size: int
    min_batch_size: int
    accumulation: int

    @classmethod
    def of_trainer(cls, batch_size: int, accumulation: int, budget: float) -> "BatchSize":
        """That of TrainingArguments and of a budget, without limits of its own."""
        return cls(batch_size, budget, max_batch_size=0, min_batch_size=1, accumulation=accumulation)


@dataclass(frozen=True)
class Position:
    """How far an epoch has come.

    Attributes:
        parts: (world size, batches done per rank), one for every world size the epoch was trained with, in order.
        log_lines: lines of train_log.jsonl by then.
        sizes: the batch size of each part; empty where all had the planner's.
        shift: the run's optimizer steps minus those that batches of the latest size would have taken until then.
        drawn: of a mixture, samples and tokens of each source that all ranks had trained on (`DrawnSources.total`).
    """

    epoch: int
    # The plan is a function of (seed, epoch, world size), so these few numbers say which samples are left: no list of
    # millions of indices is saved, and a resume draws the same batches.
    parts: tuple[tuple[int, int], ...]
    log_lines: int | None = None
    sizes: tuple[BatchSize, ...] = ()
    shift: int = 0
    drawn: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, checkpoint: Path) -> "Position | None":
        """The position of a checkpoint folder, None where it has none."""
        file = checkpoint / POSITION_FILE
        if not file.is_file():
            return None
        return cls.of(json.loads(file.read_text(encoding="utf-8")))

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> "Position":
        """The position that `asdict` made this of, as JSON keeps it."""
        return cls(
            saved["epoch"],
            tuple((ranks, steps) for ranks, steps in saved["parts"]),
            saved["log_lines"],
            tuple(BatchSize(**size) for size in saved.get("sizes", ())),  # absent: saved before sizes could change
            saved.get("shift", 0),
            saved.get("drawn", {}),  # absent: saved before there were mixtures
        )

    def write(self, checkpoint: Path) -> None:
        """Writes the position into a checkpoint folder."""
        write_json(checkpoint / POSITION_FILE, asdict(self))
