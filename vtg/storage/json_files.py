"""JSON documents and JSON Lines, written atomically, with any text that a file name can hold."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vtg.storage.atomic import write_text


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """One JSON document, written as `write_text` does."""
    write_text(path, json_text(value, indent=1) + "\n")


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[dict[str, Any]]) -> None:
    """One JSON object a line, written as `write_text` does."""
    write_text(path, "".join(json_text(row) + "\n" for row in rows))


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON that UTF-8 can hold: text as it is, but escaped where it has half characters, as odd file names do."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def read_jsonl(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The objects of a file that `write_jsonl` wrote."""
    # Not by `str.splitlines`, which parts lines at U+2028 and its like too; JSON strings hold those as they are.
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").split("\n") if line]


def whole_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a file that others were added to one by one, each with its end; not the half that a kill left."""
    path = Path(path)
    if not path.is_file():
        return []
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    return [f"{line}\n" for line in lines]
