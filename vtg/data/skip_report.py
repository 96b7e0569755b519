"""Rows that a run leaves out: counted, written to skipped.jsonl, and limited to a share of all rows."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vtg.errors import RunError
from vtg.storage.atomic import write_text
from vtg.storage.json_files import json_text, whole_lines
from vtg.storage.locks import locked

log = logging.getLogger(__name__)


class TooManyBadRows(RunError):
    """More rows than `data.max_bad_share` cannot be used; the message lists them."""


@dataclass(frozen=True)
class Skipped:
    """A row or sample that was left out: where it stands, and why.

    `bad`: False for what the settings leave out, which is nobody's fault and does not count against the share.
    """

    place: str
    reason: str
    qid: str | None = None
    video: str | None = None
    bad: bool = True

    @property
    def key(self) -> tuple[str, str | None]:
        """Tells it from others: a file that is several sources of a mixture has the same places, under other qids."""
        return self.place, self.qid

    def line(self) -> str:
        """Of skipped.jsonl."""
        row = {key: value for key, value in self.__dict__.items() if key != "bad" or not value}
        return json_text(row) + "\n"


class SkipReport:
    """Counts what is left out of a run, writes it to `skipped.jsonl`, and stops the run past the configured share.

    A row that is met again (in the next epoch, after a resume) is counted once. All ranks of a run share the file:
    what one rank skips, the others count and do not write again.

    Args:
        resumes: the run is resumed, so what is in the file stays.
        is_begun: another rank of the run has begun the file.
        group: of settings, in which messages name `max_bad_share` and `video_dir`.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bad_share: float,
        resumes: bool = False,
        is_begun: bool = False,
        group: str = "data",
    ) -> None:
        self.path, self.max_bad_share, self.group = path, max_bad_share, group
        self.total = 0
        self.skipped: dict[tuple[str, str | None], Skipped] = {}
        if not is_begun:
            # A line that a kill has cut off would make one of it and the next, which is no JSON.
            write_text(path, "".join(whole_lines(path) if resumes else ()))
        self._read_bytes = 0
        with self.path.open("rb") as file:
            self._written = {entry.key for entry in self._read_new(file)}

    def expect(self, rows: int) -> None:
        """Adds `rows` to those the share is measured against."""
        self.total += rows

    def add(self, skipped: Sequence[Skipped]) -> None:
        """Records what was skipped.

        Raises:
            TooManyBadRows: when that makes more than the configured share.
        """
        fresh = [entry for entry in skipped if entry.key not in self.skipped]
        if not fresh:
            return
        # All ranks read the same rows, so several write at once.
        with self.path.open("a+b") as file, locked(file.fileno()):
            for entry in self._read_new(file):
                self._written.add(entry.key)
                if entry.bad:
                    self.skipped[entry.key] = entry
            new = [entry for entry in fresh if entry.key not in self._written]
            self._written |= {entry.key for entry in new}
            file.write("".join(entry.line() for entry in new).encode())
            file.flush()  # before another rank gets the lock, and reads what is written
        for entry in fresh:
            if entry.bad:
                self.skipped[entry.key] = entry
                log.warning("skipped %s: %s", entry.place, entry.reason)
        # Against all rows and not those read so far: else one bad row among the first few would end a long run.
        if len(self.skipped) > self.max_bad_share * self.total:
            listed = "\n".join(f"  {entry.place}: {entry.reason}" for entry in list(self.skipped.values())[:20])
            more = f"\n  and {len(self.skipped) - 20} more in {self.path}" if len(self.skipped) > 20 else ""
            raise TooManyBadRows(
                f"{len(self.skipped)} of {self.total} rows cannot be used, more than {self.group}.max_bad_share = "
                f"{self.max_bad_share}:\n{listed}{more}\nMend or remove them (python -m vtg.validate --probe --fix OUT "
                f"FILE writes the good rows), or raise {self.group}.max_bad_share"
            )

    def _read_new(self, file: BinaryIO) -> list[Skipped]:
        """The entries that this or another process has added to the file since the last call."""
        file.seek(self._read_bytes)
        content = file.read()
        self._read_bytes += len(content)
        return [Skipped(**json.loads(line)) for line in content.split(b"\n") if line]
