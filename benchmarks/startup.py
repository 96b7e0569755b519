"""How long from a command to its first optimizer step? `python benchmarks/startup.py [--llamafactory-python PATH]`.

All ways train adapters of the tiny Qwen3-VL that ships with vtg, on the rows of the demo's training set, each in a
process of its own, interleaved. Nothing in them is patched: a phase ends where the process says something or writes a
file, which is looked for a hundred times a second, and the process is killed after its first step.

- `vtg` reads the demo's videos, which are made beforehand. `base` is the measurement of the base model on the test set,
  a part of the course; the ways without it have no test and no validation set.
- `trl` (this environment's) is given the sentences and answers as text: its command line takes no video file.
- `llamafactory` (in an environment of its own, for its pins contradict those of vtg) is given the same text, or, as
  `llamafactory, video`, the same videos.

`import torch` and `import transformers` alone (with what a Qwen-VL model and the Trainer need) are the floor of all.
"""

import argparse
import json
import os
import re
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).parents[1]
MODEL = PROJECT / "vtg" / "demo" / "tiny_qwen3_vl"
NEEDED = "from transformers import AutoModelForImageTextToText, AutoProcessor, Trainer; import peft"
NEEDED += "; import transformers.models.qwen3_vl.modeling_qwen3_vl"
LOSS = r"'(train_)?loss'|loss=|reward="
"""How the peers' first step shows: with `logging_steps=1` they print its loss or reward. vtg writes train_log.jsonl."""

Times = tuple[float, float]
"""Seconds on the clock, and of CPU in all processes."""


@dataclass(frozen=True)
class Way:
    """A command, and the ends of its phases: a file that is written, or a pattern in the output; no phases: its exit.

    Where there are phases, the last argument ends with `=`, and the output folder, new for every run, is put after it.
    """

    command: list[str]
    phases: dict[str, str | Path] = field(default_factory=dict)


def cpu_s(pid: int) -> float:
    """Of a process and its descendants, so far."""
    try:
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):  # it has ended, and its parent counts it
        return 0.0
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK") + sum(cpu_s(int(child)) for child in children)


def has_content(path: Path) -> bool:
    """Whether something is there: train_log.jsonl is begun empty."""
    return path.exists() and path.stat().st_size > 0


def run_to_exit(command: list[str]) -> dict[str, Times]:
    begin = time.perf_counter()
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)}: ended with {os.waitstatus_to_exitcode(status)}")
    return {"all": (time.perf_counter() - begin, usage.ru_utime + usage.ru_stime)}


def run_to_first_step(way: Way, out: Path, limit_s: float) -> dict[str, Times]:
    """The phases of one run, and `all` of them together; ends the benchmark where one does not come."""
    command = [*way.command[:-1], way.command[-1] + str(out)]
    begin, last, found, said = time.perf_counter(), (0.0, 0.0), {}, b""
    process = subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    assert process.stdout is not None
    pending = list(way.phases.items())
    try:
        while pending:
            if select.select([process.stdout], [], [], 0.01)[0]:
                said += os.read(process.stdout.fileno(), 65536)
            name, sign = pending[0]
            now = (time.perf_counter() - begin, cpu_s(process.pid))
            if has_content(out / sign) if isinstance(sign, Path) else re.search(sign.encode(), said):
                found[name] = (now[0] - last[0], now[1] - last[1])
                last = now
                del pending[0]
            elif process.poll() is not None or now[0] > limit_s:
                tail = said.decode(errors="replace")[-3000:]
                sys.exit(f"{' '.join(command)}: no {name} after {now[0]:.0f} s\n{tail}")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return {**found, "all": last}


def make_rows(folder: Path, demo: Path) -> None:
    """The demo's training rows as the peers read them."""
    rows = [json.loads(line) for line in (demo / "train.jsonl").read_text().splitlines()]
    kinds: dict[str, list[dict]] = {"sft": [], "grpo": [], "text": [], "video": []}
    for row in rows:
        start, end = row["timestamp"] if isinstance(row["timestamp"][0], float | int) else row["timestamp"][0]
        question = {"role": "user", "content": row["sentence"]}
        answer = {"role": "assistant", "content": f"{start:.1f} to {end:.1f} seconds"}
        asked = {"role": "user", "content": f"<video>{row['sentence']}"}
        kinds["sft"].append({"messages": [question, answer]})
        kinds["grpo"].append({"prompt": [question]})
        kinds["text"].append({"messages": [question, answer]})
        kinds["video"].append({"messages": [asked, answer], "videos": [str(demo / row["video"])]})
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    described = {}
    for kind, made in kinds.items():
        (folder / kind).mkdir()
        (folder / kind / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
        columns = {"messages": "messages"} | ({"videos": "videos"} if kind == "video" else {})
        described[kind] = {
            "file_name": f"{kind}/train.jsonl", "formatting": "sharegpt", "columns": columns, "tags": tags,
        }  # fmt: skip
    (folder / "dataset_info.json").write_text(json.dumps(described))


def vtg_ways(demo: Path) -> dict[str, Way]:
    def phases(*, base: bool) -> dict[str, str | Path]:
        start: dict[str, str | Path] = {
            "compose": "loading torch",
            "imports": Path("config.yaml"),
            "model": r" on cpu, attention",
        }
        start["data"] = r"an epoch has \d+ batches|a pass over all"
        measured = {"base": Path("base_predictions.jsonl")} if base else {}
        return {**start, **measured, "step": Path("train_log.jsonl")}

    untested = ["data.test_file=null", "data.val_file=null"]
    ways = {}
    for name in ("sft", "rl"):
        command = [sys.executable, f"train_{name}.py", "trainer.logging_steps=1", f"data.video_dir={demo}"]
        command += [f"data.demo.{kind}_videos={count}" for kind, count in VIDEOS.items()] if name == "rl" else []
        ways[f"vtg {name}"] = Way([*command, "output_dir="], phases(base=True))
        ways[f"vtg {name}, no base"] = Way([*command, *untested, "output_dir="], phases(base=False))
    return ways


VIDEOS = {"train": 160, "val": 8, "test": 30}
"""The SFT demo's sizes, which RL is given too."""


def peer_ways(rows: Path, llamafactory: Path | None) -> dict[str, Way]:
    common = [
        *("--model_name_or_path", str(MODEL), "--per_device_train_batch_size", "16", "--logging_steps", "1"),
        *("--max_steps", "20", "--report_to", "tensorboard"),
    ]
    trl = [str(Path(sys.executable).with_name("trl"))]
    step: dict[str, str | Path] = {"step": LOSS}
    adapter = ["--use_peft", "--lora_r", "16", "--lora_target_modules", "all-linear", "--bf16", "false"]
    grpo = ["--reward_funcs", "think_format_reward", "--num_generations", "8", "--max_completion_length", "24"]
    ways = {}
    for name, more in (("sft", []), ("grpo", grpo)):
        command = [*trl, name, "--dataset_name", str(rows / name), *adapter, *more, *common, "--output_dir="]
        ways[f"trl {name}, text"] = Way(command, step)
    if llamafactory is not None:
        train = [str(llamafactory.with_name("llamafactory-cli")), "train", "--stage", "sft", "--do_train", "true"]
        train += ["--template", "qwen3_vl_nothink", "--finetuning_type", "lora", "--lora_rank", "16", *common]
        for kind in ("text", "video"):
            data = ["--dataset", kind, "--dataset_dir", str(rows)]
            ways[f"llamafactory, {kind}"] = Way([*train, *data, "--output_dir="], step)
    return ways


def asking_ways(llamafactory: Path | None) -> dict[str, Way]:
    trl = str(Path(sys.executable).with_name("trl"))
    ways = {
        "vtg sft --help": [sys.executable, "train_sft.py", "--help"],
        "vtg sft --cfg job": [sys.executable, "train_sft.py", "--cfg", "job"],
        "vtg rl --help": [sys.executable, "train_rl.py", "--help"],
        "trl --help": [trl, "--help"],
        "trl sft --help": [trl, "sft", "--help"],
        "import torch": [sys.executable, "-c", "import torch"],
        "import transformers": [sys.executable, "-c", NEEDED],
    }
    if llamafactory is not None:
        program = str(llamafactory.with_name("llamafactory-cli"))
        ways["llamafactory version"] = [program, "version"]
        ways["llamafactory train --help"] = [program, "train", "--help"]
        ways["import transformers (of llamafactory)"] = [str(llamafactory), "-c", NEEDED]
    return {name: Way(command) for name, command in ways.items()}


def shown(name: str, runs: list[dict[str, Times]]) -> str:
    """A line of the table: medians of each phase on the clock, with those of CPU in brackets."""
    cells = []
    for phase in runs[0]:
        clock, cpu = (statistics.median(run[phase][at] for run in runs) for at in (0, 1))
        cells.append(f"{phase} {clock:.2f} ({cpu:.2f})")
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="ways whose name matches this regular expression")
    parser.add_argument("--llamafactory-python", type=Path, metavar="PATH", help="python of its environment")
    parser.add_argument("--demo", type=Path, default=PROJECT / "outputs" / "demo_data", help="made if it is not there")
    parser.add_argument("--limit-s", type=float, default=600, help="the most that one run may take")
    parser.add_argument("--json", action="store_true", help="all runs as one line of JSON, in place of the table")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the process it watches ends too
    from vtg.config.data_settings import DemoConfig
    from vtg.demo.demo_dataset import ensure_demo

    demo = ensure_demo(options.demo, DemoConfig(**{f"{kind}_videos": count for kind, count in VIDEOS.items()}))
    found: dict[str, list[dict[str, Times]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        rows = Path(temporary) / "rows"
        rows.mkdir()
        make_rows(rows, demo.absolute())
        ways = asking_ways(options.llamafactory_python) | vtg_ways(demo.absolute())
        ways |= peer_ways(rows, options.llamafactory_python)
        ways = {name: way for name, way in ways.items() if re.search(options.only, name)}
        os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HOME": f"{temporary}/hf"}
        for repeat in range(options.repeats + 1):  # the first time fills the file cache
            for at, (name, way) in enumerate(ways.items()):
                out = Path(temporary) / f"{repeat}_{at}"
                times = run_to_first_step(way, out, options.limit_s) if way.phases else run_to_exit(way.command)
                if repeat:
                    found.setdefault(name, []).append(times)
                print(f"{repeat}: {name}", file=sys.stderr)
    print(json.dumps(found) if options.json else "\n".join(shown(name, runs) for name, runs in found.items()))


if __name__ == "__main__":
    main()
