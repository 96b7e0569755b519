"""Rows that are kept apart from the good ones: the file beside them, and what it says of each."""

import json
from collections.abc import Sequence
from pathlib import Path

from vtg.annotations.sample import Problem


def rejects_path(out: str) -> Path:
    """Beside a file of good rows, that of the others."""
    return Path(out).with_suffix(".rejects.jsonl")


def rejected_line(raw: bytes, problems: Sequence[Problem], *, place: str) -> str:
    """The line of a rejected row: where it stood, why it is rejected, and its text."""
    reasons = [f"{problem.field}: {problem.message}" for problem in problems]
    # A row may be rejected because it is no UTF-8: its bytes stay readable.
    text = raw.decode(errors="backslashreplace").strip()
    return json.dumps({"place": place, "problems": reasons, "row": text}) + "\n"
