"""How long does `vtg.evaluate` take for ten thousand rows, and a million? `python benchmarks/evaluate.py [--rows N …]`.

Wall and CPU seconds and peak memory of the whole command, start and reading included, predictions beside a file of
annotations. On a shared machine the CPU seconds are what it takes alone: it is one thread.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from validate import write_rows

# The two ways through the command: its own rules, and a published preset, whose readers take any form.
WAYS = {
    "default": ["--preset", "vtg"],
    "time_r1": ["--preset", "time_r1"],
    "time_r1, text": ["--preset", "time_r1", "--field", "text"],
}


def write_predictions(annotations: Path, path: Path, *, seed: int = 1) -> None:
    """An answer of `vtg.predict` for each row, in another order of rows, one in fifty empty."""
    rng = random.Random(seed)
    lines = annotations.read_text(encoding="utf-8").splitlines()
    rng.shuffle(lines)
    with open(path, "w", encoding="utf-8") as file:
        for line in lines:
            row = json.loads(line)
            start, end = (round(bound + rng.uniform(-3, 3), 1) for bound in row["timestamp"])
            row |= {"prediction": [[start, end]], "text": f"From {start} to {end} seconds.", "status": "ok"}
            if rng.random() < 0.02:
                row |= {"prediction": [], "text": "It does not happen.", "status": "malformed"}
            file.write(json.dumps(row) + "\n")


def measured(words: list[str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds, and GB at its peak, of the command."""
    began = time.perf_counter()
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "vtg.evaluate", *words, "--json"],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"vtg.evaluate {' '.join(words)} failed")
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--way", choices=WAYS, nargs="+", default=list(WAYS))
    args = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in args.rows:
            truth, answers = Path(folder) / "truth.jsonl", Path(folder) / "predictions.jsonl"
            write_rows(truth, rows=rows)
            write_predictions(truth, answers)
            for way in args.way:
                wall, cpu, memory = measured([str(answers), "--annotations", str(truth), *WAYS[way]])
                results.append({"rows": rows, "rules": way, "wall_s": wall, "cpu_s": cpu, "GB": memory})
    print(json.dumps(results))
    print("| rows | rules | seconds | CPU seconds | GB |\n|---:|---|---:|---:|---:|")
    for one in results:
        print(f"| {one['rows']:,} | {one['rules']} | {one['wall_s']:.2f} | {one['cpu_s']:.2f} | {one['GB']:.2f} |")


if __name__ == "__main__":
    main()
