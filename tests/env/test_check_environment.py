"""`python env/check_environment.py` and the pinned requirements, held against pyproject.toml."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ENV = Path(__file__).parents[2] / "env"
PROJECT = tomllib.loads((ENV.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_environment", ENV / "check_environment.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def test_this_machine_is_fine_and_every_requirement_is_shown():
    done = run(str(ENV / "check_environment.py"))
    assert done.stdout.endswith("\n\nfine; next: python train_sft.py\n"), done.stdout
    assert (done.returncode, done.stderr) == (0, "")
    for requirement in PROJECT["dependencies"]:
        assert re.search(rf"^{Requirement(requirement).name} +\d", done.stdout, re.MULTILINE)
    for name in ("python", "CUDA", "GPU", "flash-attn", "deepspeed", "torchcodec", "decord", "FFmpeg"):
        assert re.search(rf"^{name} ", done.stdout, re.MULTILINE)


def test_a_python_without_the_packages_is_told_what_is_missing_and_the_next_step():
    done = run("-S", str(ENV / "check_environment.py"))  # -S: a Python that sees no installed packages
    assert done.returncode == 1
    assert "problem: transformers is not installed; pip install -e .\n" in done.stdout
    assert (
        "problem: torch does not load (No module named 'torch'); pip install --force-reinstall torch torchvision\n"
        in (done.stdout)
    )
    assert done.stdout.endswith("next: mend the first problem, then run this again\n")


def test_a_torchvision_made_for_another_torch_is_a_problem(tmp_path):
    (tmp_path / "torch.py").write_text(
        "class version: cuda = None\nclass cuda:\n    @staticmethod\n    def is_available(): return False\n",
        encoding="utf-8",
    )
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ENV)!r}]\n"
        "import check_environment as check; print(*check.torch_problems())"
    )
    done = run("-c", code)
    assert done.stdout.splitlines()[-1] == (
        "torchvision does not load with this torch (operator torchvision::nms does not exist); install both from the "
        "same place: pip install --force-reinstall torch torchvision"
    )


def test_old_versions_are_problems(check):
    assert check.python_problems(">=9.0") == [
        f"Python {sys.version.split()[0]} is too old; make a venv with Python >=9.0"
    ]
    (problem,) = check.package_problems(["pytest>=900"])
    assert problem.startswith("pytest ") and problem.endswith("is too old; pip install -U 'pytest>=900'")
    assert check.package_problems(["pytest"]) == []
    assert check.package_problems(["no-such-package>=1"]) == ["no-such-package is not installed; pip install -e ."]


@pytest.mark.parametrize(
    ("version", "least", "is_older"),
    [("2.9.1", "2.11", True), ("2.11.0+cu130", "2.11", False), ("3.11.7", "3.11", False), ("2.11", "2.11.1", True)],
)
def test_versions_compare_by_number(check, version, least, is_older):
    assert check.older(version, least) is is_older


def pins(name: str) -> dict[str, str]:
    lines = (ENV / name).read_text(encoding="utf-8").splitlines()
    found = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {canonicalize_name(package): version for package, version in found}


@pytest.mark.parametrize(
    ("file", "requirements"),
    [
        ("requirements-cpu.txt", PROJECT["dependencies"]),
        ("requirements-cpu.txt", PROJECT["optional-dependencies"]["test"]),
        ("requirements-cpu.txt", PROJECT["optional-dependencies"]["video"]),
        ("requirements-cuda.txt", PROJECT["optional-dependencies"]["gpu"]),
    ],
)
def test_the_pins_cover_and_satisfy_what_the_project_asks_for(file, requirements):
    pinned = pins(file)
    for requirement in map(Requirement, requirements):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_the_cuda_requirements_hold_the_cpu_ones():
    assert "-r requirements-cpu.txt\n" in (ENV / "requirements-cuda.txt").read_text(encoding="utf-8")


def test_lock_prints_exact_pins_of_what_is_installed():
    done = run(str(ENV / "lock.py"), "test")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].endswith("python env/lock.py test")
    assert all(re.fullmatch(r"[a-z0-9-]+==\S+", line) for line in lines[1:])
    assert {"torch", "pytest", "markupsafe"} <= {line.split("==")[0] for line in lines[1:]}
