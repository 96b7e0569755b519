"""`run.json` of a run directory: what of a run its settings do not tell. Imports no torch.

`format` is raised by one whenever a reader of before would misunderstand what is written from then on (a key with
another meaning, a file that must be read with it); a new key that old readers may overlook does not raise it. Readers
take every format up to their own, so whoever raises it also says in `RunRecord.read` what an older one means. Format 0
is a directory without run.json. `vtg.json` of a checkpoint (`vtg.models.checkpoint`) has a format of its own.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vtg import __version__
from vtg.errors import ConfigError
from vtg.models.checkpoint import check_format
from vtg.output import write_json

RECORD_FILE = "run.json"

FORMAT = 1
"""Of run.json and of what stands beside it."""

FILES = {
    "base": "base_predictions.jsonl",
    "tuned": "predictions.jsonl",
    "shuffled": "shuffled_predictions.jsonl",
}
"""Where the answers of the base model, the tuned one, and the tuned one to shuffled videos are kept."""


@dataclass
class RunRecord:
    """What a run knows of itself.

    Attributes:
        rows: split → how many rows it had, and their digest (`SampleTable.digest`).
        base: what the answers of the base model depend on; empty while they are not complete.
        history: one entry for each start: its time, the checkpoint it resumed from, and the settings that changed,
            key → [before, now].
        trained: of a training that came to its end, the settings that say how long it was to be.
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
        if not path.is_file():
            return cls(format=0)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            check_format(found, FORMAT, path)
            known = {name: found[name] for name in cls.__dataclass_fields__ if name in found}
            return cls(**known)
        except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, TypeError) as error:
            raise ConfigError(f"{path}: is not the record of a run ({error}); choose another run_name") from None

    def write(self, folder: Path) -> None:
        """Writes it as this version's."""
        write_json(folder / RECORD_FILE, asdict(self) | {"format": FORMAT, "vtg": __version__})
