"""Would a library keep our rows, and split our arrays? `python benchmarks/annotation_stores.py [--rows 1000000]`.

The rows are those of `scale.py`. Each store is opened twice, in a fresh process each time, and then read by one more:

- `table`: `read_table`, which reads and checks every row once, and maps its Arrow file from then on.
- `datasets`: `load_dataset("json")`, which checks nothing.
- `datasets, filtered`: the same, and `.filter` with the rules of `vtg.annotations.row_checks`.
- `datasets, of our rows`: `Dataset.from_generator` of what `read_samples` gives, `save_to_disk`, `load_from_disk`.

No store looks for videos when it is opened: `look` is what `read_split` adds, the same for all. Memory is the process's
own (anonymous) beyond its imports, in MB; `second` is a spawned process that is sent the store, as a loader's worker.

`array` is the same rows as one JSON array, read row by row, by `ijson` too where it is installed. What a fault in a row
costs each way is told by `annotation_faults.py`.
"""

import argparse
import importlib.util
import json
import multiprocessing
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from annotation_faults import READERS, is_sample, load_json
from scale import Memory, make

READS = 10_000
Found = dict[str, Any]


def timed(found: Found, name: str, job: Callable[[], Any]) -> Any:
    """CPU seconds are told too: the clock alone says little on a machine that others use."""
    clock, cpu = time.perf_counter(), time.process_time()
    result = job()
    found[name], found[f"{name}_cpu"] = time.perf_counter() - clock, time.process_time() - cpu
    return result


def import_all() -> None:
    """What every way or training imports anyway, so that it counts for none."""
    import datasets
    import pandas  # noqa: F401

    import vtg.annotations.table_cache  # noqa: F401

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()


# Stores: each opens an annotation file, with a folder of its own to keep what it likes.


def open_table(path: str, cache: Path) -> Any:
    from vtg.annotations.table_cache import read_table

    return read_table(path, cache_dir=str(cache))[0]


def open_filtered(path: str, cache: Path) -> Any:
    return load_json(path, cache).filter(is_sample)


def open_generated(path: str, cache: Path) -> Any:
    from datasets import Dataset, Features, List, Value, load_from_disk

    saved = cache / "saved"
    if not saved.exists():
        kinds = dict.fromkeys(("video", "query", "qid", "metadata"), "string") | {"duration_s": "float64"}
        columns: Any = {name: Value(kind) for name, kind in kinds.items()} | {"spans": List(Value("float64"))}
        options: Any = {"gen_kwargs": {"path": path}, "features": Features(columns), "cache_dir": str(cache)}
        Dataset.from_generator(checked_rows, **options).save_to_disk(str(saved))
    return load_from_disk(str(saved))


def checked_rows(path: str) -> Iterator[dict[str, Any]]:
    from vtg.annotations.sample import Sample, read_samples

    for one in read_samples(path):
        if isinstance(one, Sample):
            row = {"video": one.video, "query": one.query, "qid": one.qid, "duration_s": one.duration_s}
            times = [time_s for span in one.spans for time_s in span]
            yield row | {"spans": times, "metadata": json.dumps(one.metadata)}


STORES: dict[str, Callable[[str, Path], Any]] = {
    "table": open_table,
    "datasets": load_json,
    "datasets, filtered": open_filtered,
    "datasets, of our rows": open_generated,
}


def read_rows(store: Any) -> None:
    for at in random.Random(0).choices(range(len(store)), k=READS):
        store[at]


def run_store(way: str, path: str, cache: str) -> Found:
    import pyarrow as pa

    from vtg.annotations.sample_table import SampleTable
    from vtg.annotations.table_cache import video_stamps

    found: Found = {}
    memory = Memory()
    store = timed(found, "open", lambda: STORES[way](path, Path(cache)))
    found["rows"] = len(store)
    timed(found, "reads", lambda: read_rows(store))
    found["own"], found["peak"] = (memory.over()[f"{name}_mb"] for name in ("own", "peak"))
    found["disk"] = sum(file.stat().st_size for file in Path(cache).rglob("*") if file.is_file()) / 1e6
    with multiprocessing.get_context("spawn").Pool(1, begin_second) as pool:
        found["second"] = pool.apply(second, (store,))
    names = store.videos()[0] if isinstance(store, SampleTable) else pa.array(store.unique("video"))
    stamps = timed(found, "look", lambda: video_stamps(names, str(Path(path).parent / "videos")))
    assert (stamps[:, 0] >= 0).all()
    return found


def begin_second() -> None:
    global second_memory
    import_all()
    second_memory = Memory()


def second(store: Any) -> float:
    read_rows(store)
    return second_memory.over()["own_mb"]


# Arrays.


def run_array(way: str, path: str, _cache: str) -> Found:
    found: Found = {}
    memory = Memory()
    found["rows"], _ = timed(found, "open", lambda: READERS[way](path))
    found["peak"] = memory.over()["peak_mb"]
    return found


def median(runs: list[Found]) -> Found:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def measured(kind: str, way: str, path: str, cache: str) -> Found:
    command = [sys.executable, __file__, "--one", kind, way, path, cache]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the rows are made and kept; default: a temporary folder")
    parser.add_argument("--one", nargs=4, metavar=("KIND", "WAY", "FILE", "CACHE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    import_all()
    if options.one:
        kind, *words = options.one
        print(json.dumps({"store": run_store, "array": run_array}[kind](*words)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        path = make(folder, options.rows)
        stores: dict[tuple[str, str], list[Found]] = {}
        for _ in range(options.repeats):
            for way in STORES:
                with tempfile.TemporaryDirectory(dir=folder) as cache:
                    for time_of in ("first", "later"):
                        stores.setdefault((way, time_of), []).append(measured("store", way, path, cache))
        print("| store | opened | s (CPU s) | us a row | own | peak | second | disk | look s |\n|" + "---|" * 9)
        for (way, time_of), runs in stores.items():
            one = median(runs)
            cells = f"{one['open']:.3g} ({one['open_cpu']:.3g}) | {one['reads'] / READS * 1e6:.0f}"
            sizes = " | ".join(f"{one[name]:.0f}" for name in ("own", "peak", "second", "disk"))
            print(f"| {way} | {time_of} | {cells} | {sizes} | {one['look']:.2g} |", flush=True)
        array = folder / f"array_{options.rows}.json"
        array.write_text("[" + Path(path).read_text().strip().replace("\n", ",\n") + "]")
        ways = [way for way in READERS if way != "ijson" or importlib.util.find_spec("ijson")]
        runs = [{way: measured("array", way, str(array), "") for way in ways} for _ in range(options.repeats)]
        print("\n| array | s (CPU s) | rows a s | peak |\n|---|---|---|---|")
        for way in ways:
            one = median([run[way] for run in runs])
            rate = one["rows"] / one["open"]
            print(f"| {way} | {one['open']:.3g} ({one['open_cpu']:.3g}) | {rate:,.0f} | {one['peak']:.0f} |")


if __name__ == "__main__":
    main()
