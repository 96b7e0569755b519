"""Reads clips of good and broken videos from many threads for minutes: no crash, no hang, memory flat.

    python benchmarks/soak_video.py ../shared/data/videos --minutes 10 --threads 16

Every thread asks one shared ClipProvider for random clips (whole files, and 2 s parts) of random files of the folder.
Prints a line a minute, then one JSON line: clips and errors a file, resident memory over time. Exit code 1 where an
exception other than DecodeError came out, a file once read and once failed as a whole, a thread hung, or memory grew
by more than a tenth from the second quarter of the time to the last.
"""

import argparse
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

from vtg.config.video_settings import VideoConfig
from vtg.errors import SampleError
from vtg.video.container import probe
from vtg.video.provider import ClipProvider
from vtg.video.video_window import VideoWindow

HANG_S = 120.0
"""A thread that has worked on one clip for longer than this hangs."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--decoder", default="auto")
    parser.add_argument("--cache-dir", help="also read through a clip cache in this folder")
    options = parser.parse_args()
    files = sorted(str(path) for path in options.folder.iterdir() if path.is_file())
    soak = Soak(files, options)
    memory = soak.run(options.minutes * 60, options.threads)
    quarter = max(1, len(memory) // 4)
    before, after = float(np.median(memory[quarter : 2 * quarter])), float(np.median(memory[-quarter:]))
    mixed = sorted(set(+soak.whole_read) & set(+soak.whole_failed))
    failures = [*soak.faults, *(f"{file}: was read as a whole, and was not" for file in mixed)]
    if after > 1.1 * before:
        failures.append(f"memory grew from {before:.0f} to {after:.0f} MB")
    print(
        json.dumps(
            {
                "minutes": options.minutes,
                "threads": options.threads,
                "clips": soak.read.total(),
                "errors": soak.failed.total(),
                "files_read": sum(soak.read[file] > 0 for file in files),
                "files_refused": {Path(file).name: soak.failed[file] for file in files if soak.failed[file]},
                "memory_mb": {
                    "second_quarter": round(before),
                    "last_quarter": round(after),
                    "peak": round(max(memory)),
                },
                "failures": failures,
            }
        )
    )
    return 1 if failures else 0


class Soak:
    """What the threads share, and what they count."""

    def __init__(self, files: list[str], options: argparse.Namespace) -> None:
        self.files = files
        config = VideoConfig(
            max_frames=32, max_pixels=16384, min_pixels=4096, decoder=options.decoder, cache_dir=options.cache_dir
        )
        self.provider = ClipProvider(config, factor=32, cache_bytes=64 * 2**20)
        self.read: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.whole_read: Counter[str] = Counter()
        self.whole_failed: Counter[str] = Counter()
        self.faults: list[str] = []
        self.busy: dict[int, tuple[float, str]] = {}
        self.lock = threading.Lock()
        self.stop = threading.Event()

    def run(self, seconds: float, threads: int) -> list[float]:
        """Resident memory in MB, once a second."""
        workers = [threading.Thread(target=self.work, args=(seed,), daemon=True) for seed in range(threads)]
        for worker in workers:
            worker.start()
        memory, began = [], time.monotonic()
        while time.monotonic() - began < seconds:
            time.sleep(1.0)
            memory.append(resident_mb())
            if len(memory) % 60 == 0:
                print(
                    f"{len(memory) // 60} min: {self.read.total()} clips, {self.failed.total()} errors, "
                    f"{memory[-1]:.0f} MB",
                    file=sys.stderr,
                )
        self.stop.set()
        for worker in workers:
            worker.join(HANG_S)
        self.faults += [f"hangs on {self.busy[seed][1]}" for seed, worker in enumerate(workers) if worker.is_alive()]
        return memory

    def work(self, seed: int) -> None:
        draw = random.Random(seed)
        while not self.stop.is_set():
            file = draw.choice(self.files)
            self.busy[seed] = (time.monotonic(), file)
            try:
                window = VideoWindow(file)
                is_part = draw.random() < 0.5
                if is_part:
                    start_s = draw.random() * max(0.0, probe(file).duration_s - 2.0)
                    end_s = min(start_s + 2.0, probe(file).duration_s)
                    window = VideoWindow(file, start_s=start_s, end_s=end_s)
                self.provider.clip(window)
            except SampleError:
                with self.lock:
                    self.failed[file] += 1
                    self.whole_failed[file] += not is_part
            except Exception as error:
                self.faults.append(f"{file}: {type(error).__name__}: {error}")
            else:
                with self.lock:
                    self.read[file] += 1
                    self.whole_read[file] += not is_part


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    sys.exit(main())
