"""Which answer form, token initialisation and loss learns best? `python benchmarks/gym.py -o DIR [--jobs N]`.

Trains the tiny model on data=gym in every case of the plan (`--list` shows it), with equal steps and three seeds, each
run an ordinary `train_sft.py`, many at once on a core each. Writes DIR/results.json and DIR/table.md: means with 95 %
intervals over seeds, paired differences to the baseline, and mIoU by form of question, clip and moment length.

The same command again goes on where it stopped: finished runs stay, failed ones are tried again. Words at the end are
further settings of every run (video.max_frames=64). No network, no GPU; `--gpu` shares one GPU between the runs.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from gym_plan import BEST, FULL, FULL_ON_GPU, QUICK, ROOT, Case, Run, Size, stages
from gym_tables import blind_scores, result_of, tables

from vtg.demo.gym_dataset import ensure_gym
from vtg.errors import ConfigError
from vtg.storage.atomic import write_text
from vtg.storage.json_files import read_jsonl, write_json, write_jsonl

POLL_S = 0.2

ONE_MOMENT = ("once", "nth", "order")
"""Forms of question with one moment, which the runs answer."""


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python benchmarks/gym.py", description=__doc__.split("\n")[0])
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="runs, data and tables go here")
    parser.add_argument("--jobs", type=int, default=None, help="runs at a time (default: the cores)")
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated (default: %(default)s)")
    parser.add_argument(
        "--steps",
        type=int,
        default=None,
        help=f"optimizer steps of a run (default: {FULL.steps}; {FULL_ON_GPU.steps} with --gpu)",
    )
    parser.add_argument(
        "--questions", default=",".join(ONE_MOMENT), help="forms of question that are trained and tested (default: all)"
    )
    parser.add_argument("--everything", action="store_true", help="the whole product of forms, initialisations, losses")
    parser.add_argument("--quick", action="store_true", help="three cases of two steps: does it run?")
    parser.add_argument("--gpu", action="store_true", help="the runs share the GPU, in larger batches")
    parser.add_argument("--deadline-s", type=float, default=None, help="start no run later than this many seconds")
    parser.add_argument("--list", action="store_true", help="show the plan, and do nothing")
    parser.add_argument("overrides", nargs="*", help="further settings of every run, such as video.max_frames=64")
    options = parser.parse_args(arguments)
    try:
        options.seeds = [int(seed) for seed in options.seeds.split(",")]
    except ValueError:
        parser.error(f"--seeds {options.seeds}: give whole numbers, such as 0,1,2")
    options.questions = options.questions.split(",")
    if wrong := [name for name in options.questions if name not in ONE_MOMENT]:
        parser.error(f"--questions {wrong[0]}: there are {', '.join(ONE_MOMENT)}")
    if options.jobs is None:
        options.jobs = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for name in ("jobs", "steps"):
        if (value := getattr(options, name)) is not None and value < 1:
            parser.error(f"--{name} {value}: give 1 or more")
    if wrong := [word for word in options.overrides if "=" not in word]:
        parser.error(f"{wrong[0]}: is no setting; write key=value")
    return options


class Bench:
    """The runs of one folder: starts them, some at a time, and keeps what is known so far written down."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.folder = options, options.out
        full = FULL_ON_GPU if options.gpu else FULL
        size = QUICK if options.quick else full
        self.size: Size = replace(size, steps=options.steps or size.steps, overrides=tuple(options.overrides))
        self.began_s = time.monotonic()
        self.running: dict[Run, tuple[subprocess.Popen[bytes], float]] = {}
        self.failed: dict[str, str] = {}
        self.seconds: dict[str, float] = {}
        self.runs: list[Run] = []

    def prepare(self) -> None:
        """Makes the data, once; refuses a folder of other settings.

        Raises:
            ConfigError: the folder holds runs of other settings.
        """
        kept, now = self.folder / "settings.json", json.loads(json.dumps(self.settings))
        if kept.is_file() and (before := json.loads(kept.read_text(encoding="utf-8"))) != now:
            differs = ", ".join(key for key in now if before.get(key) != now[key])
            raise ConfigError(f"{self.folder}: holds runs of other settings ({differs}); choose another -o")
        ensure_gym(self.folder / "data", self.size.data)
        # As long as in training and longer, in one file: a run has one test.
        for name, splits in {"train": ["train"], "test": ["test", "long"]}.items():
            rows = [row for split in splits for row in read_jsonl(self.folder / "data" / f"{split}_one.jsonl")]
            write_jsonl(self.folder / f"{name}.jsonl", [row for row in rows if row["form"] in self.options.questions])
        write_json(kept, now)

    @property
    def settings(self) -> dict[str, Any]:
        """What a table depends on, beside its cases and seeds."""
        return asdict(self.size) | {"gpu": self.options.gpu, "questions": self.options.questions}

    @property
    def is_late(self) -> bool:
        limit_s = self.options.deadline_s
        return limit_s is not None and time.monotonic() - self.began_s > limit_s

    def train(self, cases: Sequence[Case]) -> None:
        """Runs the cases with every seed; a run that fails is recorded, and the others go on."""
        # By seed, then by case: when time runs out, all cases have as many seeds as there was time for.
        runs = [Run(case, seed, self.folder) for seed in self.options.seeds for case in cases]
        self.runs += runs
        waiting = [run for run in runs if not is_done(run)]
        while waiting or self.running:
            while waiting and len(self.running) < self.options.jobs and not self.is_late:
                self._start(waiting.pop(0))
            if self.is_late and not self.running:
                print(f"{len(waiting)} runs were not started: the deadline is over", flush=True)
                return
            time.sleep(POLL_S)
            for run in [run for run, (process, _) in self.running.items() if process.poll() is not None]:
                self._end(run)

    def best_init(self, cases: Sequence[Case]) -> str | None:
        """The initialisation of the best cross-entropy runs, by mean mIoU; None where there are none."""
        scores: dict[str, list[float]] = {}
        for result in self.results():
            if result["init"] and (result["loss"], result["adapts"]) == ("cross_entropy", "full"):
                scores.setdefault(result["init"], []).append(result["mIoU"])
        return max(scores, key=lambda init: sum(scores[init]) / len(scores[init])) if scores else None

    def results(self) -> list[dict[str, Any]]:
        return [result_of(run) for run in self.runs if is_done(run)]

    def write(self) -> str:
        """results.json and table.md of what is there by now; returns the table."""
        results = self.results()
        if not results:
            return "no run is finished"
        train, test = self.folder / "train.jsonl", self.folder / "test.jsonl"
        blind = blind_scores(train, test)
        table = tables(results, blind, read_jsonl(test))
        document = {"settings": self.settings, "blind": blind, "failed": self.failed, "seconds": self.seconds}
        write_json(self.folder / "results.json", document | {"runs": results})
        write_text(self.folder / "table.md", table + "\n")
        return table

    def stop(self) -> None:
        """Ends what is running."""
        for process, _ in self.running.values():
            process.terminate()
        for process, _ in self.running.values():
            process.wait()

    def _start(self, run: Run) -> None:
        run.log.parent.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        # A thread each: two threads for one core wait for each other.
        environment |= {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        if not self.options.gpu:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        command = run.command(self.size, self.options.overrides, on_gpu=self.options.gpu)
        with run.log.open("wb") as log:
            log.write((" ".join(command) + "\n\n").encode())
            log.flush()
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        self.running[run] = (process, time.monotonic())

    def _end(self, run: Run) -> None:
        process, began_s = self.running.pop(run)
        self.seconds[run.name] = round(time.monotonic() - began_s, 1)
        done = sum(is_done(other) for other in self.runs)
        if process.returncode or not is_done(run):
            lines = run.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            self.failed[run.name] = lines[-1] if lines else ""
            print(f"{run.name}: FAILED with exit code {process.returncode}: {lines[-1]} ({run.log})", flush=True)
        else:
            score = result_of(run)["mIoU"]
            print(f"{run.name}: mIoU {score:.1f}, {self.seconds[run.name]:.0f} s, {done} runs done", flush=True)
        self.write()  # at each run's end, so that whatever ends this process leaves a table


def is_done(run: Run) -> bool:
    """Whether its scores are there."""
    return (run.path / "metrics.json").is_file()


def main() -> int:
    """Parses the command line, trains what is not trained yet, and prints the table."""
    options = options_of()
    first, then = stages(everything=options.everything, quick=options.quick)
    if options.list:
        for case in first + then:
            print(f"{case.name}: {' '.join(case.overrides())}")
        print(f"{len(first + then)} cases x {len(options.seeds)} seeds")
        return 0
    bench = Bench(options)
    # As Ctrl-C: runs that outlive this process would train for nobody.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        bench.prepare()
        bench.train(first)
        if (init := bench.best_init(first)) is not None:
            bench.train([replace(case, init=init) if case.init == BEST else case for case in then])
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        bench.stop()
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(f"\n{bench.write()}")
    if bench.results():
        print(f"\n{options.out / 'results.json'}\n{options.out / 'table.md'}")
    for name, line in bench.failed.items():
        print(f"failed: {name}: {line}", file=sys.stderr)
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
