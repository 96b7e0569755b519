"""Checks whole annotation files, row by row: what `vtg.validate` prints, counted as it comes.

Memory does not grow with a file. Equal qids are therefore found among its first `FirstSeen.LIMIT` distinct ones, and
videos are counted up to `MAX_VIDEOS`; the report tells when a limit is met. `VideoChecks` alone remembers every video.
"""

import mmap
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import msgspec

from vtg.data import checks, rows, schema
from vtg.data.checks import Finding
from vtg.data.schema import Problem
from vtg.video import address

MAX_VIDEOS = 1 << 17


class FirstSeen:
    """The line on which a string was first met: for the first `LIMIT` distinct ones, in a table of fixed size (24 MB).

    Strings are told apart by 64-bit hashes: a million of them hold a false match with a chance of about 1 in 10^7.
    """

    SLOTS = 1 << 21
    LIMIT = 1 << 20

    def __init__(self) -> None:
        # Anonymous maps take memory only where they are written: a small file costs next to nothing.
        self._hashes = memoryview(mmap.mmap(-1, 8 * self.SLOTS)).cast("q")
        self._lines = memoryview(mmap.mmap(-1, 4 * self.SLOTS)).cast("I")
        self.count = 0

    def line_of(self, text: str, line: int) -> int:
        """The earlier line that held `text`; 0 if there is none, or if the table is full."""
        key, hashes = hash(text) or 1, self._hashes
        slot = key & (self.SLOTS - 1)
        while seen := hashes[slot]:
            if seen == key:
                return self._lines[slot]
            slot = (slot + 1) & (self.SLOTS - 1)
        if self.count < self.LIMIT:
            hashes[slot], self._lines[slot] = key, line & 0xFFFFFFFF
            self.count += 1
        return 0


@dataclass
class Report:
    """What was found: exact counts, and the first `max_problems` problems of each kind."""

    max_problems: int = 100
    strict: bool = False
    files: list[str] = field(default_factory=list)
    rows: int = 0
    good: int = 0
    min_duration_s: float = float("inf")
    max_duration_s: float = 0.0
    videos: set[int] = field(default_factory=set)  # hashes of their names
    tables_full: bool = False
    errors: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)

    def add(self, problem: Problem) -> None:
        counts = self.errors if problem.severity == "error" else self.warnings
        counts[problem.kind] += 1
        if counts[problem.kind] <= self.max_problems:
            self.problems.append(problem)

    def count(self, video: str, duration_s: float) -> None:
        """Counts a good row."""
        self.rows += 1
        self.good += 1
        if len(self.videos) < MAX_VIDEOS:
            self.videos.add(hash(video))
        if duration_s < self.min_duration_s:
            self.min_duration_s = duration_s
        if duration_s > self.max_duration_s:
            self.max_duration_s = duration_s

    @property
    def ok(self) -> bool:
        return not self.errors and not (self.strict and self.warnings)

    def document(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "report": "vtg.validate",
            "ok": self.ok,
            "strict": self.strict,
            "files": self.files,
            "rows": self.rows,
            "good": self.good,
            "errors": self.errors.total(),
            "warnings": self.warnings.total(),
            "videos": len(self.videos),
            "tables_full": self.tables_full,
            "duration_s": {"min": self.min_duration_s, "max": self.max_duration_s} if self.max_duration_s else None,
            "kinds": {"error": dict(self.errors), "warning": dict(self.warnings)},
            "problems": [asdict(problem) for problem in self.problems],
        }

    def lines(self) -> Iterator[str]:
        """The report as text: errors, warnings, summary."""
        for severity, counts in (("error", self.errors), ("warning", self.warnings)):
            if counts:
                yield f"{counts.total()} {severity}s:"
                yield from (f"  {problem}" for problem in self.problems if problem.severity == severity)
                for kind, count in counts.items():
                    if count > self.max_problems:
                        yield f"  and {count - self.max_problems} more {kind} (--max-problems shows more)"
                yield ""
        found = f"{self.errors.total()} errors, {self.warnings.total()} warnings"
        yield f"{self.rows} rows in {len(self.files)} files: {self.good} good, {found}"
        if self.max_duration_s:
            yield f"{len(self.videos)} videos; durations {self.min_duration_s:.10g} to {self.max_duration_s:.10g} s"
        for severity, counts in (("error", self.errors), ("warning", self.warnings)):
            yield from (f"  {severity} {kind}: {count}" for kind, count in counts.most_common())
        if self.tables_full:
            limits = f"{FirstSeen.LIMIT} distinct qids of a file, {MAX_VIDEOS} videos"
            yield f"a limit was met ({limits}): what came after was not compared or counted"


class Sink(Protocol):
    """Where rows go once they are judged."""

    def keep(self, raw: bytes, problems: list[Problem]) -> None: ...
    def reject(self, raw: bytes, problems: list[Problem]) -> None: ...


class VideoInfo(Protocol):
    @property
    def duration_s(self) -> float: ...


class VideoChecks:
    """Checks the videos that rows name: that they are there and, with `probe`, that their durations fit.

    Every distinct file is looked at once. `probe` opens a video and raises `unreadable` where that fails; `exists` says
    whether there is one.
    """

    def __init__(
        self,
        video_dir: str | None,
        *,
        exists: Callable[[str], bool] = os.path.isfile,
        probe: Callable[[str], VideoInfo] | None = None,
        unreadable: tuple[type[Exception], ...] = (OSError,),
        progress: Callable[[], object] = lambda: None,
    ) -> None:
        self._video_dir, self._exists, self._probe = video_dir, exists, probe
        self._unreadable, self._progress = unreadable, progress
        self._paths: dict[str, str] = {}
        self._files: dict[str, Finding | float | None] = {}

    def findings(self, row: dict[str, Any]) -> Iterator[Finding]:
        """What is wrong with the video of a row that has no errors of its own."""
        video = row["video"]
        path = self._paths.get(video)
        if path is None:
            path = self._paths[video] = schema.resolve_video(video, self._video_dir)
        if path not in self._files:
            self._files[path] = self._look(path)
        match self._files[path]:
            case Finding() as finding:
                yield finding
            case float() as file_s:
                yield from _duration_findings(row, file_s)

    def _look(self, path: str) -> Finding | float | None:
        """The file's duration in seconds (None without probe), or what is wrong with it."""
        if fault := address.fault(path):  # of a name and the folder together: each alone may be opened
            return Finding("video", "video-address", fault)
        if not self._exists(path):
            remedy = "give its folder with --video-dir" if self._video_dir is None else "check --video-dir, or fetch it"
            return Finding("video", "video-missing", f"there is no file {path}; {remedy}")
        if self._probe is None:
            return None
        try:
            return float(self._probe(path).duration_s)
        except self._unreadable as error:
            return Finding("video", "video-unreadable", f"{path} cannot be read ({error}); fetch it again")
        finally:
            self._progress()


def _duration_findings(row: dict[str, Any], file_s: float) -> Iterator[Finding]:
    """Whether a file that lasts `file_s` can hold the clip of a row: an error where `video.load` would refuse it."""
    duration_s, start_s, end_s = row["duration"], row.get("video_start"), row.get("video_end")
    lasts = f"the file lasts {file_s:.10g} s"
    if start_s is None or end_s is None:
        gap_s, text = abs(file_s - duration_s), f"{lasts}, not {duration_s:.10g} s"
        if gap_s > max(1.0, 0.1 * duration_s):
            text = f"{text}; fetch the right file, or give video_start and video_end if the clip is a part of it"
            yield Finding("duration", "video-duration", text)
        elif gap_s > max(0.5, 0.02 * duration_s):
            yield Finding(
                "duration", "video-duration-off", f"{text}; it is near enough to be read: correct it", "warning"
            )
        return
    clip_s = end_s - start_s
    tolerance_s = max(1.0, 0.05 * clip_s)
    if file_s < end_s and abs(file_s - clip_s) <= tolerance_s:
        text = f"{lasts}, as long as the clip: it is read as already cut; remove video_start and video_end"
        yield Finding("video_start", "video-already-cut", text, "warning")
    elif file_s <= start_s or file_s < end_s - tolerance_s:
        text = f"{lasts}: it neither reaches video_end ({end_s:.10g} s) nor is a clip of {clip_s:.10g} s"
        yield Finding("video_end", "video-trim", f"{text}; correct the times, or fetch the right file")


def audit_file(path: str, report: Report, *, videos: VideoChecks | None = None, sink: Sink | None = None) -> None:
    """Checks every row of a file into the report. Raises OSError when the file cannot be read."""
    report.files.append(path)
    decoder, qids, empty = checks.RowDecoder(), FirstSeen(), True
    for line, raw in rows.raw_rows(path):
        empty = False
        try:
            row = decoder.decode(raw)
            clean = videos is None and checks.is_clean(row)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            row, clean = None, False
        problems: list[Problem] = []
        if row is not None and clean:
            video, duration_s, qid = row.video, row.duration, row.qid
        else:
            whole, problems = schema.check_row(raw, path=path, line=line)
            if whole is None or _lost(problems):
                _reject(raw, problems, report, sink)
                continue
            decoder.learn(whole)
            video, duration_s, qid = whole["video"], float(whole["duration"]), whole.get("qid")
            if videos is not None:
                problems += [_placed(finding, path, line) for finding in videos.findings(whole)]
        if qid is not None and (first := qids.line_of(str(qid), line)):
            text = f"{str(qid)[:80]!r} is also on line {first}; give every row its own, or scores will mix them up"
            problems.append(Problem(path, line, "qid", text, "warning", "qid-repeated"))
        if problems and _lost(problems):
            _reject(raw, problems, report, sink)
            continue
        for problem in problems:
            report.add(problem)
        report.count(video, duration_s)
        if sink is not None:
            sink.keep(raw, problems)
    if empty:
        report.add(schema.empty_file(path))
    report.tables_full |= qids.count >= qids.LIMIT or len(report.videos) >= MAX_VIDEOS


def _lost(problems: list[Problem]) -> bool:
    return any(problem.severity == "error" for problem in problems)


def _placed(finding: Finding, path: str, line: int) -> Problem:
    return Problem(path, line, finding.field, finding.message, finding.severity, finding.kind)


def _reject(raw: bytes, problems: list[Problem], report: Report, sink: Sink | None) -> None:
    for problem in problems:
        report.add(problem)
    if problems[0].field != "file":
        report.rows += 1
        if sink is not None:
            sink.reject(raw, problems)
