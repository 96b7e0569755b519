"""The linter, the formatter and the type checker find nothing, and CI runs the command that the README names."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMAND = "python3 -m venv .venv && . .venv/bin/activate && pip install -e '.[test]' && python -m pytest"


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("ruff", ["check", "."]),
        ("ruff", ["format", "--check", "."]),
        pytest.param("pyright", ["--pythonpath", sys.executable], marks=pytest.mark.slow),
    ],
    ids=["ruff check", "ruff format", "pyright"],
)
def test_nothing_is_found_in_the_whole_tree(tool, arguments):
    if importlib.util.find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed; pip install -e '.[test]'")
    done = subprocess.run(
        [sys.executable, "-m", tool, *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", [".ci/run", "README.md", "CONTRIBUTING.md"])
def test_there_is_one_command_for_all_checks(file):
    assert COMMAND in (ROOT / file).read_text(encoding="utf-8")
