"""How much slower is a training step on a busy machine? `python benchmarks/busy.py [--busy 5] [--rounds 3]`.

Steps of the demo (its model, adapter, batch of 16 samples and optimizer; decoded beforehand), alone and beside
processes that do nothing but spin. There is one process for every setting; they take turns, a few steps each, so that
all see the same machine. What is compared is who decides over the threads of OpenMP:

- `vtg`: vtg alone.
- `one thread`: `OMP_NUM_THREADS=1`.
- `spinning`: `GOMP_SPINCOUNT=300000`, what GNU's OpenMP (in torch's wheels for Linux) does unless told otherwise.

`fair` is the slowdown nobody can avoid: what a scheduler that shares cores equally among all threads leaves of them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import vtg  # noqa: F401  before torch, whose threads it chooses

PROJECT = Path(__file__).parents[1]
SETTINGS: dict[str, dict[str, str]] = {
    "vtg": {},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "spinning": {"GOMP_SPINCOUNT": "300000"},
}
OPENMP = ("OMP_", "GOMP_", "KMP_", "MKL_NUM_THREADS")
"""Variables that nobody but the setting under test is to have set."""


def demo_step(demo: Path) -> Callable[[], None]:
    """One optimizer step on one batch of the demo."""
    import torch
    from hydra import compose, initialize_config_dir

    from vtg.config.load import load_config
    from vtg.config.schema import SFTConfig
    from vtg.data.encoding import IGNORE_INDEX
    from vtg.data.grounding_dataset import GroundingDataset, make_provider
    from vtg.data.skip_report import SkipReport
    from vtg.data.splits import read_split
    from vtg.data.training_collator import TrainingCollator
    from vtg.models.adapting import prepare_training
    from vtg.models.loading import load_model, tokens_per_second
    from vtg.tasks.span_task import SpanTask

    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        config = load_config(compose("sft", overrides=[f"data.video_dir={demo}"]), SFTConfig)
    model, processor = load_model(config.model)
    with tempfile.TemporaryDirectory() as folder:
        report = SkipReport(Path(folder) / "skipped.jsonl", max_bad_share=0.0)
        samples = read_split(str(demo / "train.jsonl"), video_dir=str(demo), report=report)
    dataset = GroundingDataset(
        samples,
        task=SpanTask(config.task),
        processor=processor,
        provider=make_provider(config.video, processor),
        video_dir=str(demo),
        max_length=config.model.max_length,
        tokens_per_second=tokens_per_second(model),
        training=True,
    )
    collate = TrainingCollator(processor.tokenizer.pad_token_id, config.batching)  # type: ignore[attr-defined]
    batch = collate([dataset[index] for index in range(0, 64, 4)])
    inputs = {key: value for key, value in batch.items() if isinstance(value, torch.Tensor)}
    labels = inputs.pop("labels")[:, 1:]
    keep = (labels != IGNORE_INDEX).any(0).nonzero()[:, 0]
    trained = prepare_training(model, config.parts, config.lora).train()
    parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)

    def step() -> None:
        logits = trained(**inputs, logits_to_keep=keep, use_cache=False).logits
        targets = labels[:, keep].flatten()
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets, ignore_index=IGNORE_INDEX).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def work(demo: Path) -> None:
    """Takes so many steps as each line of the input says, and prints the seconds of each, and the threads."""
    step = demo_step(demo)
    step()  # allocates
    import torch

    print(json.dumps(torch.get_num_threads()), flush=True)
    for line in sys.stdin:
        taken = []
        for _ in range(int(line)):
            begin = time.perf_counter()
            step()
            taken.append(time.perf_counter() - begin)
        print(json.dumps(taken), flush=True)


class Worker:
    """A process that takes steps under a setting when it is told to."""

    def __init__(self, demo: Path, environment: dict[str, str]) -> None:
        own = {name: value for name, value in os.environ.items() if not name.startswith(OPENMP)} | environment
        command = [sys.executable, str(Path(__file__).absolute()), "--work", "--demo", str(demo)]
        self.process = subprocess.Popen(
            command, cwd=PROJECT, env=own | {"PYTHONPATH": str(PROJECT)}, stdin=-1, stdout=-1, text=True
        )
        self.threads: int = self._heard()

    def steps(self, count: int, *, realtime: bool = False) -> list[float]:
        assert self.process.stdin
        self._schedule(os.SCHED_RR if realtime else os.SCHED_OTHER, int(realtime))
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        taken = self._heard()
        self._schedule(os.SCHED_OTHER, 0)
        return taken

    def _schedule(self, policy: int, priority: int) -> None:
        for thread in os.listdir(f"/proc/{self.process.pid}/task"):
            if os.sched_getscheduler(int(thread)) != policy:
                os.sched_setscheduler(int(thread), policy, os.sched_param(priority))

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def _heard(self):
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"a process that takes steps ended with {self.process.wait()}")
        return json.loads(line)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=5, help="processes that spin meanwhile (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each setting (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="steps a turn (default: %(default)s)")
    parser.add_argument("--realtime", action="store_true", help="alone on a shared machine: before all else (as root)")
    parser.add_argument("--demo", type=Path, default=PROJECT / "outputs" / "demo_data", help="made if it is not there")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(options.demo)
    from vtg.config.data_settings import DemoConfig
    from vtg.demo.demo_dataset import ensure_demo

    demo = ensure_demo(options.demo, DemoConfig(train_videos=160, val_videos=8, test_videos=30)).absolute()
    cores = len(os.sched_getaffinity(0))
    with ExitStack() as stack:
        workers = {name: Worker(demo, environment) for name, environment in SETTINGS.items()}
        for worker in workers.values():
            stack.callback(worker.end)
        found: dict[str, dict[str, list[float]]] = {name: {"alone": [], "beside": []} for name in workers}
        for _ in range(options.rounds):
            for when, others in (("alone", 0), ("beside", options.busy)):
                with spinning(others):
                    for name, worker in workers.items():
                        realtime = options.realtime and when == "alone"
                        found[name][when] += worker.steps(options.steps, realtime=realtime)
                        print(f"{name}, {when}: {found[name][when][-options.steps :]}", file=sys.stderr)
    print(f"| | threads | alone, s | beside {options.busy}, s | ratio | fair |\n|---|---|---|---|---|---|")
    for name, times in found.items():
        alone, beside = (statistics.median(times[when]) for when in ("alone", "beside"))
        threads = workers[name].threads
        fair = max(1.0, (threads + options.busy) / cores)
        print(f"| {name} | {threads} | {alone:.2f} | {beside:.2f} | {beside / alone:.1f} | {fair:.1f} |")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
