"""Annotation rows: what each key may hold, what is wrong with a row, and how a file of rows becomes samples.

    {"video": "a.mp4", "duration": 30.0, "timestamp": [2.0, 5.5], "sentence": "a man sits down"}

`duration` and `timestamp` are in seconds of the clip: the whole file, or its part from `video_start` to `video_end`.
`timestamp` is one [start, end] or a list of them, which is empty where the sentence has no moment. Optional:
`video_start`, `video_end`, `qid`, `difficulty`, `pred` (null means absent). Every other key is metadata and is kept.

Rows of other tasks have keys of their own in place of `timestamp` (`vtg.annotations.target.ROW_TARGETS`), and their
question under `sentence`, `question` or `query`: docs/tasks.md.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from vtg.annotations import raw_rows, row_checks, row_decoder
from vtg.annotations.target import ROW_TARGETS, NoMoment, Span, Spans, Target, Unlabelled, row_kind
from vtg.video.files.address import AND, TAR_MEMBER, is_address, is_picture, parts_of
from vtg.video.video_window import VideoWindow


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one row (or with the file: field "file"). An error loses the row, a warning does not, and
    a note is no fault: what is unusual, to be looked at."""

    path: str
    line: int
    field: str
    message: str
    severity: str
    kind: str
    nth: int = 1
    """Which of the rows that start on its line it is about."""

    def __post_init__(self) -> None:
        assert self.severity in ("error", "warning", "note"), self.severity

    @property
    def place(self) -> str:
        """`path:line`, and `path:line[n]` for the n-th row that starts on a line."""
        return f"{self.path}:{raw_rows.row_at(self.line, self.nth)}"

    def __str__(self) -> str:
        return f"{self.place}: {self.field}: {self.message}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One query about one clip, and its target: what the answer should be, or that nobody has labelled it.

    Raises:
        ValueError: the target has spans that are not inside the clip.
    """

    video: str
    duration_s: float
    target: Target
    query: str
    qid: str
    video_start_s: float | None = None
    video_end_s: float | None = None
    difficulty: float | None = None
    pred: Span | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    place: str = ""

    def __post_init__(self) -> None:
        # Written so that NaN fails too.
        if not all(0 <= start < end <= self.duration_s for start, end in self.spans):
            raise ValueError(
                f"{self.place}: timestamp: {self.spans} must be spans inside the clip of {self.duration_s:.10g} s, "
                "each with start < end; `python -m vtg.validate` lists such rows"
            )

    @property
    def spans(self) -> tuple[Span, ...]:
        """The target's spans in seconds of the clip; none where it has no moment or no label."""
        return self.target.spans

    @property
    def is_still(self) -> bool:
        """Whether it is about still pictures, which have no times."""
        return is_picture(self.video)

    @property
    def is_labelled(self) -> bool:
        """Whether it can be trained on and scored."""
        return not isinstance(self.target, Unlabelled)

    def window(self, path: str) -> VideoWindow:
        """The part of its video that it asks about; `path`: where `video` lies (`resolve_video`)."""
        return VideoWindow(path, start_s=self.video_start_s, end_s=self.video_end_s, duration_s=self.duration_s)

    def row(self) -> dict[str, Any]:
        """The annotation row again, under its JSONL keys; optional keys that are absent stay absent.

        `timestamp`: one span, a list of several, `[]` for no moment; absent where nobody has labelled the sample, and
        in rows of other tasks, which have `task` and the keys of their target.
        """
        other = self.target.row() | {"task": self.target.task} if self.target.kind in ROW_TARGETS else {}  # type: ignore[union-attr]
        spans = [list(span) for span in self.spans]
        # `[]` and no key differ: somebody looked and found nothing, or nobody looked.
        unlabelled_or_empty = [] if isinstance(self.target, NoMoment) else None
        known = {
            "video": self.video,
            "duration": self.duration_s,
            "timestamp": spans[0] if len(spans) == 1 else spans or unlabelled_or_empty,
            "sentence": self.query or None,
            **other,
            "qid": self.qid,
            "video_start": self.video_start_s,
            "video_end": self.video_end_s,
            "difficulty": self.difficulty,
            "pred": None if self.pred is None else list(self.pred),
        }
        return {key: value for key, value in known.items() if value is not None} | self.metadata


def read_samples(path: str | os.PathLike[str]) -> Iterator[Sample | Problem]:
    """Streams a file (JSONL, or one JSON array): for every row its sample, or the first error of a row that is lost.

    Warnings are the business of `vtg.validate`. Memory does not grow with the file. Raises OSError when the file cannot
    be read; a file without rows gives one problem.
    """
    path = os.fspath(path)
    empty, decoder, of_lines = True, row_decoder.RowDecoder(), raw_rows.RowsOfLines()
    for line, raw in raw_rows.raw_rows(path):
        empty, nth = False, of_lines.nth(line, raw)
        # Nearly all rows are good: one decoding tells that. What is not is read again, by what finds words for it.
        try:
            fast = decoder.decode(raw)
            clean = row_decoder.is_clean(fast)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            clean = False
        if clean:
            metadata = decoder.metadata(fast)
            if "task" not in metadata or row_kind({"timestamp": fast.timestamp, **metadata}) is None:
                yield _clean_sample(fast, metadata, path=path, line=line, nth=nth)
                continue
        sample_or_problem = sample_of(raw, path=path, line=line, nth=nth)
        if isinstance(sample_or_problem, Sample) and sample_or_problem.target.kind not in ROW_TARGETS:
            # The rows of a file have the same metadata keys: the next ones are decoded in one step.
            decoder.learn(sample_or_problem.metadata)
        yield sample_or_problem
    if empty:
        yield empty_file(path)


def sample_of(raw: bytes, *, path: str, line: int, nth: int = 1) -> Sample | Problem:
    """The sample of one raw row, or the first error of a row that is lost; `nth`: of the rows that start on its line.

    A row without a qid is named after the file and its line, `charades:17`, or `charades:17[2]` where it is the second
    there.
    """
    row, problems = check_row(raw, path=path, line=line, nth=nth)
    error = next((problem for problem in problems if problem.severity == "error"), None)
    if error is not None or row is None:
        return error or problems[0]
    return _sample(row, path=path, line=line, nth=nth)


def empty_file(path: str) -> Problem:
    """The error of a file that holds no row at all."""
    return Problem(path, 1, "file", "holds no rows; check the path, or write one JSON object a line", "error", "empty")


def check_row(raw: bytes, *, path: str, line: int, nth: int = 1) -> tuple[dict[str, Any] | None, list[Problem]]:
    """Everything wrong with one raw row, and the row itself, or None if it is not a JSON object."""
    row, findings = row_checks.check(raw)
    return row, [
        Problem(path, line, finding.field, finding.message, finding.severity, finding.kind, nth) for finding in findings
    ]


def spans_of(row: dict[str, Any]) -> tuple[Span, ...]:
    """The spans of a row without errors, in seconds: clipped to the clip where they leave it; none of `[]`."""
    # By no more than `row_checks.clip_tolerance_s`: further out is an error.
    pairs, duration_s = row["timestamp"], float(row["duration"])
    if pairs and not isinstance(pairs[0], list):
        pairs = [pairs]
    return tuple((max(float(start), 0.0), min(float(end), duration_s)) for start, end in pairs)


VIDEO_ENDINGS = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv", ".3gp", ".ts")
"""Of video files, the most frequent first: a name without one of them is looked up with each."""


def resolve_video(video: str, video_dir: str | None) -> str:
    """The path of a row's video: the first of `video_places` that exists, else the first.

    Benchmarks name videos by their ids: a name without the ending of a video is looked up with each of `VIDEO_ENDINGS`.
    """
    if len(pictures := parts_of(video)) > 1:
        return AND.join(resolve_video(picture, video_dir) for picture in pictures)
    shard, mark, member = video.partition(TAR_MEMBER)
    if mark and not is_address(video):
        return f"{resolve_video(f'{shard}.tar', video_dir)}::{member}"
    places = video_places(video, video_dir)
    has_ending = os.path.splitext(video)[1].lower() in VIDEO_ENDINGS or is_picture(video)
    if len(places) == 1 and (has_ending or is_address(places[0])):
        return places[0]
    named = places if has_ending else [*places, *(place + ending for place in places for ending in VIDEO_ENDINGS)]
    return next((path for path in named if os.path.exists(path)), places[0])


def video_places(video: str, video_dir: str | None) -> list[str]:
    """Where a row's video may be, the likeliest first: under `video_dir`, or as it is; nothing is looked for.

    A prefix that `video` shares with the end of `video_dir` (`videos/a.mp4` in `data/videos`) is not doubled. An
    address (`s3://…`) is as it is; below a `video_dir` that is one, every name is taken to be there.
    """
    if video_dir is None or os.path.isabs(video) or is_address(video):
        return [video]
    if is_address(video_dir):
        return [f"{video_dir.rstrip('/')}/{video}"]
    places, folder = [os.path.join(video_dir, video), video], _folders(video_dir)
    # A shared prefix has the last folder's name in it. Few names do, and parsing each as a Path took most of the time.
    parts = Path(video).parts if folder and folder[-1] in video else ()
    for shared in range(min(len(folder), len(parts) - 1), 0, -1):
        if folder[-shared:] == parts[:shared]:
            places.insert(0, os.path.join(video_dir, *parts[shared:]))
            break
    return places


# Both are asked for every row, about the same few paths.
@lru_cache(maxsize=64)
def _stem(path: str) -> str:
    return Path(path).stem


@lru_cache(maxsize=64)
def _folders(path: str) -> tuple[str, ...]:
    return Path(path).parts


def _sample(row: dict[str, Any], *, path: str, line: int, nth: int) -> Sample:
    at, qid, pred, kind = raw_rows.row_at(line, nth), row.get("qid"), row.get("pred"), row_kind(row)
    video, query = video_and_query(row)
    keys = row_checks.KEYS
    if kind is not None:
        keys = (*keys, *kind.keys, *row_checks.VIDEO_KEYS, *row_checks.QUERY_KEYS, "task")
    return Sample(
        video=video,
        duration_s=float(row["duration"]),
        target=_target(spans_of(row)) if kind is None else kind.of_row(row, duration_s=float(row["duration"])),
        query=query,
        # Of the name and not the folder: a file that is moved keeps its qids.
        qid=f"{_stem(path)}:{at}" if qid is None else str(qid),
        video_start_s=_optional_float(row.get("video_start")),
        video_end_s=_optional_float(row.get("video_end")),
        difficulty=_optional_float(row.get("difficulty")),
        pred=None if pred is None else (float(pred[0]), float(pred[1])),
        metadata={key: value for key, value in row.items() if key not in keys},
        place=f"{path}:{at}",
    )


def video_and_query(row: dict[str, Any]) -> tuple[str, str]:
    """What a row without errors, of any task, is about, and what it asks; "" where its task asks nothing."""
    if row_kind(row) is None:
        return row["video"], row["sentence"]
    return _first(row, row_checks.VIDEO_KEYS), _first(row, row_checks.QUERY_KEYS)


def _first(row: dict[str, Any], keys: tuple[str, ...]) -> str:
    """The text under the first of some keys that a row has; empty without any."""
    return next((row[key] for key in keys if row.get(key) is not None), "")


def _target(spans: tuple[Span, ...]) -> Target:
    return Spans(spans) if spans else NoMoment()


def _clean_sample(row: row_decoder.DecodedRow, metadata: dict[str, Any], *, path: str, line: int, nth: int) -> Sample:
    """`_sample` of a row without any fault, which has its types already."""
    at = raw_rows.row_at(line, nth)
    times, duration_s = row.timestamp, row.duration
    pairs: Any = (times,) if times and isinstance(times[0], float) else times
    spans = tuple((max(start, 0.0), min(end, duration_s)) for start, end in pairs)
    return Sample(
        video=row.video,
        duration_s=row.duration,
        target=_target(spans),
        query=row.sentence,
        qid=f"{_stem(path)}:{at}" if row.qid is None else str(row.qid),
        video_start_s=row.video_start,
        video_end_s=row.video_end,
        difficulty=row.difficulty,
        pred=row.pred,
        metadata=metadata,
        place=f"{path}:{at}",
    )


def _optional_float(value: float | None) -> float | None:
    return None if value is None else float(value)
