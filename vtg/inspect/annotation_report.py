"""What is in an annotation file: columns and their types, durations, spans, rows a video, missing videos."""

from collections import Counter
from typing import Any

import msgspec
import numpy as np

from vtg.annotations.formats import format_of
from vtg.annotations.sample import Problem, Sample, resolve_video
from vtg.annotations.target import moment_counts
from vtg.inspect.inspection import SHOWN, Inspection, Report, SheetCell, distribution, evenly, shortened
from vtg.video.episodes.records import FilePart, VideoRecord
from vtg.video.files import address, video_files

TYPES = {type(None): "null", bool: "bool", int: "int", float: "float", str: "str", list: "list", dict: "object"}


def inspect_annotations(path: str, *, video_dir: str | None = None, num_samples: int = 0) -> Inspection:
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
    spans = [(end - start, sample.duration_s) for sample in samples for start, end in sample.spans]
    spreads = {
        "duration (s)": np.array([sample.duration_s for sample in samples]),
        "moment (s)": np.array([length for length, _ in spans]),
        "moment (share of its clip)": np.array([length / duration_s for length, duration_s in spans]),
        "moments a row": np.array([float(len(sample.spans)) for sample in samples]),
        "words of a query": np.array([float(len(sample.query.split())) for sample in samples]),
        "rows a video": np.array(list(videos.values()), dtype=np.float64),
    }
    report: Report = {
        "kind": "annotations",
        "path": path,
        "rows": count,
        "samples": len(samples),
        "broken_rows": len(problems),
        # `vtg.validate` lists them all, grouped by kind.
        "problems": [str(problem) for problem in problems[:SHOWN]],
        "columns": {key: {"rows": types.total(), "types": dict(types)} for key, types in columns.items()},
        "videos": len(videos),
        "duration_s": distribution(spreads["duration (s)"]),
        "span_s": distribution(spreads["moment (s)"]),
        "span_share": distribution(spreads["moment (share of its clip)"]),
        "moments": moment_counts(sample.target for sample in samples),
        "spans_per_row": distribution(spreads["moments a row"]),
        "rows_per_video": distribution(spreads["rows a video"]),
        # Rows whose clip is a part of the file.
        "trimmed_rows": sum(sample.video_start_s is not None for sample in samples),
    }
    if video_dir is not None:
        missing = [video for video in videos if not video_files.exists(resolve_video(video, video_dir))]
        report |= {"missing_videos": len(missing), "missing_examples": missing[:SHOWN]}
    shown = [samples[at] for at in evenly(len(samples), num_samples)]
    report["shown_samples"] = [shortened(sample.row()) for sample in shown]
    cells = [cell for sample in shown for cell in _cells(sample, video_dir)]
    return Inspection(report, spreads, cells, failed=bool(problems))


def _cells(sample: Sample, video_dir: str | None) -> list[SheetCell]:
    """The frames at the start, in the middle and at the end of the first moment, or of the clip; of stills, each."""
    path = resolve_video(sample.video, video_dir)
    if address.is_picture(path):
        names = [name for name in address.parts_of(path) if not video_files.is_remote(name)]
        return [
            SheetCell(VideoRecord({"picture": FilePart(name, 0.0, None)}, sample.qid), 0.0, f"{sample.qid} {at}")
            for at, name in enumerate(names, 1)
            if video_files.exists(name)
        ]
    if video_files.is_remote(path) or not video_files.exists(path):
        return []
    start_s, end_s = sample.spans[0] if sample.spans else (0.0, sample.duration_s)
    record = VideoRecord({"video": FilePart(path, sample.video_start_s or 0.0, sample.video_end_s)}, sample.qid)
    last_s = max(start_s, min(end_s, sample.duration_s) - 0.05)  # nothing is on the screen from the end on
    return [
        SheetCell(record, time_s, f"{sample.qid} {time_s:.1f} s") for time_s in (start_s, (start_s + end_s) / 2, last_s)
    ]


def _object(raw: bytes) -> dict[str, Any]:
    """The row's keys and values; none for a row that is not a JSON object (its Problem says why)."""
    try:
        row = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}
