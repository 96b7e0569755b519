"""The sections of gpu.py that look at the machine, and that run vtg's own programs on it."""

import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from gpu_shapes import Bench, median_s

ROOT = Path(__file__).parents[1]

PACKAGES = (
    *("torch", "transformers", "accelerate", "peft", "trl", "datasets", "deepspeed", "flash-attn", "bitsandbytes"),
    *("liger-kernel", "triton", "av", "torchcodec", "hydra-core", "numpy"),
)

LAST_LINES = 30

# A demo's program imports for some 10 s and trains for some 20; one that hangs must not take the other sections' time.
# On a CPU DeepSpeed first builds a C++ extension, for minutes where others compute too.
PROGRAM_S, PROGRAM_ON_CPU_S = 150.0, 400.0

# On a CPU everything is in main memory.
OFFLOADED = ("zero2_offload", "zero3_offload")

SHORT_RUN = (
    *("trainer.eval_strategy=no", "trainer.save_strategy=steps", "trainer.save_steps=1000", "trainer.logging_steps=1"),
    *("evaluation.max_new_tokens=24",),
)


def environment(bench: Bench, found: dict[str, Any]) -> None:
    """The machine and its packages, and the rate of a matrix product, which the other rates are a share of."""
    found["python"], found["cores"] = platform.python_version(), os.cpu_count()
    found["packages"] = {name: _version(name) for name in PACKAGES}
    if bench.on_gpu:
        card = torch.cuda.get_device_properties(0)
        found |= {"card": card.name, "memory_gb": card.total_memory / 1e9, "cuda": torch.version.cuda}
        found["capability"] = ".".join(map(str, torch.cuda.get_device_capability()))
        asked = ["nvidia-smi", "--query-gpu=driver_version,clocks.max.sm,power.limit", "--format=csv,noheader"]
        try:
            found["driver, clock, power"] = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
        except FileNotFoundError:  # a container may have the driver and not its program
            found["driver, clock, power"] = None
    side, dtype = bench.scale.matrix, torch.bfloat16 if bench.on_gpu else torch.float32
    left, right = (torch.randn(side, side, device=bench.device, dtype=dtype) for _ in range(2))

    def products() -> None:
        for _ in range(10):
            left @ right

    found["matrix_side"] = side
    found["matrix_tflops"] = 10 * 2 * side**3 / median_s(products, times=3) / 1e12


def demo(bench: Bench, found: dict[str, Any]) -> None:
    """SFT, RL from it, and one question: the ordinary programs on the tiny model, each in a process of its own."""
    folder = bench.folder / "demo"
    data, tuned = f"data.video_dir={folder / 'data'}", folder / "sft"
    common = (data, *bench.scale.demo, *SHORT_RUN)
    bench.reaches(found, "sft")
    steps = f"trainer.max_steps={bench.scale.demo_steps}"
    trained = _run(bench, found, "sft", ["train_sft.py", f"output_dir={tuned}", steps, *common])
    if trained["returncode"]:  # the others have nothing to go on from
        raise RuntimeError(_told(found))
    log = [json.loads(line) for line in (tuned / "train_log.jsonl").read_text(encoding="utf-8").splitlines()]
    trained["losses"] = [entry["loss"] for entry in log if "loss" in entry]
    if not bench.reaches(found, "rl, predict"):
        return
    few = ("trainer.max_steps=3", "trainer.per_device_train_batch_size=4", "rl.num_generations=4")
    words = ["train_rl.py", "data=demo", "data.val_file=null", f"model.path={tuned}", f"output_dir={folder / 'rl'}"]
    _run(bench, found, "rl", [*words, *few, *common])
    _check(found)
    if not bench.reaches(found, "predict"):
        return
    row = json.loads((folder / "data" / "test.jsonl").read_text(encoding="utf-8").splitlines()[0])
    question = [f"video={folder / 'data' / row['video']}", f"query={row['sentence']}"]
    answers = [f"output_dir={folder / 'answers'}"]
    _run(bench, found, "predict", ["-m", "vtg.predict", f"checkpoint={tuned}", *question, *answers])
    _check(found)


def tests(bench: Bench, found: dict[str, Any]) -> None:
    """The project's tests that need a GPU; without one they are collected alone."""
    if importlib.util.find_spec("pytest") is None:
        found["note"] = "pytest is not installed"
        return
    # By the files that name the marker: collecting all others takes longer than these take.
    files = [str(file) for file in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in file.read_text("utf-8")]
    if not files:
        found["note"] = "no test needs a GPU"
        return
    plugins = ["-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=--strict-markers"]
    words = ["-m", "pytest", "-q", "-m", "gpu", "-rfEs", "--tb=short", *plugins, *files]
    done = _run(bench, found, "gpu", words + ([] if bench.on_gpu else ["--collect-only"]))
    done["summary"] = done["last_lines"][-1] if done["last_lines"] else ""
    if done["returncode"]:
        raise RuntimeError(_told(found))


def deepspeed(bench: Bench, found: dict[str, Any]) -> None:
    """SFT of the tiny model under ZeRO-2 and ZeRO-3, and with what they keep in main memory, on one device."""
    if importlib.util.find_spec("deepspeed") is None:
        found["note"] = "deepspeed is not installed"
        return
    data = f"data.video_dir={bench.folder / 'demo' / 'data'}"
    for name in ("zero2", "zero3", *(OFFLOADED if bench.on_gpu else ())):
        if not bench.reaches(found, name):
            continue
        out = f"output_dir={bench.folder / name}"
        more = ("trainer.max_steps=4", *bench.scale.demo, *SHORT_RUN)
        _run(bench, found, name, ["train_sft.py", f"deepspeed={name}", out, data, *more])
    _check(found)


def _run(bench: Bench, found: dict[str, Any], name: str, words: list[str]) -> dict[str, Any]:
    """Runs a program of vtg from the repository; keeps its exit code, seconds and what it said of its device."""
    limit_s = max(1.0, min(PROGRAM_S if bench.on_gpu else PROGRAM_ON_CPU_S, bench.seconds_left()))
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit_s
        )
        code, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired as error:
        code, output = 124, error.stdout or b""
    lines = [line.rstrip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    found[name] = {
        "returncode": code,
        "seconds": time.perf_counter() - start,
        # "tiny: bfloat16 on cuda:0, attention sdpa": what the program chose on this machine.
        "loaded": next((line for line in lines if ", attention " in line), None),
        "last_lines": lines[-LAST_LINES:],
    }
    return found[name]


def _check(found: dict[str, Any]) -> None:
    """Raises RuntimeError with what a program said that failed."""
    if any(isinstance(one, dict) and one["returncode"] for one in found.values()):
        raise RuntimeError(_told(found))


def _told(found: dict[str, Any]) -> str:
    """Which programs failed, with their last lines."""
    failed = {name: one for name, one in found.items() if isinstance(one, dict) and one["returncode"]}
    return "\n".join(
        f"{name}: exit code {one['returncode']}: {'; '.join(one['last_lines'])}" for name, one in failed.items()
    )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
