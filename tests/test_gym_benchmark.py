"""The command that compares answer forms, token initialisations and losses on the gym."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vtg.config.loss_settings import LossConfig
from vtg.storage.json_files import read_jsonl

ROOT = Path(__file__).parents[1]
PROGRAM = str(ROOT / "benchmarks" / "gym.py")


def gym(*words: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, PROGRAM, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, cwd=ROOT)


def test_the_plan_has_every_form_initialisation_and_loss(tmp_path):
    done = gym("-o", str(tmp_path / "out"), "--list", "--everything")
    assert done.returncode == 0, done.stderr
    names = [line.split(":")[0] for line in done.stdout.splitlines()[:-1]]
    forms = ["seconds", "relative", "bins", *(f"tokens-{one}" for one in ("sinusoidal", "mean", "random", "numbers"))]
    losses = ("cross_entropy", "smoothed", "soft_time", "combined")
    assert set(names) == {f"{form}-{loss}-full" for form in forms for loss in losses} | {
        f"{form}-cross_entropy-lora" for form in forms
    }
    assert done.stdout.splitlines()[-1] == "35 cases x 3 seeds" and not (tmp_path / "out").exists()
    by_default = gym("-o", str(tmp_path / "out"), "--list").stdout
    assert "19 cases x 3 seeds" in by_default and "tokens-best-combined-full" in by_default
    assert {path.stem for path in (ROOT / "conf" / "loss").glob("*.yaml")} >= set(losses) and LossConfig()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "required: -o/--out"),
        (("-o", "x", "--seeds", "0,a"), "--seeds 0,a: give whole numbers, such as 0,1,2"),
        (("-o", "x", "--questions", "once,many"), "--questions many: there are once, nth, order"),
        (("-o", "x", "--jobs", "0"), "--jobs 0: give 1 or more"),
        (("-o", "x", "video.max_frames"), "video.max_frames: is no setting; write key=value"),
    ],
)
def test_an_option_that_cannot_be_is_named(words, told):
    done = gym(*words)
    assert done.returncode == 2 and told in done.stderr, done.stderr


@pytest.mark.soak
def test_a_reduced_plan_trains_resumes_and_names_what_failed(tmp_path):
    out = tmp_path / "out"
    words = ("-o", str(out), "--quick", "--seeds", "0,1", "--jobs", "2")
    # A deadline that is over at once: the data are made, no run is started, and that is said.
    late = gym(*words, "--deadline-s", "0", timeout_s=300)
    assert late.returncode == 0 and "4 runs were not started: the deadline is over" in late.stdout, late.stderr
    # A run whose folder is in the way fails; the others go on.
    blocked = out / "runs" / "tokens-mean-cross_entropy-full-seed1"
    blocked.parent.mkdir()
    blocked.write_text("in the way")
    first = gym(*words, timeout_s=900)
    assert first.returncode == 1, first.stdout + first.stderr
    assert "failed: tokens-mean-cross_entropy-full-seed1: " in first.stderr
    assert "tokens-mean-combined-full-seed1: mIoU" in first.stdout
    document = json.loads((out / "results.json").read_text())
    assert len(document["runs"]) == 5 and set(document["failed"]) == {"tokens-mean-cross_entropy-full-seed1"}
    assert all(len(run["ious"]) == len(read_jsonl(out / "test.jsonl")) for run in document["runs"])
    # What is finished stays, what failed is tried again.
    blocked.unlink()
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").glob("*/metrics.json")}
    second = gym(*words, timeout_s=300)
    assert second.returncode == 0, second.stdout + second.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    table = (out / "table.md").read_text()
    assert table.rstrip("\n") in second.stdout
    rows = [line for line in table.splitlines() if line.startswith("| tokens | mean | cross_entropy | full | 2 |")]
    assert len(rows) == 1 and len(re.findall("±", rows[0])) == 3
    assert "training prior, blind" in table and "longer clips" in table
    other = gym(*words, "--steps", "3")
    assert other.returncode == 2 and "holds runs of other settings (steps); choose another -o" in other.stderr
