"""Answers to the first of many questions, kept in a file while the rest are asked: a stop costs one batch of them."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vtg.data.skip_report import Skipped
from vtg.storage.atomic import write_text
from vtg.storage.file_stamp import file_stamp
from vtg.storage.json_files import json_text, whole_lines

log = logging.getLogger(__name__)


class AnswersSoFar:
    """What was answered, in order, before a run was stopped; what is answered now goes to the file alone.

    Args:
        path: of the file: a line of what it belongs to, and one of each batch.
        told: all that the answers and their batches depend on, as JSON values. A file with another one begins anew.

    Attributes:
        rows: prediction rows by the index of the sample.
        skipped: the samples whose video could not be read.
    """

    def __init__(self, path: Path, told: Mapping[str, Any]) -> None:
        self.path = path
        self.rows: dict[int, dict[str, Any]] = {}
        self.skipped: list[Skipped] = []
        header = json.dumps(told, sort_keys=True)
        first, *batches = whole_lines(path) or [""]
        if first != f"{header}\n":
            batches = []
        for line in batches:
            found = json.loads(line)
            self.rows |= {int(index): row for index, row in found["rows"].items()}
            self.skipped += [Skipped(**one) for one in found["skipped"]]
        if self.count:
            log.info("going on after %d answers that %s holds", self.count, path)
        write_text(path, "".join([f"{header}\n", *batches]))

    @property
    def count(self) -> int:
        """Samples that were done with."""
        return len(self.rows) + len(self.skipped)

    def add(self, rows: Mapping[int, dict[str, Any]], skipped: Sequence[Skipped]) -> None:
        """Keeps the next batch."""
        line = json_text({"rows": rows, "skipped": [one.__dict__ for one in skipped]})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def remove(self) -> None:
        """Removes the file, once the answers are kept elsewhere."""
        self.path.unlink(missing_ok=True)


def stamps(folder: str | Path, *patterns: str) -> list[list[Any]]:
    """[name, bytes, time of the last change] of the files in `folder` that match, or of `folder` where it is a file.

    Tells whether it is the same as before; empty for what is not on this machine.
    """
    path = Path(folder)
    files = [path] if path.is_file() else sorted(file for pattern in patterns for file in path.glob(pattern))
    return [[file.name, *file_stamp(str(file))] for file in files]
