"""`python env/check_environment.py` and the pinned requirements, held against pyproject.toml."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ENV = Path(__file__).parents[2] / "env"
PROJECT = tomllib.loads((ENV.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def check() -> ModuleType:
    return load("check_environment")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ENV / f"{name}.py")
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


def test_versions_outside_the_bounds_are_problems(check):
    assert check.python_problems(">=9.0") == [
        f"Python {sys.version.split()[0]} is too old; make a venv with Python >=9.0"
    ]
    (problem,) = check.package_problems(["pytest>=900"])
    assert problem.startswith("pytest ") and problem.endswith("is too old; pip install -U 'pytest>=900'")
    (problem,) = check.package_problems(["pytest>=1,<2; python_version >= '3.11'"])
    assert problem.startswith("pytest ") and problem.endswith("is too new; pip install -U 'pytest>=1,<2'")
    (problem,) = (
        check.python_problems(">=3.11,<3.12") if sys.version_info >= (3, 12) else check.python_problems(">=3,<3.11")
    )
    assert "is too new; make a venv with Python >=3" in problem
    assert check.package_problems(["pytest"]) == []
    assert check.package_problems(["no-such-package>=1"]) == ["no-such-package is not installed; pip install -e ."]


@pytest.mark.parametrize(
    ("version", "least", "is_older"),
    [("2.9.1", "2.11", True), ("2.11.0+cu130", "2.11", False), ("3.11.7", "3.11", False), ("2.11", "2.11.1", True)],
)
def test_versions_compare_by_number(check, version, least, is_older):
    assert check.older(version, least) is is_older


def pins(name: str) -> dict[str, list[tuple[Marker | None, Version]]]:
    """Every version a file pins a package to, and the Pythons it is for."""
    found: dict[str, list[tuple[Marker | None, Version]]] = {}
    for line in (ENV / name).read_text(encoding="utf-8").splitlines():
        if "==" in line and not line.startswith("#"):
            pin = Requirement(line)
            (one,) = pin.specifier
            found.setdefault(canonicalize_name(pin.name), []).append((pin.marker, Version(one.version)))
    return found


def asked(*extras: str) -> list[Requirement]:
    lists = [PROJECT["optional-dependencies"][extra] for extra in extras] if extras else [PROJECT["dependencies"]]
    return [Requirement(line) for lines in lists for line in lines if not line.startswith("vtg[")]


PINNED = ("test", "video", "stores", "slurm", "wandb", "bench", "docs", "dev")
NOT_TRIED_HERE = {"flash-attn", "liger-kernel", "vllm"}
"""They need a GPU or an environment of their own; env/BOUNDS.md says so."""


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_constraints_have_one_version_of_everything_for_every_python(python):
    pinned = pins("constraints.txt")
    for requirement in asked() + asked(*PINNED):
        versions = [
            version
            for marker, version in pinned[canonicalize_name(requirement.name)]
            if marker is None or marker.evaluate({"python_version": python})
        ]
        assert len(versions) == 1 and requirement.specifier.contains(versions[0]), (requirement, versions)


def test_every_bound_is_the_first_minor_version_after_the_newest_that_was_tried():
    pinned = pins("constraints.txt") | pins("requirements-cuda.txt")
    wrong = []
    for requirement in asked() + asked(*PROJECT["optional-dependencies"]):
        bounds = [one.version for one in requirement.specifier if one.operator == "<"]
        name = canonicalize_name(requirement.name)
        if name in NOT_TRIED_HERE:
            assert bounds or requirement.specifier == "==0.31.*", requirement
            continue
        newest = max(version for _, version in pinned[name])
        if bounds != [f"{newest.major}.{newest.minor + 1}"]:
            wrong.append(f"{requirement}: tried up to {newest}")
    assert not wrong, "\n".join(wrong)


def test_no_lower_bound_is_below_what_trl_asks_for():
    ours = {canonicalize_name(requirement.name): requirement.specifier for requirement in asked()}
    loose = []
    for requirement in map(Requirement, metadata.requires("trl") or []):
        least = [bound.version for bound in requirement.specifier if bound.operator == ">="]
        if least and not requirement.marker:  # a marker: an extra of TRL's, which is not installed
            own = [
                bound.version for bound in ours.get(canonicalize_name(requirement.name), ()) if bound.operator == ">="
            ]
            if own and Version(own[0]) < Version(least[0]):
                loose.append(f"{requirement.name}>={own[0]}, but TRL needs {least[0]}")
    assert not loose, "\n".join(loose)


def test_the_python_bounds_are_the_classifiers():
    named = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line}
    allowed = {f"3.{minor}" for minor in range(30) if f"3.{minor}.5" in SpecifierSet(PROJECT["requires-python"])}
    assert named == allowed == {"3.11", "3.12", "3.13"}


def test_the_files_to_install_from_stand_on_the_constraints():
    lines = {name: (ENV / name).read_text(encoding="utf-8") for name in ("requirements.txt", "requirements-cuda.txt")}
    assert "\n-c constraints.txt\n-e .\n" in lines["requirements.txt"]
    assert "\n-r requirements.txt\n" in lines["requirements-cuda.txt"]
    for requirement in asked("gpu"):
        ((_, version),) = pins("requirements-cuda.txt")[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version)
    conda = yaml.safe_load((ENV / "environment.yml").read_text(encoding="utf-8"))
    assert conda["dependencies"][-1] == {"pip": ["-c constraints.txt", "-e .."]}
    (python,) = [Requirement(line.replace("=", "==")) for line in conda["dependencies"][:-1] if "python" in line]
    (one,) = python.specifier
    assert f"{one.version}.0" in SpecifierSet(PROJECT["requires-python"])


def test_lock_prints_exact_pins_of_what_is_installed():
    done = run(str(ENV / "lock.py"), "test")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].endswith("python env/lock.py test")
    assert all(re.fullmatch(r"[a-z0-9-]+==\S+", line) for line in lines[1:])
    assert {"torch", "pytest", "markupsafe"} <= {line.split("==")[0] for line in lines[1:]}


def test_pins_of_several_pythons_say_which_is_for_which():
    lock = load("lock")
    found = {
        (3, 11): {"av": "18.1.0", "numpy": "2.4.6", "only": None, "torch": "2.15.0"},
        (3, 12): {"av": "19.0.2", "numpy": "2.5.0", "only": "1.0", "torch": "2.15.0"},
        (3, 13): {"av": "19.0.2", "numpy": "2.5.5", "torch": "2.15.0"},
    }
    assert lock.merged(found) == [
        "av==18.1.0; python_version < '3.12'",
        "av==19.0.2; python_version >= '3.12'",
        "numpy==2.4.6; python_version < '3.12'",
        "numpy==2.5.0; python_version >= '3.12' and python_version < '3.13'",
        "numpy==2.5.5; python_version >= '3.13'",
        "only==1.0",
        "torch==2.15.0",
    ]


def test_lock_names_what_is_not_installed_anywhere():
    done = run(str(ENV / "lock.py"), "vllm")
    assert done.returncode == 1 and done.stdout == ""
    assert "vllm" in done.stderr and done.stderr.endswith("not installed; pip install -e '.[vllm]' first\n")


def test_the_readme_names_the_gpu_install_before_what_needs_a_gpu_and_by_the_bounds_of_the_project():
    text = (ENV.parent / "README.md").read_text(encoding="utf-8")
    first = text.index("pip install -e '.[gpu]'")
    assert (
        first < text.index("model=qwen3_vl_4b")
        and first < text.index("torchrun")
        and first < text.index("deepspeed=zero3")
    )
    (flash,) = PROJECT["optional-dependencies"]["flash-attn"]
    assert f"pip install --no-build-isolation '{flash}'" in text and "flash-attn" not in str(asked("gpu"))
    assert "Python 3.11 to 3.13" in text and "pip install -e . -c env/constraints.txt" in text


def test_trying_a_python_that_is_none_says_which_it_may_be(tmp_path):
    done = subprocess.run(
        ["bash", str(ENV / "try_python.sh"), str(tmp_path / "python3")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == f"error: {tmp_path / 'python3'}: does not run, or is no Python 3.11 to 3.13\n"
