"""How much slower is training on a busy machine? `python benchmarks/busy.py [--busy 5] [--steps 6]`.

`train_sft.py` on the demo, in a process of its own, alone and beside processes that do nothing but spin: the seconds of
an optimizer step as the run's own log has them. What is compared is who decides over the threads of OpenMP:

- `vtg`: vtg alone.
- `one thread`: `OMP_NUM_THREADS=1`.
- `spinning`: `GOMP_SPINCOUNT=300000`, what GNU's OpenMP (in torch's wheels for Linux) does unless told otherwise.

`fair` is what a scheduler that shares cores equally among all threads leaves of them: the slowdown nobody can avoid.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).parents[1]
SETTINGS: dict[str, dict[str, str]] = {
    "vtg": {},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "spinning": {"GOMP_SPINCOUNT": "300000"},
}
THREADS = {"vtg": None, "one thread": 1, "spinning": None}
"""That compute: all cores where it is None."""

OPENMP = ("OMP_", "GOMP_", "KMP_", "MKL_NUM_THREADS")
"""Variables that nobody but the setting under test is to have set."""

WARMUP = 2
"""The first steps, which allocate and compile, are not counted."""


@contextmanager
def spinning(processes: int) -> Iterator[None]:
    """So many processes that want a core each, all the time."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def step_seconds(folder: Path, demo: Path, *, environment: dict[str, str], steps: int, limit_s: float) -> list[float]:
    """Of each optimizer step of a run in `folder`, but the first; fewer where the time was up."""
    command = [sys.executable, "train_sft.py", f"output_dir={folder}", f"data.video_dir={demo}"]
    command += ["data.test_file=null", "data.val_file=null", "trainer.logging_steps=1"]
    command += [f"trainer.max_steps={steps + WARMUP}", "trainer.save_strategy=no"]
    own = {name: value for name, value in os.environ.items() if not name.startswith(OPENMP)} | environment
    log = folder / "train_log.jsonl"
    process = subprocess.Popen(command, cwd=PROJECT, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _, said = process.communicate(timeout=limit_s)
        if process.returncode:
            sys.exit(f"{' '.join(command)}: ended with {process.returncode}\n{said.decode(errors='replace')[-2000:]}")
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    entries = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    timed = [one for one in entries if "batch/tokens_per_second" in one][WARMUP:]
    return [one["batch/tokens"] / one["batch/tokens_per_second"] for one in timed]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=5, help="processes that spin meanwhile (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=6, help="optimizer steps a run (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, interleaved (default: %(default)s)")
    parser.add_argument("--only", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--demo", type=Path, default=PROJECT / "outputs" / "demo_data", help="made if it is not there")
    parser.add_argument("--limit-s", type=float, default=600, help="the most that one run may take")
    options = parser.parse_args()
    from vtg.config.schema import DemoConfig
    from vtg.demo.dataset import ensure_demo

    demo = ensure_demo(options.demo, DemoConfig(train_videos=160, val_videos=8, test_videos=30)).absolute()
    cores = len(os.sched_getaffinity(0))
    found: dict[str, dict[int, list[float]]] = {name: {0: [], options.busy: []} for name in options.only}
    with tempfile.TemporaryDirectory() as temporary:
        for repeat in range(options.repeats):
            for name in options.only:
                for others in (0, options.busy):
                    with spinning(others):
                        folder = Path(temporary) / f"{name} {others} {repeat}"
                        found[name][others] += step_seconds(
                            folder, demo, environment=SETTINGS[name], steps=options.steps, limit_s=options.limit_s
                        )
                    print(
                        f"{repeat}: {name}, {others} others: {found[name][others][-options.steps :]}", file=sys.stderr
                    )
    print(f"| | alone, s | beside {options.busy}, s | ratio | fair |\n|---|---|---|---|---|")
    for name, times in found.items():
        if not all(times.values()):
            sys.exit(f"{name}: no step within --limit-s {options.limit_s:g}")
        alone, beside = (statistics.median(times[others]) for others in (0, options.busy))
        threads = THREADS[name] or cores
        fair = max(1.0, (threads + options.busy) / cores)
        print(f"| {name} | {alone:.2f} | {beside:.2f} | {beside / alone:.1f} | {fair:.1f} |")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
