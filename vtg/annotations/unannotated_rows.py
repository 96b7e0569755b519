"""Rows that ask and are not annotated: without `timestamp`, or without `duration`, which their video tells then."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec

from vtg.annotations import raw_rows, row_checks
from vtg.annotations.sample import Problem, Sample, empty_file, resolve_video, sample_of
from vtg.annotations.target import Unlabelled, row_kind
from vtg.errors import SampleError
from vtg.video.container import probe

OPEN = ("duration", "timestamp")


def has_open_rows(path: str, *, takes_sets: bool) -> bool:
    """Whether a row of the file lacks its duration or its moments. Raises OSError when it cannot be read.

    `takes_sets`: `[]` is the label that there is no moment; otherwise it lacks one.
    """
    rows = (_row(raw) for _, raw in raw_rows.raw_rows(path))
    return any(row is not None and _lacks(row, takes_sets) for row in rows)


def read_open_rows(path: str, *, video_dir: str | None, takes_sets: bool) -> Iterator[Sample | Problem]:
    """As `vtg.annotations.sample.read_samples`, but a row needs no more than a video and a sentence.

    A row without a timestamp (or one that is empty, unless `takes_sets`) becomes an `Unlabelled` sample; a duration
    that is missing is that of the part from video_start to video_end, or of the file. Raises OSError when the file
    cannot be read.
    """
    empty, durations, of_lines = True, dict[str, float](), raw_rows.RowsOfLines()
    for line, raw in raw_rows.raw_rows(path):
        empty, nth = False, of_lines.nth(line, raw)
        row = _row(raw)
        lacks = () if row is None else _lacks(row, takes_sets)
        if row is None or not lacks:
            yield sample_of(raw, path=path, line=line, nth=nth)
            continue
        if fault := _other_fault(row, lacks):
            yield Problem(path, line, fault.field, fault.message, fault.severity, fault.kind, nth)
            continue
        if "duration" in lacks:
            try:
                row["duration"] = _duration_s(row, video_dir, durations)
            except (SampleError, OSError) as error:
                text = f"{error}; it has to tell the duration"
                yield Problem(path, line, "video", text, "error", "video-unreadable", nth)
                continue
        # A stand-in that passes the checks; the sample's target takes its place.
        if "timestamp" in lacks:
            row["timestamp"] = [0, row["duration"]]
        asked = sample_of(msgspec.json.encode(row), path=path, line=line, nth=nth)
        yield replace(asked, target=Unlabelled()) if isinstance(asked, Sample) and "timestamp" in lacks else asked
    if empty:
        yield empty_file(path)


def _row(raw: bytes) -> dict[str, Any] | None:
    try:
        row = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return row_checks.plain_row(row) if isinstance(row, dict) else None


def _lacks(row: dict[str, Any], takes_sets: bool) -> tuple[str, ...]:
    if row_kind(row) is not None:
        return ("duration",) if row.get("duration") is None else ()
    return tuple(key for key in OPEN if row.get(key) is None or (row[key] == [] and not takes_sets))


def _other_fault(row: dict[str, Any], lacks: tuple[str, ...]) -> row_checks.Finding | None:
    """The first error of a row beside what it lacks."""
    _, findings = row_checks.check(msgspec.json.encode(row))
    errors = (finding for finding in findings if finding.severity == "error")
    return next((error for error in errors if error.kind not in {f"{key}-missing" for key in lacks}), None)


def _duration_s(row: dict[str, Any], video_dir: str | None, known: dict[str, float]) -> float:
    if row.get("video_start") is not None:  # and video_end: one of them alone is a fault
        return row["video_end"] - row["video_start"]
    path = resolve_video(row["video"], video_dir)
    # Several rows ask about one video.
    if path not in known:
        known[path] = probe(path).duration_s
    return known[path]
