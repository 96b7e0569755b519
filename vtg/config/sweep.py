"""What became of a job of a sweep (`--multirun`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SweptRun:
    """One job.

    Attributes:
        folder: its `output_dir`.
        overrides: as the sweep gave them to it: `lora.r=8`.
        error: why it failed or was stopped; empty where it ended well.
    """

    folder: Path
    overrides: tuple[str, ...]
    error: str = ""


def differing(runs: Sequence[SweptRun]) -> list[str]:
    """Of each run, the overrides that not all have."""
    shared = set(runs[0].overrides).intersection(*(run.overrides for run in runs))
    return [" ".join(word.lstrip("+") for word in run.overrides if word not in shared) for run in runs]
