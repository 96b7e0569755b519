"""`run.json` of a run directory: the facts of a run that its settings do not hold. Imports no torch.

`format` is raised by one whenever a reader of before would misunderstand what is written from then on (a key with
another meaning, a file that must be read with it); a new key that old readers may overlook does not raise it. Readers
take every format up to their own, so whoever raises it also says in `RunRecord.read` what an older one means. Format 0
is a directory without run.json. `vtg.json` of a checkpoint (`vtg.models.checkpoint`) has a format of its own.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vtg import __version__
from vtg.errors import ConfigError
from vtg.models.checkpoint import check_format
from vtg.storage.json_files import write_json

RECORD_FILE = "run.json"

FORMAT = 1
"""Of run.json and of the files beside it."""

FILES = {
    "base": "base_predictions.jsonl",
    "tuned": "predictions.jsonl",
    "shuffled": "shuffled_predictions.jsonl",
}
"""Where the answers of the base model, the tuned one, and the tuned one to shuffled videos are kept."""


@dataclass
class RunRecord:
    """What a run remembers from one start to the next.

    Attributes:
        rows: split → how many rows it had, and their digest (`SampleTable.digest`).
        base: count and digest of the test rows that the base model has answered; empty until it has answered all.
        history: one entry for each start: its time, the checkpoint it resumed from, the settings that changed,
            key → [before, now], and its `end`: `time`, `state` (finished, stopped or failed) and `why`. A start that
            was killed has none.
        trained: of a training that came to its end: `length`, the settings that say how long it was to be, and
            `said`, notes on the weights that were chosen.
        notes: what a reader of the scores has to know, a sentence each.
    """

    format: int = FORMAT
    vtg: str | None = None
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    base: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    trained: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> "RunRecord":
        """The record of a run directory; an empty one of format 0 where there is none.

        Raises:
            ConfigError: it is of a newer format, or broken.
        """
        path = folder / RECORD_FILE
        if not path.is_file():  # of a vtg before run.json, whose runs may still be resumed
            return cls(format=0)
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            check_format(saved, FORMAT, path)
            # Keys of a newer vtg that left the format as it is may be overlooked; see above.
            return cls(**{name: saved[name] for name in cls.__dataclass_fields__ if name in saved})
        except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, TypeError) as error:
            # Not begun anew: without its rows and notes a resume could not tell that the data changed.
            raise ConfigError(f"{path}: is not the record of a run ({error}); choose another run_name") from None

    @classmethod
    @contextmanager
    def update(cls, folder: Path) -> Iterator["RunRecord"]:
        """The record to be changed inside, and written after; an error inside leaves the file as it was.

        Only the main process may, or changes of one would be lost to another.
        """
        # Read anew each time: other parts of the run have written their own keys since.
        record = cls.read(folder)
        yield record
        record.write(folder)

    def write(self, folder: Path) -> None:
        """Writes it in this version's format."""
        write_json(folder / RECORD_FILE, asdict(self) | {"format": FORMAT, "vtg": __version__})
