"""Is each task learned? `python benchmarks/tasks.py -o DIR [--tasks qa,count] [--seeds 0,1,2] [--grpo count]`.

Trains the tiny model's language part, all of its weights, on one task of data=gym at a time (clips of 5 to 8 s with one
to four shapes, each once), one ordinary `train_sft.py` after another. Prints, and writes to DIR/table.md, the number by
which each task is compared: before, after, and after where every question is asked about another's video, which is what
the words alone give. `--grpo TASK` goes on from the weights of that task's first seed with `train_rl.py`.

The same command again goes on where it stopped. Words at the end are further settings of every run. No network, no GPU.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from vtg.config.data_settings import GymConfig
from vtg.demo.gym_dataset import ensure_gym
from vtg.errors import ConfigError, RunError
from vtg.storage.atomic import write_text
from vtg.storage.json_files import read_jsonl, write_json
from vtg.tasks.all_tasks import TASKS

ROOT = Path(__file__).parents[1]

DATA = GymConfig(
    train_videos=1200,
    val_videos=0,
    test_videos=100,
    long_videos=0,
    shortest_s=5.0,
    longest_s=8.0,
    long_s=8.0,
    crowded=False,
)

LONGEST = {"count": 4, "qa": 8, "caption": 32, "dense_caption": 72, "points": 96, "tracks": 224}
"""Tokens of an answer: what the longest true one takes, and a little. The base model ends none, and writes them all."""

COLUMNS = ("base", "tuned", "shuffled")


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python benchmarks/tasks.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="runs, data and the table go here")
    parser.add_argument("--tasks", default=",".join(LONGEST), help="comma-separated (default: %(default)s)")
    parser.add_argument("--seeds", default="0", help="comma-separated (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="optimizer steps of a run (default: %(default)s)")
    parser.add_argument("--grpo", metavar="TASK", help="then GRPO on this task, from its first seed")
    parser.add_argument("--grpo-steps", type=int, default=60, help="its optimizer steps (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a handful of videos and one step: does it run?")
    parser.add_argument("overrides", nargs="*", help="further settings of every run, such as parts.vision=full")
    options = parser.parse_args(arguments)
    options.tasks, options.seeds = options.tasks.split(","), [int(seed) for seed in options.seeds.split(",")]
    if unknown := [name for name in (*options.tasks, options.grpo or "qa") if name not in LONGEST]:
        parser.error(f"{unknown[0]}: there are {', '.join(LONGEST)}")
    if options.quick:
        options.steps = options.grpo_steps = 1
    if options.grpo and options.grpo not in options.tasks:
        parser.error(f"--grpo {options.grpo}: goes on from that task's run; name it in --tasks too")
    return options


def train(script: str, out: Path, words: Sequence[str]) -> dict[str, Any]:
    """The run's metrics.json, made now if it is not there.

    Raises RunError for a run that failed, and ConfigError where the folder holds one of other settings.
    """
    kept, scores = out / "words.json", out / "metrics.json"
    if kept.is_file() and json.loads(kept.read_text(encoding="utf-8")) != list(words):
        raise ConfigError(f"{out}: holds a run of other settings; remove it, or choose another -o")
    if not scores.is_file():
        out.mkdir(parents=True, exist_ok=True)
        write_json(kept, list(words))
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, str(ROOT / script), *words, f"output_dir={out.absolute()}"]
        with (out / "output.txt").open("wb") as log:
            done = subprocess.run(command, env=environment, stdout=log, stderr=log)
        if done.returncode or not scores.is_file():
            raise RunError(f"{out / 'output.txt'} says why this failed: {' '.join(command)}")
    return json.loads(scores.read_text(encoding="utf-8"))


def words_of(task: str, folder: Path, seed: int) -> list[str]:
    """What SFT and GRPO share."""
    data = folder.absolute() / "data"
    return [
        "data=jsonl",
        *(
            f"data.{key}={data}/{split}_{task}.jsonl"
            for key, split in {"annotation_file": "train", "test_file": "test"}.items()
        ),
        f"data.video_dir={data}",
        "data.val_share=0",
        f"video.cache_dir={folder.absolute()}/cache",
        "video.cache_format=raw",
        "lora=none",
        "model.dtype=float32",
        "trainer.eval_strategy=no",
        "trainer.save_strategy=no",
        "trainer.report_to=none",
        "trainer.use_cpu=true",
        f"evaluation.max_new_tokens={LONGEST[task]}",
        "evaluation.batch_size=64",
        "evaluation.report_frames=false",
        f"seed={seed}",
    ]


def fine_tune(task: str, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """The task's number by column."""
    more = ["trainer.learning_rate=1e-3", f"trainer.max_steps={options.steps}", "batching=packed"]
    more += ["batching.share_video=true", "batching.target_batch_tokens=4000", *options.overrides]
    metrics = train("train_sft.py", options.out / f"{task}-{seed}", [*words_of(task, options.out, seed), *more])
    return {column: metrics[column][task][TASKS[task].headline] for column in COLUMNS}


def reinforce(task: str, options: argparse.Namespace) -> str:
    """One line: the mean reward of the first and of the last tenth of the steps, and the task's number."""
    out, seed = options.out / f"{task}-grpo", options.seeds[0]
    more = [f"model.path={options.out.absolute()}/{task}-{seed}", f"trainer.max_steps={options.grpo_steps}"]
    more += [
        f"rl.max_completion_length={LONGEST[task]}",
        "trainer.learning_rate=4e-4",
        "trainer.warmup_steps=0",
        *options.overrides,
    ]
    metrics = train("train_rl.py", out, [*words_of(task, options.out, seed), *more])
    rewards = [line["reward"] for line in read_jsonl(out / "train_log.jsonl") if "reward" in line]
    tenth = max(1, len(rewards) // 10)
    numbers = ", ".join(f"{column} {metrics[column][task][TASKS[task].headline]:.1f}" for column in COLUMNS)
    return f"GRPO on {task}: reward {mean(rewards[:tenth]):.3f} to {mean(rewards[-tenth:]):.3f}; {numbers}"


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """A row for each task: means over seeds, and the least and the most of the tuned."""
    lines = ["| task | metric | seeds | before | after | shuffled |", "|---|---|---|---|---|---|"]
    for task, runs in results.items():
        cells = []
        for column in COLUMNS:
            values = [run[column] for run in runs]
            spread = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
            cells.append(f"{mean(values):.1f}{spread}")
        lines.append(f"| {' | '.join((task, TASKS[task].headline, str(len(runs)), *cells))} |")
    return "\n".join(lines)


def main() -> int:
    """Parses the command line, trains what is not trained yet, and prints the table as it grows."""
    options = options_of()
    results: dict[str, list[dict[str, float]]] = {}
    try:
        ensure_gym(options.out / "data", replace(DATA, train_videos=8, test_videos=2) if options.quick else DATA)
        for seed in options.seeds:
            for task in options.tasks:
                results.setdefault(task, []).append(fine_tune(task, seed, options))
                write_text(options.out / "table.md", table(results) + "\n")
                print(f"{task}, seed {seed}: {results[task][-1]}", flush=True)
        print(table(results))
        if options.grpo:
            print(reinforce(options.grpo, options))
    except (ConfigError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
