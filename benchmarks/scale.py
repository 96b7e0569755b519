"""What do millions of annotation rows cost? `python benchmarks/scale.py [--rows 10000 100000 1000000] [--json]`.

Rows are made up (four queries a video, durations to the hundredth of a second, two metadata keys; every video is there
as an empty file with an entry in the index). Each way and size runs in a process of its own:

- `table`: `read_split` maps an Arrow file, made the first time; the costs of the samples and the plan of an epoch for 8
  ranks follow, packed by tokens, and the first batches of a rank.
- `table, other rank`: the same without the costs, which rank 0 finds for all.
- `list`: what `table` takes the place of, a Python list of Samples, with nothing planned.
- `datasets`: `datasets.load_dataset("json")`, which checks nothing, with nothing planned.

Memory is over that of the imports and the loaded processor: the process's own (anonymous), and with what is mapped from
files (which the processes of a machine share, and the kernel takes back when it needs room). `peak` is the highest of
both together at any moment.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RANKS = 8
TEXT = """a person the man woman opens closes door window walks runs sits stands puts takes cup book phone laptop table
chair left right hand slowly quickly then before after turns on off light looks at out of into kitchen room bed"""
WORDS = TEXT.split()
ROWS_A_VIDEO = 4


def make(folder: Path, rows: int) -> str:
    """The annotation file, its videos (empty files, which planning never opens) and their index."""
    from vtg.video.files.video_files import stamp
    from vtg.video.video_index import ENDING, VideoIndex

    path = folder / f"rows_{rows}.jsonl"
    if path.exists():
        return str(path)
    rng, videos = random.Random(0), -(-rows // ROWS_A_VIDEO)
    entries: list[dict[str, Any]] = []
    with path.open("w") as file:
        for video in range(videos):
            name = f"{video // 1000:04d}/{video:07d}.mp4"
            target = folder / "videos" / name
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch()
            duration = round(min(max(rng.lognormvariate(3.7, 0.8), 5), 600), 2)
            shape = rng.choice([(720, 1280), (480, 854), (360, 640), (1280, 720)])
            size, mtime_ns = stamp(str(target))
            facts = {"frames": 0, "fps": rng.choice([24.0, 25.0, 29.97, 30.0]), "height": shape[0], "width": shape[1]}
            known = {"video": name, "size": size, "mtime_ns": mtime_ns, "duration_s": duration, "error": None}
            entries.append(known | facts)
            for _ in range(min(ROWS_A_VIDEO, rows - video * ROWS_A_VIDEO)):
                start = round(rng.uniform(0, duration - 2), 2)
                end = round(rng.uniform(start + 0.5, duration), 2)
                row = {
                    "video": name, "duration": duration, "timestamp": [start, end],
                    "sentence": " ".join(rng.choices(WORDS, k=rng.randint(5, 14))),
                    "source": "made up", "annotator": rng.randrange(100),
                }  # fmt: skip
                file.write(json.dumps(row) + "\n")
    VideoIndex.of(entries).write(f"{path}{ENDING}")
    return str(path)


class Memory:
    """Of this process, in MB: what it was at `start`, and the highest since, looked at every 5 ms."""

    def __init__(self) -> None:
        self.begin = self.now()
        self.peak = self.begin
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @staticmethod
    def now() -> tuple[float, float]:
        """(anonymous, anonymous and from files)."""
        held = {}
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(("RssAnon", "VmRSS")):
                held[line.partition(":")[0]] = int(line.split()[1]) / 1024
        return held["RssAnon"], held["VmRSS"]

    def over(self) -> dict[str, float]:
        self._ends.set()
        self._thread.join()
        anonymous, whole = (now - before for now, before in zip(self.now(), self.begin, strict=True))
        peak = max(self.peak[1] - self.begin[1], whole)
        return {"own_mb": round(anonymous, 1), "with_files_mb": round(whole, 1), "peak_mb": round(peak, 1)}

    def _watch(self) -> None:
        while not self._ends.wait(0.005):
            self.peak = tuple(map(max, self.peak, self.now()))  # type: ignore[assignment]


def timed(found: dict[str, float], name: str, job: Callable[[], Any]) -> Any:
    begin = time.perf_counter()
    result = job()
    found[f"{name}_s"] = round(time.perf_counter() - begin, 2)
    return result


def run_table(path: str, cache: str, *, rank: int) -> dict[str, float]:
    import numpy as np

    from vtg.batching.cost import SampleCosts, sample_costs, video_facts
    from vtg.config.data_settings import BatchingConfig
    from vtg.config.task_settings import TaskConfig
    from vtg.config.video_settings import VideoConfig
    from vtg.data.skip_report import SkipReport
    from vtg.data.splits import read_split
    from vtg.models.loading import load_processor
    from vtg.tasks.span_task import SpanTask
    from vtg.training.sft.batches import PlannedBatches
    from vtg.training.sft.planner import make_planner
    from vtg.video.video_index import VideoIndex

    processor = load_processor("tiny")
    video_dir = str(Path(path).parent / "videos")
    batching = BatchingConfig(by="tokens", target_batch_tokens=65536, packing=True, oversize="alone")
    video = VideoConfig(max_frames=256, min_pixels=65536, total_pixels=25165824)
    saved = Path(cache) / f"{Path(path).stem}.costs.npz"
    kept = None if rank == 0 else np.load(saved)
    report = SkipReport(Path(cache) / "skipped.jsonl", max_bad_share=0.05)
    memory, found = Memory(), {}
    samples = timed(found, "open", lambda: read_split(path, video_dir=video_dir, report=report, cache_dir=cache))
    if kept is not None:
        costs = SampleCosts(*(kept[name] for name in kept.files))  # as if sent by rank 0
    else:
        index = timed(found, "index", lambda: VideoIndex.beside(path, None))
        names = samples.videos()[0]
        facts = timed(found, "facts", lambda: video_facts(names, video_dir=video_dir, index=index))
        shape: Any = {"task": SpanTask(TaskConfig()), "processor": processor, "video": video}
        costs = timed(found, "costs", lambda: sample_costs(samples, facts, **shape))
        del index, names, facts
        np.savez(saved, **{name: value for name, value in vars(costs).items()})
    limits: Any = {"budget": 65536.0, "batch_size": 1, "accumulation": 1, "seed": 0}
    planner = timed(found, "planner", lambda: make_planner(batching, samples, costs, **limits))
    batches = PlannedBatches(planner, rank=rank, ranks=RANKS)
    first = timed(found, "plan_to_first_batch", lambda: next(iter(batches)))
    begin = time.perf_counter()
    for at in np.random.default_rng(0).integers(len(samples), size=2000).tolist():
        samples[at]
    found["row_us"] = round((time.perf_counter() - begin) / 2000 * 1e6, 1)
    assert len(first) and len(samples)
    return found | memory.over()


def run_list(path: str) -> dict[str, float]:
    from vtg.annotations.sample import Sample, read_samples

    memory, found = Memory(), {}
    held = timed(found, "open", lambda: [one for one in read_samples(path) if isinstance(one, Sample)])
    assert held
    return found | memory.over()


def run_datasets(path: str, cache: str) -> dict[str, float]:
    import datasets

    datasets.disable_progress_bars()
    memory, found = Memory(), {}
    options: Any = {"data_files": path, "split": "train", "cache_dir": str(Path(cache) / "hf")}
    held: Any = timed(found, "open", lambda: datasets.load_dataset("json", **options))
    timed(found, "durations", lambda: held.with_format("numpy")["duration"][:])
    begin = time.perf_counter()
    for at in random.Random(0).choices(range(len(held)), k=2000):
        held[at]
    found["row_us"] = round((time.perf_counter() - begin) / 2000 * 1e6, 1)
    return found | memory.over()


WAYS: dict[str, Callable[[str, str], dict[str, float]]] = {
    "table, first": lambda path, cache: run_table(path, cache, rank=0),
    "table, again": lambda path, cache: run_table(path, cache, rank=0),
    "table, other rank": lambda path, cache: run_table(path, cache, rank=1),
    "list": lambda path, cache: run_list(path),
    "datasets, first": run_datasets,
    "datasets, again": run_datasets,
}
SHOWN = (
    "open_s", "facts_s", "costs_s", "planner_s", "plan_to_first_batch_s", "row_us",
    "own_mb", "with_files_mb", "peak_mb",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--folder", type=Path, help="where the rows are made and kept; default: a temporary folder")
    parser.add_argument("--one", nargs=3, metavar=("WAY", "FILE", "CACHE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        import datasets  # noqa: F401  # which training imports, with pandas and pyarrow

        way, path, cache = options.one
        print(json.dumps(WAYS[way](path, cache)))
        return
    measured = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print("| rows | way |" + "".join(f" {name} |" for name in SHOWN) + "\n|" + "---|" * (len(SHOWN) + 2))
        for rows in options.rows:
            path = make(folder, rows)
            with tempfile.TemporaryDirectory(dir=folder) as cache:
                for way in options.ways:
                    command = [sys.executable, __file__, "--one", way, path, cache]
                    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false"}
                    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
                    if done.returncode:
                        sys.exit(done.stderr)
                    found = json.loads(done.stdout.splitlines()[-1])
                    measured.append({"rows": rows, "way": way} | found)
                    cells = "".join(f" {found.get(name, '')} |" for name in SHOWN)
                    print(f"| {rows:,} | {way} |{cells}", flush=True)
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
