"""Says what this machine has for vtg, what is wrong with it, and the next step: `python env/check_environment.py`.

Needs nothing but Python. Exit code 0: vtg can train here; 1: a problem stands in the way; 2: wrong usage.
"""

import argparse
import ctypes.util
import importlib
import importlib.metadata
import platform
import re
import shutil
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"

OPTIONAL = {
    "flash-attn": "faster attention on a GPU (extra flash-attn)",
    "deepspeed": "models larger than one GPU (extra gpu)",
    "bitsandbytes": "quantised base models (extra gpu)",
    "liger-kernel": "less memory on a GPU (extra gpu)",
    "torchcodec": "fast decoding, needs FFmpeg libraries (extra video)",
    "decord": "decoding as many older scripts do (extra video)",
    "wandb": "logs to Weights & Biases (extra wandb)",
}


def main(argv: list[str] | None = None) -> int:
    """Prints the facts, then the problems; returns the exit code."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args(argv)
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    _show("python", f"{platform.python_version()} ({sys.executable})")
    _show("machine", f"{platform.system()} {platform.machine()}")
    problems = python_problems(project["requires-python"])
    problems += package_problems(project["dependencies"])
    problems += torch_problems()
    for name, use in OPTIONAL.items():
        _show(name, installed(name) or f"not installed: {use}")
    problems += decoder_problems()
    print()
    for problem in problems:
        print(f"problem: {problem}")
    print("next: mend the first problem, then run this again" if problems else "fine; next: python train_sft.py")
    return 1 if problems else 0


def installed(name: str) -> str | None:
    """The version of a distribution, None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def python_problems(required: str) -> list[str]:
    """Whether this Python is one of `required`, such as `>=3.11,<3.14`."""
    wrong = outside(platform.python_version(), required)
    return [f"Python {platform.python_version()} is too {wrong}; make a venv with Python {required}"] if wrong else []


def package_problems(requirements: list[str]) -> list[str]:
    """Required packages that are absent, or older or newer than pyproject.toml asks for."""
    problems = []
    for requirement in requirements:
        wanted = requirement.partition(";")[0]
        name, bounds = re.match(r"([\w.-]+)(.*)", wanted).groups()  # type: ignore[union-attr]
        version = installed(name)
        _show(name, version or "not installed")
        if version is None:
            problems.append(f"{name} is not installed; pip install -e .")
        elif wrong := outside(version, bounds):
            problems.append(f"{name} {version} is too {wrong}; pip install -U '{wanted}'")
    return problems


def torch_problems() -> list[str]:
    """Whether torch and torchvision load and belong together; shows CUDA and its devices."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return [f"torch does not load ({_first_line(error)}); pip install --force-reinstall torch torchvision"]
    _show("CUDA", f"torch was built for {torch.version.cuda or 'CPU only'}")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(index)
            _show(f"GPU {index}", f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB")
    else:
        _show("GPU", "none that torch can use: the tiny model trains here, others are too slow")
    try:
        importlib.import_module("torchvision")
    except (ImportError, OSError, RuntimeError) as error:  # a build for another torch: "operator torchvision::nms ..."
        return [
            f"torchvision does not load with this torch ({_first_line(error)}); install both from the same place: "
            "pip install --force-reinstall torch torchvision"
        ]
    if shutil.which("nvidia-smi") and not torch.cuda.is_available():
        return ["there is an NVIDIA driver, but torch cannot use it; install a torch built for that driver's CUDA"]
    return []


def decoder_problems() -> list[str]:
    """Whether the decoders that are installed load; shows FFmpeg."""
    library = ctypes.util.find_library("avcodec")
    _show("FFmpeg", f"{library or 'no libraries'}; {shutil.which('ffmpeg') or 'no command'} (PyAV brings its own)")
    problems = []
    for name, module in (("av", "av"), ("torchcodec", "torchcodec.decoders"), ("decord", "decord")):
        if installed(name) is None:
            continue
        try:
            importlib.import_module(module)
        except (ImportError, OSError, RuntimeError) as error:
            remedy = "install FFmpeg's shared libraries" if name == "torchcodec" else f"pip install -U {name}"
            problems.append(f"{name} does not load ({_first_line(error)}); {remedy}, or pip uninstall {name}")
    return problems


def outside(version: str, bounds: str) -> str | None:
    """`old` or `new`, where `version` is outside `bounds` such as `>=2.11,<2.16`; compares their leading numbers."""
    for sign, limit in re.findall(r"(>=|<)([\d.]+)", bounds):
        if older(version, limit) != (sign == "<"):
            return "old" if sign == ">=" else "new"
    return None


def older(version: str, least: str) -> bool:
    """Whether `version` comes before `least`, by their leading numbers."""
    return _numbers(version) < _numbers(least)


def _numbers(version: str) -> tuple[int, ...]:
    release = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in release.group().split(".")) if release else ()


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]


def _show(name: str, value: str) -> None:
    print(f"{name:<16}{value}")


if __name__ == "__main__":
    sys.exit(main())
