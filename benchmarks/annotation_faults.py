"""What does one fault in a file of rows cost? `python benchmarks/annotation_faults.py`.

Files of 1,001 rows of which the 701st, or the file, has one fault: how many rows `read_samples` reads, and what it says
about the others, beside `datasets.load_dataset("json")` (of JSON Lines, with `.filter` by the rules of
`vtg.annotations.row_checks`) and `ijson` (of one JSON array, unchecked; pip install ijson).
"""

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Told = tuple[int, list[str]]
"""The number of rows read, and what is said of the others."""


def load_json(path: str, cache: Path) -> Any:
    from datasets import load_dataset

    options: Any = {"data_files": path, "split": "train", "cache_dir": str(cache)}
    return load_dataset("json", **options)


def is_sample(row: dict[str, Any]) -> bool:
    """Whether the checks find no error in a row as Arrow tells it: absent keys are null, nothing has a line."""
    import msgspec

    from vtg.annotations import row_checks, row_decoder

    given = {key: value for key, value in row.items() if value is not None}
    known = {key: given[key] for key in row_checks.KEYS if key in given}
    try:
        if row_decoder.is_clean(msgspec.convert(known, row_decoder.DecodedRow)):
            return True
    except msgspec.ValidationError:
        pass
    return all(finding.severity != "error" for finding in row_checks.check(msgspec.json.encode(given))[1])


def by_raw_rows(path: str) -> Told:
    import msgspec

    from vtg.annotations.raw_rows import raw_rows

    decode = msgspec.json.Decoder().decode
    return sum(isinstance(decode(raw), dict) for _, raw in raw_rows(path)), []


def by_read_samples(path: str) -> Told:
    from vtg.annotations.sample import Problem, read_samples

    count, problems = 0, []
    for one in read_samples(path):
        if isinstance(one, Problem):
            problems.append(f"line {one.line}: {one.field} {one.message}")
        else:
            count += 1
    return count, problems


def by_ijson(path: str) -> Told:
    import ijson

    count = 0
    try:
        with open(path, "rb") as file:
            # Without use_float every number is a Decimal, which no check of ours takes for a number.
            for _ in ijson.items(file, "item", use_float=True):
                count += 1
    except ijson.JSONError as error:
        return count, [str(error)]
    return count, []


def by_datasets(path: str) -> Told:
    from datasets.exceptions import DatasetGenerationError

    with tempfile.TemporaryDirectory() as cache:
        try:
            return len(load_json(path, Path(cache)).filter(is_sample)), []
        except DatasetGenerationError as error:
            return 0, [str(error.__cause__)]


READERS: dict[str, Callable[[str], Told]] = {
    "raw_rows, each decoded": by_raw_rows,
    "read_samples": by_read_samples,
    "ijson": by_ijson,
}


def faulty(folder: Path, *, array: bool) -> Iterator[tuple[str, str]]:
    """(fault, file). 20 MB each, since `datasets` infers types from the first 10 MB and the fault comes later."""
    times, long = '"duration": 30.0, "timestamp": [2.0, 5.5]', "a man sits down" + " slowly" * 3000
    row = f'{{"video": "a.mp4", {times}, "sentence": "{long}", "qid": "a"}}'
    comma, around = (",\n", "[\n{}\n]\n") if array else ("\n", "{}\n")
    broken = {
        "none": row,
        "a row is cut off": row[:60],
        "a row lacks a comma": row.replace(", ", " ", 1),
        "a row has NaN": row.replace("30.0", "NaN"),
        "a row has several moments": row.replace("[2.0, 5.5]", "[[2, 5.5], [7, 9]]"),
        "a row has a number for qid": row.replace('"a"}', "7}"),
        "a row of 20 MB": row.replace("sits", "s" * 20_000_000),
    }
    texts = {
        fault: around.replace("{}", comma.join([row] * 700 + [one] + [row] * 300)) for fault, one in broken.items()
    }
    texts |= {
        "the file starts with a BOM": "\ufeff" + texts["none"],
        "the file ends in its last row": texts["none"][:-40],
    }
    for fault, text in texts.items():
        path = folder / f"{fault}.json"
        path.write_text(text)
        yield fault, str(path)


def run(folder: Path) -> None:
    print("| fault | file | read by | rows | said |\n|---|---|---|---|---|")
    peers: list[tuple[bool, str, Callable[[str], Told]]] = [(False, "datasets", by_datasets)]
    if importlib.util.find_spec("ijson"):
        peers.append((True, "ijson", by_ijson))
    for array, name, peer in peers:
        for fault, path in faulty(folder, array=array):
            for way, reader in (("vtg", by_read_samples), (name, peer)):
                count, said = reader(path)
                shown = "; ".join(" ".join(one.split())[:90] for one in said).replace("|", "\\|")
                print(f"| {fault} | {'array' if array else 'lines'} | {way} | {count:,} | {shown} |", flush=True)


def main() -> None:
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder))


if __name__ == "__main__":
    main()
