"""How fast are a million annotation lines checked, as JSON and as a table? `python benchmarks/validate.py [--rows N]`.

Medians in seconds. Only vtg gives lines, repeated qids, counts and messages; the decodes alone check types at most.
"""

import argparse
import collections
import importlib.util
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vtg.annotations import row_decoder
from vtg.doctor import audit


def write_rows(path: Path, *, rows: int, seed: int = 0) -> None:
    """Good rows in random order of videos, five a video; every third line ends as on Windows."""
    rng = random.Random(seed)
    words = ["person", "opens", "the", "door", "and", "walks", "into", "kitchen", "holding", "a", "cup"]
    with open(path, "w", encoding="utf-8", newline="") as file:
        for index in range(rows):
            duration = round(rng.uniform(10, 180), 2)
            span = [round(duration * rng.uniform(0.01, 0.5), 2), round(duration * rng.uniform(0.6, 0.99), 2)]
            row = {"video": f"v/{rng.randrange(rows // 5 + 1)}.mp4", "duration": duration, "timestamp": span}
            row |= {"sentence": " ".join(rng.choices(words, k=9)), "qid": f"set|{index}"}
            file.write(json.dumps(row) + ("\r\n" if index % 3 == 0 else "\n"))


def check_vtg(path: Path) -> int:
    audit.audit_file(str(path), report := audit.Report())
    return report.good


def check_decoded(path: Path, decode: Callable[[bytes], Any]) -> int:
    with open(path, "rb") as file:
        return sum(1 for _ in map(decode, file))


def check_dicts(path: Path, loads: Callable[[bytes], Any]) -> int:
    good = 0
    with open(path, "rb") as file:
        for row in map(loads, file):
            (start, end), duration = row["timestamp"], row["duration"]
            numbers = all(type(number) in (int, float) for number in (start, end, duration))
            texts = all(isinstance(row[key], str) and row[key].strip() for key in ("video", "sentence"))
            good += numbers and texts and 0 <= start < end <= duration
    return good


def ways() -> dict[str, Callable[[Path], int]]:
    found: dict[str, Callable[[Path], int]] = {
        "vtg": check_vtg,
        "msgspec typed decode alone": lambda path: check_decoded(path, row_decoder.RowDecoder().decode),
        "json + same checks": lambda path: check_dicts(path, json.loads),
    }
    if importlib.util.find_spec("orjson"):
        loads = importlib.import_module("orjson").loads
        found["orjson + same checks"] = lambda path: check_dicts(path, loads)
    if importlib.util.find_spec("pydantic"):
        keys = {"video": str, "duration": float, "timestamp": tuple[float, float], "sentence": str, "qid": str}
        model = importlib.import_module("pydantic").create_model("Row", **keys)
        found["pydantic decode alone"] = lambda path: check_decoded(path, model.model_validate_json)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    options, seconds = parser.parse_args(), collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        write_rows(path := Path(folder) / "rows.jsonl", rows=options.rows)
        for _ in range(options.repeats):
            for name, check in ways().items():
                started = time.perf_counter()
                assert check(path) == options.rows, name
                seconds[name].append(time.perf_counter() - started)
    medians = {name: round(statistics.median(times), 3) for name, times in seconds.items()}
    print(json.dumps({"benchmark": "validate", "rows": options.rows, "repeats": options.repeats, "seconds": medians}))
    for name, median in medians.items():
        print(f"| {name:28} | {median:7.2f} s | {median / medians['vtg']:5.2f} |")


if __name__ == "__main__":
    main()
