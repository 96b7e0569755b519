"""A set that is published in several files, its partitions: which there are, and which of a numbered row are not."""

import glob
import os
import re

ENDINGS = (".csv", ".tsv", ".parquet", ".jsonl", ".json", ".gz")

# `train-00002-of-00005.parquet` says how many there are; of `0002.csv` those between the first and the last are told.
_OF = re.compile(r"(.*?)(\d+)-of-(\d+)(\.\w+)")
_NUMBERED = re.compile(r"(.*?)(\d+)(\.\w+)")


def partition_files(place: str) -> list[str]:
    """The files that a path means: itself, the tables and rows in a folder, or what a pattern with `*` matches."""
    if os.path.isdir(place):
        paths = sorted(os.path.join(place, name) for name in os.listdir(place) if name.lower().endswith(ENDINGS))
        return [path for path in paths if os.path.isfile(path)]
    return [place] if os.path.exists(place) or not glob.has_magic(place) else sorted(glob.glob(place))


def missing_partitions(paths: list[str]) -> list[str]:
    """The files that the numbers in the names of others say there should be; none where names have no numbers."""
    if len(paths) < 2 and not any(_OF.fullmatch(path) for path in paths):
        return []
    missing: list[str] = []
    rows: dict[tuple[str, str, int], list[str]] = {}
    for path in paths:
        if match := _OF.fullmatch(path) or _NUMBERED.fullmatch(path):
            count = int(match[3]) if match.re is _OF else 0
            end = f"-of-{match[3]}{match[4]}" if count else match[3]
            rows.setdefault((match[1], end, count), []).append(match[2])
    for (begin, end, count), digits in rows.items():
        numbers, width = {int(text) for text in digits}, min(map(len, digits))
        wanted = range(count) if count else range(min(numbers), max(numbers) + 1)
        # Numbers far apart are dates or ids, and no row of partitions.
        if len(wanted) <= 10 * len(numbers) or count:
            missing += [f"{begin}{number:0{width}d}{end}" for number in wanted if number not in numbers]
    return missing
