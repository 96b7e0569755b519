"""Videos without annotations: `videos:FILE`, any rows for their videos alone, or `videos:FOLDER`, all that is below it.

Of a row only `video`, `duration`, `video_start`, `video_end` and `qid` are read, and nothing but the first is needed;
rows of one part of a video are one. Samples are unlabelled: latents are learned of them, answers are not.

A duration that a row does not tell is that of its trim, else of its file, where the row names that by a whole path or
it lies beside the annotations, there also in `videos`: what `data.video_dir` says is known only later.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import msgspec

from vtg.annotations.raw_rows import RowsOfLines
from vtg.annotations.row_checks import plain_row
from vtg.annotations.sample import VIDEO_ENDINGS, Problem, Sample, resolve_video, sample_of
from vtg.annotations.target import Unlabelled
from vtg.errors import SampleError
from vtg.progress_bar import ProgressBar

PREFIX = "videos:"

READ = ("video", "duration", "video_start", "video_end", "qid")

# What a row of a folder is taken to be long, to tell a small table from a large one.
ROW_BYTES = 100

Rows = Callable[[str], Iterator[tuple[int, bytes] | Problem]]


def is_videos(path: str) -> bool:
    """Whether a path asks for the videos of what it names."""
    return path.startswith(PREFIX)


def videos_stamp(path: str, files: Callable[[str], list[tuple[str, int, int]]]) -> list[tuple[str, int, int]]:
    """See `RowFormat.files`; `files`: those of annotations. Raises OSError when there are none."""
    place = path.removeprefix(PREFIX)
    if not os.path.isdir(place):
        return files(place)
    # Of every file and not of the folders: a video that is written anew may have another length.
    times_ns = [os.stat(one).st_mtime_ns for one in folder_videos(place)]
    return [(os.path.realpath(place), len(times_ns) * ROW_BYTES, max(times_ns, default=0))]


def read_videos(path: str, rows: Rows) -> Iterator[Sample | Problem]:
    """Streams a sample for every part of a video that is named, and a Problem for each row that is lost.

    Args:
        rows: the raw rows of an annotation file.
    """
    place = path.removeprefix(PREFIX)
    is_folder = os.path.isdir(place)
    beside = () if is_folder else (os.path.dirname(place) or ".", os.path.join(os.path.dirname(place), "videos"))
    seen, of_lines = set[str](), RowsOfLines()
    with ProgressBar(None, title="looking at videos", unit="video") as bar:
        for item in _folder_rows(place) if is_folder else rows(place):
            if isinstance(item, Problem):
                yield item
                continue
            row, nth = _row(item[1]), of_lines.nth(*item)
            # As text: what is no name and no number can be in a row too.
            part = repr([row.get(key) for key in READ[:4]])
            if part in seen and "video" in row:
                continue
            seen.add(part)
            bar.update()
            yield _sample(row, beside, path=place, line=item[0], nth=nth)


def folder_videos(folder: str) -> list[str]:
    """Whole paths of the files below a folder that are named as videos, sorted; hidden ones are left out."""
    found = []
    for place, folders, names in os.walk(os.path.abspath(folder), followlinks=True):
        # In place, which keeps os.walk out of hidden folders, such as those of version control and of downloads.
        folders[:] = [name for name in folders if not name.startswith(".")]
        shown = (name for name in names if not name.startswith("."))
        found += [os.path.join(place, name) for name in shown if name.lower().endswith(VIDEO_ENDINGS)]
    return sorted(found)


def _folder_rows(folder: str) -> Iterator[tuple[int, bytes] | Problem]:
    videos = folder_videos(folder)
    if not videos:
        text = f"holds no videos ({', '.join(VIDEO_ENDINGS[:4])} …); check the path"
        yield Problem(folder, 1, "file", text, "error", "empty")
    for number, video in enumerate(videos, 1):
        yield number, json.dumps({"video": video}).encode()


def _row(raw: bytes) -> dict[str, Any]:
    """What of a raw row is read; nothing of what is no row."""
    try:
        row = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    row = plain_row(row) if isinstance(row, dict) else {}
    return {key: row[key] for key in READ if row.get(key) is not None}


def _sample(row: dict[str, Any], beside: tuple[str, ...], *, path: str, line: int, nth: int) -> Sample | Problem:
    if not isinstance(row.get("video"), str):
        text = "names no video; lists of `VIDEO LABEL` are read as kinetics_list:FILE"
        return Problem(path, line, "video", text, "error", "video-missing", nth)
    if "duration" not in row:
        try:
            row["duration"] = _duration_s(row, beside)
        except SampleError as error:
            return Problem(path, line, "video", str(error), "error", "video-unreadable", nth)
    # Stand-ins that pass the checks.
    found = sample_of(
        msgspec.json.encode({**row, "timestamp": [0, row["duration"]], "sentence": "-"}), path=path, line=line, nth=nth
    )
    return replace(found, target=Unlabelled(), query="") if isinstance(found, Sample) else found


def _duration_s(row: dict[str, Any], beside: tuple[str, ...]) -> float:
    # Late: rows are checked without numpy, which these import.
    from vtg.video.container import probe
    from vtg.video.files import video_files

    if "video_start" in row:  # and video_end: one of them alone is a fault
        start_s, end_s = row["video_start"], row.get("video_end")
        if isinstance(start_s, int | float) and isinstance(end_s, int | float):
            return end_s - start_s
        return 1.0  # until the checks say what is wrong with it
    places = [resolve_video(row["video"], folder) for folder in (None, *beside)]
    found = next((one for one in places if video_files.exists(one)), None)
    if found is None:
        raise SampleError(
            f"{row['video']!r} is not there, nor beside the annotations, and its row tells no duration; name it by a "
            "whole path, or give every row its duration"
        )
    return probe(found).duration_s
