"""The command that trains on a mixture of tasks and holds that the same stream comes again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = str(ROOT / "benchmarks" / "mixture.py")


@pytest.mark.soak
def test_a_reduced_run_draws_from_five_forms_and_holds_the_stream(tmp_path):
    command = [sys.executable, PROGRAM, "-o", str(tmp_path / "out"), "--quick", "--seeds", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(found["held"]) == 6 and all(found["held"].values())
    (run,) = found["runs"]
    assert set(run["scores"]["tuned"]) == {"span", "points", "tracks", "count", "qa", "caption"}
    assert len(run["sources"]) == 5 and all(source["samples"] for source in run["sources"])
    assert (tmp_path / "out" / "table.md").read_text().count("|---") == 12


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "required: -o/--out"),
        (("-o", "x", "--seeds", "0,a"), "--seeds 0,a: give whole numbers, such as 0,1"),
        (("-o", "x", "--steps", "0"), "--steps 0: give 1 or more"),
        (("-o", "x", "video.max_frames"), "video.max_frames: is no setting; write key=value"),
    ],
)
def test_an_option_that_cannot_be_is_named(words, told):
    done = subprocess.run([sys.executable, PROGRAM, *words], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 2 and told in done.stderr, done.stderr
