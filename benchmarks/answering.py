"""How long does an evaluation take? `python benchmarks/answering.py [--beside CHECKOUT] [--repeats 5] [--workers 2]`.

Greedy answers of the tiny model to the demo's test questions, four or five of a clip, by `predict` of vtg.evaluation.
One process asks them several times, as a training does: the first time clips are decoded and workers started, later
they are there. `--beside` names another checkout of vtg, whose process takes turns with this one's, so that both see
the same machine; whether their answers are the same is printed too. Seconds on the clock, and of the CPU by the process
that answers; medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]


def asked(folder: str, *, workers: int, batch_size: int) -> None:
    """A process of one checkout: asks all questions whenever a line comes in, and prints what that took."""
    import vtg  # noqa: F401, I001  before torch, whose threads it chooses
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from vtg.config.task_settings import TaskConfig
    from vtg.config.video_settings import VideoConfig
    from vtg.data.grounding_dataset import GroundingDataset, make_provider
    from vtg.data.skip_report import SkipReport
    from vtg.data.splits import read_split
    from vtg.demo.tiny_model import TINY_QWEN3_VL
    from vtg.evaluation.generate import predict
    from vtg.evaluation.question_reader import QuestionReader
    from vtg.tasks.span_task import SpanTask

    processor = AutoProcessor.from_pretrained(TINY_QWEN3_VL)
    model = AutoModelForImageTextToText.from_pretrained(TINY_QWEN3_VL, dtype=torch.float32, attn_implementation="sdpa")
    with tempfile.TemporaryDirectory() as scratch:
        report = SkipReport(Path(scratch) / "skipped.jsonl", max_bad_share=0.0)
        samples = read_split(f"{folder}/test.jsonl", video_dir=folder, report=report)
    dataset = GroundingDataset(
        samples,
        task=SpanTask(TaskConfig()),
        processor=processor,
        provider=make_provider(VideoConfig(), processor),
        video_dir=folder,
        max_length=4096,
        tokens_per_second=2.0,
        training=False,
    )
    reader = QuestionReader([dataset], num_workers=workers)
    for _ in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        rows, _ = predict(model, dataset, batch_size=batch_size, max_new_tokens=48, reader=reader)
        took = {"seconds": time.perf_counter() - start, "own_cpu_s": time.process_time() - cpu}
        print(json.dumps(took | {"texts": [rows[at]["text"] for at in sorted(rows)]}), flush=True)


def child(checkout: Path, folder: str, args: argparse.Namespace) -> Any:
    """This file's `asked`, with the vtg of a checkout."""
    code = f"import sys; sys.path[:0] = {[str(checkout), str(Path(__file__).parent)]!r}; from answering import asked; "
    code += f"asked({folder!r}, workers={args.workers}, batch_size={args.batch_size})"
    environment = os.environ | {"PYTHONPATH": str(checkout), "TQDM_DISABLE": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def answer(process: Any) -> dict[str, Any]:
    process.stdin.write("\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path, default=None, metavar="CHECKOUT")
    parser.add_argument("--videos", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5, help="evaluations after the first")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=8)
    args = parser.parse_args()

    from vtg.config.data_settings import DemoConfig
    from vtg.demo.demo_dataset import ensure_demo

    checkouts = {"vtg": PROJECT} | ({} if args.beside is None else {"beside": args.beside.resolve()})
    with tempfile.TemporaryDirectory() as folder:
        ensure_demo(f"{folder}/demo", DemoConfig(train_videos=1, val_videos=1, test_videos=args.videos, seed=0))
        processes = {name: child(checkout, f"{folder}/demo", args) for name, checkout in checkouts.items()}
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in processes}
        for _ in range(1 + args.repeats):
            for name, process in processes.items():
                found[name].append(answer(process))
        for process in processes.values():
            process.stdin.close()
            process.wait()
    count = len(found["vtg"][0]["texts"])
    print(f"| {count} questions | first s | later s | own CPU s | ms a question |\n|---|---:|---:|---:|---:|")
    for name, times in found.items():
        later, cpu = (statistics.median(one[key] for one in times[1:]) for key in ("seconds", "own_cpu_s"))
        print(f"| {name} | {times[0]['seconds']:.2f} | {later:.2f} | {cpu:.2f} | {1000 * later / count:.1f} |")
    if args.beside is not None:
        same = sum(a == b for a, b in zip(*(times[0]["texts"] for times in found.values()), strict=True))
        print(f"\n{same} of {count} answers are the same")


if __name__ == "__main__":
    main()
