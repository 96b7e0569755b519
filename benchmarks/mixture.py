"""Does one training learn each task of a mixture, and draw as it is weighed? `python benchmarks/mixture.py -o DIR`.

Trains the tiny model, in full, on spans, points, tracks, counts, questions and captions of five sources, each in a form
of its own on disk (`mixture_sources.py`), by ordinary commands. Prints the shares that were drawn beside the wanted
ones and each task's metric before and after. Then it holds that the same samples come again: in the same steps, with
the same losses, after a kill; and, epoch by epoch, on two processes (gloo), from the beginning and after a stop.

Writes DIR/results.json and DIR/table.md. The same command again goes on where it stopped. Words at the end are further
settings of every run. Exit code 1: a stream differed, or a run failed. No network, no GPU.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from mixture_sources import Source, write_sources

from vtg.config.data_settings import GymConfig
from vtg.demo.gym_dataset import ensure_gym
from vtg.errors import ConfigError
from vtg.evaluation.task_scores import headlines
from vtg.storage.atomic import write_text
from vtg.storage.json_files import read_jsonl, write_json
from vtg.tasks.all_tasks import TASKS

ROOT = Path(__file__).parents[1]
COLUMNS = ("base", "tuned", "shuffled")

# Of the short run that is killed: two epochs of some six steps.
SAVED_EVERY, KILLED_AT, EPOCHS = 2, 5, 2
STREAM = ("data.epoch_samples=40", "batching.target_batch_tokens=600", "batching.global_size=8")

POLL_S = 0.02


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python benchmarks/mixture.py", description=str(__doc__).split("\n")[0])
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="runs, data and tables go here")
    parser.add_argument("--seeds", default="0,1", help="comma-separated (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="optimizer steps of a run (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a few videos and two steps: does it run?")
    parser.add_argument("overrides", nargs="*", help="further settings of every run, such as video.max_frames=64")
    options = parser.parse_args(arguments)
    try:
        options.seeds = [int(seed) for seed in options.seeds.split(",")]
    except ValueError:
        parser.error(f"--seeds {options.seeds}: give whole numbers, such as 0,1")
    if options.steps < 1:
        parser.error(f"--steps {options.steps}: give 1 or more")
    if wrong := [word for word in options.overrides if "=" not in word]:
        parser.error(f"{wrong[0]}: is no setting; write key=value")
    return options


def gym_of(*, quick: bool) -> GymConfig:
    train, test = (16, 6) if quick else (800, 60)
    return GymConfig(train_videos=train, test_videos=test, crowded=False, shortest_s=4.0, longest_s=6.0, long_s=6.0)


def words_of(sources: Mapping[str, Source]) -> list[str]:
    """The settings that every run has."""
    named = [
        f"data.sources.{name}.{key}={value}"
        for name, source in sources.items()
        for key, value in source.settings.items()
    ]
    weights = [f"data.sources.{name}.weight={source.weight}" for name, source in sources.items()]
    batches = ["batching=packed", "batching.target_batch_tokens=3000"]
    # At 1e-3 and in full the tiny model learns other answers than the spans that it was made for within 200 steps.
    model = ["lora=none", "trainer.learning_rate=1e-3", "model.dtype=float32", "trainer.use_cpu=true"]
    report = ["trainer.report_to=none", "evaluation.report_frames=false", "trainer.logging_steps=1"]
    asked = ["evaluation.max_new_tokens=320", "evaluation.batch_size=60", "trainer.eval_strategy=no"]
    return ["data=jsonl", *named, *weights, *batches, *model, *report, *asked]


def start(words: Sequence[str], log: Path, *, ranks: int = 1) -> subprocess.Popen[bytes]:
    """A run of train_sft.py; on several ranks under torchrun."""
    log.parent.mkdir(parents=True, exist_ok=True)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"] if ranks > 1 else []
    command = [sys.executable, *launcher, str(ROOT / "train_sft.py"), *words]
    with log.open("ab") as file:
        file.write((" ".join(command) + "\n\n").encode())
        file.flush()
        return subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env=environment())


def environment() -> dict[str, str]:
    # A thread each: two threads for one core wait for each other.
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    given = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": "", **threads}
    return os.environ | given | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def ended(process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits. Raises RuntimeError, with the last line of its log, where it failed."""
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise
    if code:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise RuntimeError(f"exit code {code}: {lines[-1] if lines else ''} ({log})")


def trained(out: Path, words: Sequence[str], *, seed: int, steps: int) -> dict[str, Any]:
    """What a run of one seed drew, and scored: made once."""
    run, log = out / f"seed_{seed}", out / f"seed_{seed}.log"
    began_s = time.monotonic()
    if not (run / "metrics.json").is_file():
        more = [f"seed={seed}", f"trainer.max_steps={steps}", "trainer.save_strategy=no", f"output_dir={run}"]
        ended(start([*words, *more], log), log)
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    scores = {column: headlines(metrics[column]) for column in COLUMNS}
    drawn = json.loads((run / "mixture.json").read_text(encoding="utf-8"))["sources"]
    return {"seed": seed, "seconds": time.monotonic() - began_s, "scores": scores, "metrics": metrics, "sources": drawn}


def killed_runs(out: Path, words: Sequence[str]) -> dict[str, bool]:
    """Whether a short training that is killed draws and learns the same as one that is not, and on two processes."""
    saves = ["trainer.save_strategy=steps", f"trainer.save_steps={SAVED_EVERY}", f"trainer.num_train_epochs={EPOCHS}"]
    less = ["evaluation.shuffled_video_control=false", "trainer.dataloader_num_workers=0"]
    runs = {name: out / f"stream_{name}" for name in ("whole", "killed", "on_two")}
    for name, run in runs.items():
        log, given = out / f"stream_{name}.log", [*words, *STREAM, *saves, *less, f"output_dir={run}"]
        if (run / "metrics.json").is_file():
            continue
        process = start(given, log)
        if name != "whole":
            while process.poll() is None and last_step(run) < KILLED_AT:
                time.sleep(POLL_S)
            process.kill()
            process.wait()
            process = start(given, log, ranks=2 if name == "on_two" else 1)
        ended(process, log)
    steps = {name: logged(run) for name, run in runs.items()}
    drawn = {
        name: [(one["name"], one["samples"], one["tokens"]) for one in sources_of(run)] for name, run in runs.items()
    }
    return {
        "a run that is killed: the same samples and losses at each step": steps["killed"] == steps["whole"],
        "a run that is killed: the same samples and tokens of each source": drawn["killed"] == drawn["whole"],
        "and on two processes": drawn["on_two"] == drawn["whole"],
    }


def last_step(run: Path) -> int:
    log = run / "train_log.jsonl"
    # A line that is being written is not there yet.
    return log.read_text(encoding="utf-8").count('"loss"') if log.is_file() else 0


def logged(run: Path) -> list[dict[str, float]]:
    """Of each step the loss, to the last bit, and what was drawn of each source until then."""
    kept = [
        {key: value for key, value in entry.items() if key in ("step", "loss") or key.startswith("drawn/")}
        for entry in read_jsonl(run / "train_log.jsonl")
        if "loss" in entry
    ]
    return [entry for at, entry in enumerate(kept) if entry["step"] not in {later["step"] for later in kept[at + 1 :]}]


def sources_of(run: Path) -> list[dict[str, Any]]:
    return json.loads((run / "mixture.json").read_text(encoding="utf-8"))["sources"]


def streams(out: Path, words: Sequence[str]) -> dict[str, bool]:
    """Whether `vtg.get_dataloader` gives the same samples after a stop and on two processes."""
    state, found = out / "state.json", {}
    calls = {
        "one": (1, []),
        "two": (2, []),
        "stopped": (1, ["--state", str(state), "--stop-after", "7"]),
        "one_on": (1, ["--state", str(state)]),
        "two_on": (2, ["--state", str(state)]),
    }
    for name, (ranks, more) in calls.items():
        file, log = out / f"qids_{name}.json", out / f"qids_{name}.log"
        script = str(ROOT / "benchmarks" / "mixture_stream.py")
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
        with log.open("wb") as lines:
            command = [*launcher, script, str(file), "3", *more, *words, *STREAM]
            ended(subprocess.Popen(command, stdout=lines, stderr=lines, env=environment()), log)
        found[name] = json.loads(file.read_text(encoding="utf-8"))
    one, on = found["one"], found["one_on"]
    begun = found["stopped"]
    whole = [*begun[:-1], begun[-1] + on[0], *on[1:]]
    left = [one[len(begun) - 1][len(begun[-1]) :], *one[len(begun) :]]
    return {
        "a loader after a stop: the same samples in the same order": whole == one and bool(begun[-1] and on[0]),
        "a loader on two processes: the same samples in each epoch": ordered(found["two"]) == ordered(one),
        "a loader that goes on on two processes: the samples that are left": ordered(found["two_on"]) == ordered(left),
    }


def ordered(epochs: list[list[str]]) -> list[list[str]]:
    return [sorted(epoch) for epoch in epochs]


def tables(runs: Sequence[dict[str, Any]], sources: Mapping[str, Source]) -> str:
    """Drawn shares against wanted ones, and each task's metric, means over seeds with the least and the most."""
    shares = [["source", "form", "tasks", "rows", "wanted", "drawn"]]
    for at, (name, source) in enumerate(sources.items()):
        of_seeds = [run["sources"][at] for run in runs]
        drawn = spread([100 * one["drawn"] for one in of_seeds], decimals=2)
        wanted = f"{100 * of_seeds[0]['wanted']:.2f}"
        shares.append([name, source.layout, ", ".join(source.tasks), str(of_seeds[0]["rows"]), wanted, drawn])
    scores = [["task", "metric", "before", "after", "another video"]]
    for name in runs[0]["scores"]["tuned"]:
        of_columns = [spread([run["scores"][column].get(name, 0.0) for run in runs]) for column in COLUMNS]
        scores.append([name, TASKS[name].headline if name in TASKS else "mIoU", *of_columns])
    return "\n\n".join(markdown(table) for table in (shares, scores))


def spread(values: Sequence[float], *, decimals: int = 1) -> str:
    least, most = f"{min(values):.{decimals}f}", f"{max(values):.{decimals}f}"
    return least if least == most else f"{mean(values):.{decimals}f} ({least} to {most})"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]])


def main() -> int:
    """Parses the command line, makes the data, trains what is not trained yet, and prints the tables."""
    options = options_of()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    out = options.out.resolve()
    try:
        gym = ensure_gym(out / "gym", gym_of(quick=options.quick))
        sources = write_sources(gym, out / "sources", test_rows=6 if options.quick else 60)
        words = [*words_of(sources), *options.overrides]
        steps = 2 if options.quick else options.steps
        runs = []
        for seed in options.seeds:
            runs.append(trained(out, words, seed=seed, steps=steps))
            tuned = runs[-1]["scores"]["tuned"]
            print(f"seed {seed}: {', '.join(f'{name} {value:.1f}' for name, value in tuned.items())}", flush=True)
        held = killed_runs(out, words) | streams(out, words)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    table = tables(runs, sources)
    write_json(out / "results.json", {"settings": words, "steps": steps, "runs": runs, "held": held})
    write_text(out / "table.md", table + "\n")
    print(f"\n{table}\n")
    for what, is_so in held.items():
        print(f"{'yes' if is_so else 'NO '}  {what}")
    print(f"\n{out / 'results.json'}\n{out / 'table.md'}")
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
