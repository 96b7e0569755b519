"""The benchmarks that need no peer outside the environment still run, on the least work that they take."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.soak
@pytest.mark.parametrize(
    "words",
    [
        ("grpo.py", "--quick"),
        ("scale.py", "--rows", "1000"),
        ("annotation_stores.py", "--rows", "1000", "--repeats", "1"),
        ("annotation_faults.py",),
        ("busy.py", "--busy", "1", "--steps", "1", "--rounds", "1"),
        ("startup.py", "--only", "^vtg", "--repeats", "1"),
    ],
)
def test_a_benchmark_runs_and_prints_its_table(words):
    command = [sys.executable, str(ROOT / "benchmarks" / words[0]), *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "|---" in done.stdout or done.stdout.startswith("| ")
