"""Checkpoints that are whole or not there: all ranks write to a staging folder, which is renamed once all are done."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from vtg.errors import RunError
from vtg.storage.atomic import follow_umask, sync, sync_one

STAGING = ".saving"
"""In a run directory: where a checkpoint is written before it takes its name. A kill leaves half of one here."""

# With another world size steps are counted anew, and a new checkpoint can take the name of the best one.
BEST_BEFORE = ".best_before"
"""In a run directory: the best weights of before the world size changed."""


def rename_into_place(written: Path, place: Path) -> None:
    """Renames a folder to `place`, once it is on the disk; replaces a folder that has the name."""
    follow_umask(written)  # safetensors makes files that only their owner can read
    sync(written)
    old = place.with_name(f".{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)  # a folder cannot be renamed onto one that has files
    written.rename(place)
    sync_one(place.parent)
    shutil.rmtree(old, ignore_errors=True)


def keep_best(best: Path, run: Path) -> Path:
    """Copies a checkpoint whose name another will take to `.best_before`; returns the copy."""
    copy = run / BEST_BEFORE
    shutil.rmtree(copy, ignore_errors=True)
    try:
        shutil.copytree(best, copy, copy_function=os.link)  # takes no room, and gigabytes no time
    except shutil.Error:  # a file system without links
        shutil.copytree(best, copy, dirs_exist_ok=True)
    return copy


@contextmanager
def explain_write_errors(folder: Path, what: str) -> Iterator[None]:
    """Explains an error inside: what was to be written where, and how much room there is.

    Raises:
        RunError: the disk is full, a limit is reached, or the folder cannot be written to.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise _not_written(folder, what, error) from error
    except RuntimeError as error:
        # torch.save: "PytorchStreamWriter failed writing file", "basic_ios::clear: iostream error", "unexpected pos"
        if not any(words in str(error) for words in ("StreamWriter", "iostream", "unexpected pos")):
            raise
        raise _not_written(folder, what, error) from error


def _not_written(folder: Path, what: str, error: Exception) -> RunError:
    reason = str(error).strip().splitlines()[0][:300]
    try:
        shutil.rmtree(folder / STAGING, ignore_errors=True)  # the half that was written takes no room
        free = f"{shutil.disk_usage(folder.parent if not folder.exists() else folder).free / 1e9:.2f} GB are free there"
    except OSError:
        free = "its free space cannot be told"
    return RunError(
        f"{what} could not be written to {folder}: {reason} ({free})\nMake room or lower trainer.save_total_limit; the "
        "checkpoints before it are whole, and the same command goes on from the last of them"
    )
