"""`vtg COMMAND`: it lists the commands, finds them, and hands them their arguments."""

import importlib.util
import platform
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import forked
import pytest
from packaging.version import Version

from vtg import __version__
from vtg.__main__ import COMMANDS
from vtg.training.run_dir import environment
from vtg.versions import versions

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return forked.run("vtg", *arguments)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_command_in_one_line_each(arguments):
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    for name, does in COMMANDS.items():
        assert f"\n  {name:<10}{does}\n" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_module_with_a_main_of_its_own_and_help(name):
    assert importlib.util.find_spec(f"vtg.{name}") is not None
    done = run(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: " in done.stdout


def test_every_module_that_can_be_run_is_a_command():
    modules = {path.stem for path in (ROOT / "vtg").glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    runnable = modules | {path.parent.name for path in (ROOT / "vtg").glob("*/__main__.py")}
    assert runnable - {"__main__"} == set(COMMANDS)


def test_an_unknown_command_gets_the_nearest_one_and_exit_code_2():
    done = run("validat", "rows.jsonl")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: validat: there is no such command; did you mean validate? commands: {', '.join(COMMANDS)}\n"
    )


def test_a_hydra_program_gets_its_overrides_and_its_exit_code_comes_back():
    composed = run("sft", "lora.r=3", "trainer.max_steps=5", "--cfg", "job")
    assert composed.returncode == 0
    assert "  r: 3\n" in composed.stdout
    assert "  max_steps: 5\n" in composed.stdout
    wrong = run("sft", "video.fpz=3")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: video.fpz: there is no such key; did you mean video.fps?")


def test_a_command_on_files_gets_its_arguments_and_its_exit_code_comes_back(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"video": "a.mp4", "duration": 30, "timestamp": [5, 2], "sentence": "sits"}\n', encoding="utf-8")
    done = run("validate", str(path))
    assert done.returncode == 1
    assert f"{path}:1: timestamp: " in done.stdout


def test_help_loads_no_command():
    code = (
        "import runpy, sys; sys.argv = ['vtg', '--help']; runpy.run_module('vtg', run_name='__main__')\n"
        "assert not {'hydra', 'torch', 'msgspec'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_version_of_the_code_is_told_with_those_of_its_libraries_and_nothing_is_imported_for_it():
    code = "import sys; sys.argv = ['vtg', '--version']; from vtg.__main__ import main; main(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    *lines, modules = done.stdout.splitlines()
    told = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}
    assert list(told)[:3] == ["vtg", "python", "torch"] and told["vtg"] == __version__
    assert told == {name: version or "not installed" for name, version in versions().items()}
    assert told["python"] == platform.python_version() and told["transformers"] == version("transformers")
    assert not {"torch", "transformers", "numpy"} & set(modules.split())


def test_the_version_stands_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" in project["project"]["dynamic"] and "version" not in project["project"]
    assert project["tool"]["hatch"]["version"]["path"] == "vtg/__init__.py"
    assert environment()["packages"]["vtg"] == __version__


def test_the_command_of_a_run_is_the_one_that_was_typed(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train_sft.py", "data=real", "++trainer.max_steps=4"])
    assert environment()["command"] == ["train_sft.py", "data=real", "trainer.max_steps=4"]


def test_the_changelog_has_a_heading_for_the_version_or_what_will_be_it():
    """The first is what is not released yet, or the code's version; no release is after that version."""
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] in ("Unreleased", __version__)
    released = [Version(one) for one in headings if one != "Unreleased"]
    assert released == sorted(released, reverse=True) and all(one <= Version(__version__) for one in released)
