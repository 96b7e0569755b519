"""How tests call commands on files: in their own process, on files that they write."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def called(
    main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str], *words: object
) -> tuple[int, str, str]:
    """What `main` returns for these words, and its standard output and error."""
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def write(path: Path, content: Any) -> str:
    """The name of a file of rows, where that ends in .jsonl, of a text as it stands, or else of a JSON document."""
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in content) + "\n")
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=2))
    return str(path)
