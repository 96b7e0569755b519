"""What does vtg do on a GPU? `python benchmarks/gpu.py [--only a,b] [--json FILE] [--clip frames.npy]`.

One prepared run without network or data: does the product run there, are packed and shared prompts equal to plain ones,
how fast is a step of SFT, a rollout, an evaluation and a step of GRPO, and how much memory they take beside what
`look=memory` says. Models of released shapes have random weights, made on the device.

    environment  the card, its driver and packages, and the rate of a matrix product
    tests        the project's tests that need a GPU (pytest -m gpu)
    demo         train_sft.py, train_rl.py and python -m vtg.predict on the tiny model
    equality     packed = unpacked, shared = repeated, decoded tokens; each against float32 on the CPU
    sft          Qwen3-VL-4B's shape, a clip of 12,500 tokens: LoRA, full; alone, padded, packed
    tower        the vision tower over 256 frames
    decode       8 completions of a prompt of 12,500 tokens, and an evaluation's batch of 8
    evaluation   8 clips of 12,500 tokens with a question each, and 4 with four questions, from pixels to answers
    grpo         Qwen3-VL-2B's shape, vtg beside the naive way
    deepspeed    the tiny model under ZeRO-2 and ZeRO-3, also with offload
    recurrence   packed = unpacked, shared = repeated for Qwen3.5's recurrent layers, by the kernels that are installed
    qwen3_vl     Qwen3-VL-4B's shape: LoRA, QLoRA, full; rollout and evaluation (needs bitsandbytes)
    qwen3_5      Qwen3.5-4B's shape, likewise

A section that fails is recorded, and so is a case of one; the others go on, and the exit code is 1. Without a GPU the
run is a reduced one: the same lines on tiny shapes, whose figures mean nothing. Each section then has a part of the
time, and begins at least its first case; those that it had no time for are named as not reached.
"""

import argparse
import dataclasses
import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vtg  # noqa: F401  before torch, whose threads it chooses

if TYPE_CHECKING:
    from gpu_shapes import Bench

Section = Callable[["Bench", dict[str, Any]], None]

# By value: where the time runs out, the last ones are missing. On a CPU the shortest come first, and each has so many
# parts of what is left for it and those after it, so that all are reached: about the seconds that it takes there alone.
SECTIONS = {
    "environment": 1,
    "tests": 10,
    "equality": 20,
    "sft": 30,
    "decode": 10,
    "evaluation": 5,
    "tower": 2,
    "grpo": 10,
    "demo": 40,
    "deepspeed": 60,
    "recurrence": 10,
    "qwen3_vl": 15,
    "qwen3_5": 15,
}

# A lent machine is there for a quarter of an hour, its start and a second try included. The reduced run has two minutes
# more: a program of the last section may go on as long.
BUDGET_S, REDUCED_BUDGET_S = 360.0, 420.0


def sections() -> dict[str, Section]:
    """The functions of SECTIONS; imports torch."""
    import gpu_adapting
    import gpu_answers
    import gpu_equality
    import gpu_evaluation
    import gpu_programs
    import gpu_training

    modules = (gpu_programs, gpu_equality, gpu_training, gpu_answers, gpu_evaluation, gpu_adapting)
    return {name: next(getattr(one, name) for one in modules if hasattr(one, name)) for name in SECTIONS}


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SECTIONS), metavar="A,B", help="these sections alone")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="rewritten after every section")
    parser.add_argument(
        "--clip", type=Path, default=None, metavar="FILE.npy", help="frames (T, 3, H, W) uint8; else random ones"
    )
    parser.add_argument("--reduced", action="store_true", help="tiny shapes on the CPU, as without a GPU")
    parser.add_argument("--steps", type=int, default=None, metavar="N", help="timed steps of a training (default: 2)")
    parser.add_argument(
        "--budget-s",
        type=float,
        default=None,
        metavar="S",
        help=f"no section begins after so long (default: {BUDGET_S:g}; reduced: {REDUCED_BUDGET_S:g})",
    )
    options = parser.parse_args(arguments)
    options.only = options.only.split(",")
    if unknown := set(options.only) - set(SECTIONS):
        parser.error(f"--only: {', '.join(sorted(unknown))}: there are {', '.join(SECTIONS)}")
    if options.steps is not None and options.steps < 1:
        parser.error(f"--steps {options.steps}: give 1 or more")
    if options.clip is not None and not options.clip.is_file():
        parser.error(f"--clip {options.clip}: there is no such file; numpy.save writes one")
    return options


def read_clip(path: Path | None, *, frames: int, size: tuple[int, int]) -> Any:
    """Frames (T, 3, H, W) uint8 of a file, cut to whole vision tokens; without one random ones of that size."""
    import numpy as np
    from gpu_shapes import random_clip

    if path is None:
        return random_clip(frames, size)
    try:
        clip, told = np.load(path), ""
    except (ValueError, EOFError, OSError) as error:
        clip, told = np.empty(0), f" ({str(error).splitlines()[0]})"
    if clip.ndim != 4 or clip.shape[1] != 3 or clip.dtype != np.uint8 or len(clip) < frames or min(clip.shape[2:]) < 32:
        found = f"{clip.dtype} {clip.shape}" if not told else f"no array{told}"
        print(f"--clip {path}: {found}; it must be uint8 (T, 3, H, W), T >= {frames}, H, W >= 32", file=sys.stderr)
        sys.exit(2)
    height, width = (side // 32 * 32 for side in clip.shape[2:])  # a token is 32 x 32 pixels
    return clip[:, :, :height, :width]


def run(name: str, section: Section, bench: "Bench", found: dict[str, Any]) -> dict[str, Any]:
    """Runs a section, which fills `found`; returns how it ended."""
    from gpu_shapes import free, last_lines

    bench.reached, bench.failed = 0, []
    if bench.seconds_left() <= 0:
        return {"status": "skipped", "note": "the time was out (--budget-s)"}
    start = time.perf_counter()
    ended: dict[str, Any] = {"status": "ok"}
    try:
        section(bench, found)
        if bench.failed:
            ended = {"status": "failed", "error": "a case", "traceback": bench.failed}
    except Exception as error:  # whatever it is: the other sections' figures must not be lost with it
        ended = {"status": "failed", "error": type(error).__name__, "traceback": [*bench.failed, *last_lines(error)]}
    ended["seconds"] = round(time.perf_counter() - start, 1)
    free()
    return ended


def _until(seconds: float) -> Callable[[], float]:
    """What is left of so many seconds from now on."""
    end = time.perf_counter() + seconds
    return lambda: end - time.perf_counter()


def table(name: str, ended: dict[str, Any], found: dict[str, Any]) -> str:
    """Markdown: figures of the section in a row each, and a table for each group of cases."""
    lines = [f"\n## {name}: {ended['status']}, {ended.get('seconds', 0)} s"]
    found = {key: value for key, value in found.items() if value != {}}  # a section that failed may leave some
    groups = {key: value for key, value in found.items() if isinstance(value, dict)}
    nested = {key: value for key, value in groups.items() if value and all(isinstance(x, dict) for x in value.values())}
    plain = {key: {"": value} for key, value in found.items() if key not in groups}
    for title, rows in (("", plain), ("", {k: v for k, v in groups.items() if k not in nested}), *nested.items()):
        if rows:
            columns = list(dict.fromkeys(key for one in rows.values() for key in one))
            lines += ["", f"| {title} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
            lines += [f"| {key} | {' | '.join(_text(one.get(c)) for c in columns)} |" for key, one in rows.items()]
    told = [*([ended["note"]] if "note" in ended else []), *ended.get("traceback", [])]
    return "\n".join([*lines, *([""] if told else []), *told])


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, list) and value and isinstance(value[0], (str, float)):
        return f"… {_text(value[-1])}"  # the last of several lines or losses; the JSON has all
    return "" if value is None else str(value)


def quiet() -> None:
    """No progress bars and advice between the tables."""
    import transformers

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def main() -> None:
    options = options_of()
    began = time.perf_counter()
    quiet()
    import torch
    from gpu_shapes import FULL, REDUCED, Bench

    on_gpu = torch.cuda.is_available() and not options.reduced
    scale = FULL if on_gpu else REDUCED
    if options.steps is not None:
        scale = dataclasses.replace(scale, steps=options.steps)
    document: dict[str, Any] = {"benchmark": "gpu", "reduced": not on_gpu, "sections": {}}
    functions = sections()
    with tempfile.TemporaryDirectory(prefix="vtg-bench-") as folder:
        budget_s = options.budget_s or (BUDGET_S if on_gpu else REDUCED_BUDGET_S)
        bench = Bench(
            scale=scale,
            clip=read_clip(options.clip, frames=scale.frames, size=scale.size),
            folder=Path(folder),
            seconds_left=lambda: budget_s - (time.perf_counter() - began),
            on_gpu=on_gpu,
        )
        order = list(SECTIONS) if on_gpu else sorted(SECTIONS, key=lambda name: SECTIONS[name])
        left = {name: SECTIONS[name] for name in order if name in options.only}
        for name in list(left):
            if not on_gpu:
                bench.section_left = _until(bench.seconds_left() * left[name] / sum(left.values()))
            del left[name]
            found = document[name] = {}
            document["sections"][name] = run(name, functions[name], bench, found)
            print(table(name, document["sections"][name], found), flush=True)
            document["decode_ms"] = document.get("decode", {}).get("ms_a_token")
            document["seconds"] = round(time.perf_counter() - began, 1)
            if options.json is not None:  # after every section: what was measured outlives a machine that is taken away
                options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    ends = [one["status"] for one in document["sections"].values()]
    print(f"\n{ends.count('ok')} of {len(ends)} sections succeeded in {document['seconds']} s", flush=True)
    if "failed" in ends:
        sys.exit(1)


if __name__ == "__main__":
    main()
