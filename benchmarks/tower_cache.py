"""What does keeping a frozen tower's output save? `python benchmarks/tower_cache.py [--videos N] [--epochs N]`.

`train_sft.py` on the tiny model and demo videos, nothing measured before or after: without a cache, with one that is
empty, and with one that a run has filled. Seconds of training (`train_runtime`), CPU seconds and the highest memory of
the process, its clips by where they came from, and what the folder takes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from vtg.config.data_settings import DemoConfig
from vtg.demo.demo_dataset import ensure_demo

ROOT = Path(__file__).parents[1]


def train(demo: Path, out: Path, *more: str) -> dict[str, float]:
    """One run; its seconds of training, CPU seconds, and MB at most."""
    words = [
        *("data=jsonl", f"data.annotation_file={demo / 'train.jsonl'}", f"data.video_dir={demo}"),
        *(f"output_dir={out}", "trainer.eval_strategy=no", "trainer.save_strategy=no", "trainer.logging_steps=1"),
        *("trainer.max_steps=-1", "trainer.use_cpu=true", *more),
    ]
    with (out.parent / f"{out.name}.log").open("w") as log:
        process = subprocess.Popen([sys.executable, ROOT / "train_sft.py", *words], stdout=log, stderr=log, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(Path(log.name).read_text()[-2000:])
    entries = [json.loads(line) for line in (out / "train_log.jsonl").read_text().splitlines()]
    clips = {key: sum(entry.get(f"clips/{key}", 0) for entry in entries) for key in ("decoded", "memory", "seen")}
    seconds = next(entry["train_runtime"] for entry in entries if "train_runtime" in entry)
    return {"s": seconds, "cpu_s": usage.ru_utime + usage.ru_stime, "mb": usage.ru_maxrss / 1024, **clips}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=24, help="of the demo (default: 24)")
    parser.add_argument("--epochs", type=int, default=3, help="(default: 3)")
    parser.add_argument("--side", type=int, default=64, help="pixels a side of a frame (default: 64)")
    options = parser.parse_args()
    pixels = options.side**2
    sizes = (f"video.min_pixels={pixels}", f"video.max_pixels={pixels}", f"video.total_pixels={pixels * 64}")
    with tempfile.TemporaryDirectory(prefix="vtg-towers-") as folder:
        demo = ensure_demo(Path(folder) / "data", DemoConfig(train_videos=options.videos, val_videos=1, test_videos=1))
        epochs = f"trainer.num_train_epochs={options.epochs}"
        kept = f"video.tower_cache_dir={folder}/towers"
        found = {
            "without": train(demo, Path(folder) / "without", epochs, *sizes),
            "empty cache": train(demo, Path(folder) / "empty", epochs, *sizes, kept),
            "full cache": train(demo, Path(folder) / "full", epochs, *sizes, kept),
        }
        files = list(Path(folder, "towers").glob("??/*"))
        disk = {"files": len(files), "mb": sum(file.stat().st_size for file in files) / 1e6}
    columns = list(found["without"])
    print("| | " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 1) + "|")
    for name, one in found.items():
        print(f"| {name} | " + " | ".join(f"{one[key]:.1f}" for key in columns) + " |")
    print(json.dumps({"benchmark": "tower_cache", "runs": found, "disk": disk}))


if __name__ == "__main__":
    main()
