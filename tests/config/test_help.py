"""`--help` of every program: a line of explanation beside every setting, and no choice that is none."""

import os
import re
import subprocess
import sys

import pytest
from forked import ROOT, run

from vtg.config.help import SETTINGS_BEGIN

PROGRAMS = ("sft", "rl", "doctor", "predict", "score", "future")


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_explains_every_setting_in_one_line(program):
    done = run(f"vtg.{program}", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    shown = done.stdout[done.stdout.index(SETTINGS_BEGIN) :].splitlines()[2:]
    block = shown[: shown.index("")]
    keys = [line for line in block if re.match(r"( *)\w+:", line) and not re.match(r" +(weight|threshold):", line)]
    assert len(keys) > 50
    assert [line for line in keys if " # " not in line] == []


def test_help_shows_the_values_as_composed_with_their_choices():
    shown = run("train_sft.py", "--help", "video.fps=3", "video=default", "trainer.adam_beta2=0.95").stdout
    assert re.search(r"^  fps: 3 +# frames a second; 0: every frame of the file$", shown, re.MULTILINE)
    assert re.search(r"^  sampling: fps +# which frames are taken: fps \| uniform \| random", shown, re.MULTILINE)
    assert re.search(r"^  adam_beta2: 0.95 +# see TrainingArguments of transformers$", shown, re.MULTILINE)


def test_neither_help_nor_an_error_offers_what_other_choices_build_on():
    shown = run("train_sft.py", "--help").stdout
    assert "model: molmo2_4b, " in shown and "defaults, " not in shown
    wrong = run("train_sft.py", "model=default")
    assert wrong.returncode == 2 and "choices of model: molmo2_4b, " in wrong.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_ends_quietly_where_its_reader_has_gone(program):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", f"vtg.{program}", "--help"],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
