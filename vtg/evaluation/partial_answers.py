"""Answers of an evaluation in progress, saved batch by batch: an interruption costs one batch of them."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from vtg.data.skip_report import Skipped
from vtg.storage.atomic import write_text
from vtg.storage.file_stamp import file_stamp
from vtg.storage.json_files import json_text, whole_lines

log = logging.getLogger(__name__)


class AnswerLog(Protocol):
    """What `vtg.evaluation.generate.predict` goes on from, and gives every new batch to."""

    rows: dict[int, dict[str, Any]]
    skipped: dict[int, Skipped]

    def add(self, rows: Mapping[int, dict[str, Any]], skipped: Mapping[int, Skipped]) -> None:
        """Takes the next batch."""
        ...


class PartialAnswers:
    """The answers given before a run was interrupted, in order; new ones are appended to the file alone.

    Args:
        path: of the file: a header line (`inputs`), and a line for each batch.
        inputs: all that the answers and their batches depend on, as JSON values. A file with other inputs is replaced.

    Attributes:
        rows: prediction rows by the index of the sample.
        skipped: the samples whose video could not be read, by index.
    """

    def __init__(self, path: Path, inputs: Mapping[str, Any]) -> None:
        self.path = path
        self.rows: dict[int, dict[str, Any]] = {}
        self.skipped: dict[int, Skipped] = {}
        header = json.dumps(inputs, sort_keys=True)
        first, *batches = whole_lines(path) or [""]
        if first != f"{header}\n":
            batches = []  # answers of another model or other rows must not be mixed with these
        for line in batches:
            batch = json.loads(line)
            self.rows |= {int(index): row for index, row in batch["rows"].items()}
            # Files of before say no indices of what they skipped, under another key: that is asked again.
            self.skipped |= {int(index): Skipped(**entry) for index, entry in batch.get("given_up", {}).items()}
        if self.count:
            log.info("going on after %d answers that %s holds", self.count, path)
        # Anew: a line that was cut off by the interruption would corrupt the next one.
        write_text(path, "".join([f"{header}\n", *batches]))

    @property
    def count(self) -> int:
        """Samples that need not be asked again, the skipped ones included."""
        return len(self.rows) + len(self.skipped)

    def add(self, rows: Mapping[int, dict[str, Any]], skipped: Mapping[int, Skipped]) -> None:
        """Appends the next batch to the file."""
        line = json_text({"rows": rows, "given_up": {index: entry.__dict__ for index, entry in skipped.items()}})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def remove(self) -> None:
        """Removes the file, once the answers are saved elsewhere."""
        self.path.unlink(missing_ok=True)


def stamps(folder: str | Path, *patterns: str) -> list[list[Any]]:
    """[name, bytes, time of the last change] of the files in `folder` that match, or of `folder` where it is a file.

    Tells whether it is the same as before; empty for what is not on this machine.
    """
    path = Path(folder)
    files = [path] if path.is_file() else sorted(file for pattern in patterns for file in path.glob(pattern))
    return [[file.name, *file_stamp(str(file))] for file in files]
