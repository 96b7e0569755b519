"""Checkpoints that are whole or not there: written beside, by all ranks, and renamed once each of them is done."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from vtg.errors import RunError
from vtg.output import follow_umask, sync, sync_one

STAGING = ".saving"
"""In a run directory: where a checkpoint is written before it takes its name. A kill leaves half of one here."""

BEST_BEFORE = ".best_before"
"""In a run directory whose steps are counted anew, because its ranks are others: the best weights until then."""


def rename_into_place(written: Path, place: Path) -> None:
    """Gives a folder its name at one stroke, once it is on the disk; another that has the name already goes."""
    follow_umask(written)
    sync(written)
    old = place.with_name(f".{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    written.rename(place)
    sync_one(place.parent)
    shutil.rmtree(old, ignore_errors=True)


def keep_best(best: Path, run: Path) -> Path:
    """Keeps the weights of a checkpoint whose name another will take; returns where they are now."""
    kept = run / BEST_BEFORE
    shutil.rmtree(kept, ignore_errors=True)
    try:
        shutil.copytree(best, kept, copy_function=os.link)
    except shutil.Error:  # a file system without links
        shutil.copytree(best, kept, dirs_exist_ok=True)
    return kept


@contextmanager
def explain_write_errors(folder: Path, what: str) -> Iterator[None]:
    """Says of an error inside what was to be written to which run directory, and what is left.

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
    said = str(error).strip().splitlines()[0][:300]
    try:
        shutil.rmtree(folder / STAGING, ignore_errors=True)  # the half that was written takes no room
        free = f"{shutil.disk_usage(folder.parent if not folder.exists() else folder).free / 1e9:.2f} GB are free there"
    except OSError:
        free = "its free space cannot be told"
    return RunError(
        f"{what} could not be written to {folder}: {said} ({free})\nMake room or lower trainer.save_total_limit; the "
        "checkpoints before it are whole, and the same command goes on from the last of them"
    )
