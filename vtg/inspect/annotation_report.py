"""What is in an annotation file: columns and their types, durations, spans, rows a video, missing videos."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from vtg.annotations.formats import format_of
from vtg.annotations.sample import Problem, Sample, resolve_video
from vtg.annotations.target import moment_counts
from vtg.video.files import video_files

# `vtg.validate` lists them all, grouped by kind.
SHOWN_PROBLEMS = 10
TYPES = {type(None): "null", bool: "bool", int: "int", float: "float", str: "str", list: "list", dict: "object"}

Report = dict[str, Any]


def inspect_annotations(path: str, *, video_dir: str | None = None) -> Report:
    """Rows, columns and distributions of an annotation file; with `video_dir`, also the videos that are not there."""
    columns: dict[str, Counter[str]] = {}
    count = 0
    # A pass of its own over raw rows: columns are those of all rows, broken ones and unknown keys too.
    for item in format_of(path).raw_rows(path):
        count += 1
        for key, value in ({} if isinstance(item, Problem) else _object(item[1])).items():
            columns.setdefault(key, Counter())[TYPES[type(value)]] += 1
    samples: list[Sample] = []
    problems: list[Problem] = []
    for item in format_of(path).samples(path):
        if isinstance(item, Sample):
            samples.append(item)
        else:
            problems.append(item)
    videos = Counter(sample.video for sample in samples)
    report: Report = {
        "kind": "annotations",
        "path": path,
        "rows": count,
        "samples": len(samples),
        "broken_rows": len(problems),
        "problems": [str(problem) for problem in problems[:SHOWN_PROBLEMS]],
        "columns": {key: {"rows": types.total(), "types": dict(types)} for key, types in columns.items()},
        "videos": len(videos),
        "duration_s": distribution(sample.duration_s for sample in samples),
        "span_s": distribution(end - start for sample in samples for start, end in sample.spans),
        "span_share": distribution((e - s) / sample.duration_s for sample in samples for s, e in sample.spans),
        "moments": moment_counts(sample.target for sample in samples),
        "spans_per_row": distribution(len(sample.spans) for sample in samples),
        "rows_per_video": distribution(videos.values()),
        # Rows whose clip is a part of the file.
        "trimmed_rows": sum(sample.video_start_s is not None for sample in samples),
    }
    if video_dir is not None:
        missing = [video for video in videos if not video_files.exists(resolve_video(video, video_dir))]
        report |= {"missing_videos": len(missing), "missing_examples": missing[:SHOWN_PROBLEMS]}
    return report


def distribution(values: Iterable[float]) -> dict[str, float] | None:
    """Smallest, quartiles, largest and mean; None without values."""
    numbers = np.array(list(values), dtype=np.float64)
    if len(numbers) == 0:
        return None
    quartiles = np.percentile(numbers, [0, 25, 50, 75, 100])
    named = zip(("min", "p25", "median", "p75", "max"), quartiles, strict=True)
    return {name: round(float(value), 4) for name, value in named} | {"mean": round(float(numbers.mean()), 4)}


def _object(raw: bytes) -> dict[str, Any]:
    """The row's keys and values; none for a row that is not a JSON object (its Problem says why)."""
    try:
        row = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}
