"""Checks whole annotation files, row by row: what `vtg.validate` prints, counted as it comes.

Memory does not grow with a file. Equal qids are therefore found among its first `FirstSeen.LIMIT` distinct ones, and
videos are counted up to `MAX_VIDEOS`; the report tells when a limit is met. `VideoChecks` alone remembers every video.
"""

import mmap
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import msgspec

from vtg.annotations import raw_rows as rows
from vtg.annotations import row_checks as checks
from vtg.annotations import sample as schema
from vtg.annotations.row_checks import Finding
from vtg.annotations.sample import Problem
from vtg.doctor.video_checks import VideoChecks

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
    """What was found: exact counts, and the first `max_problems` problems of each kind (None: all)."""

    max_problems: int | None = 20
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
        if self.max_problems is None or counts[problem.kind] <= self.max_problems:
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
            "problems_of_each_kind": self.max_problems,
            "problems": [asdict(problem) for problem in self.problems],
        }

    def lines(self) -> Iterator[str]:
        """The report as text: errors, warnings, each kind of them together, and a summary."""
        of_kind: dict[tuple[str, str], list[Problem]] = defaultdict(list)
        for problem in self.problems:
            of_kind[problem.severity, problem.kind].append(problem)
        for severity, counts in (("error", self.errors), ("warning", self.warnings)):
            if counts:
                yield f"{counts.total()} {severity}s:"
                for kind, count in counts.items():
                    shown = of_kind[severity, kind]
                    yield from (f"  {problem}" for problem in shown)
                    if count > len(shown):
                        yield f"  … and {count - len(shown):,} more of this kind; --all shows every one"
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
            if videos is not None and whole is not None and [one.kind for one in problems] == ["duration-missing"]:
                raw, whole, problems = _with_duration(raw, whole, problems[0], videos, fills=sink is not None)
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


def _with_duration(
    raw: bytes, row: dict[str, Any], missing: Problem, videos: VideoChecks, *, fills: bool
) -> tuple[bytes, dict[str, Any] | None, list[Problem]]:
    """The row with the duration that its video tells, and what is wrong with it then, where it is written so.

    Else the row as it is, and what it would get.
    """
    placed = partial(_placed, path=missing.path, line=missing.line)
    found = videos.duration(row)
    if found is None:
        return raw, row, [missing, *map(placed, videos.findings(row | {"duration": 0.0}))]
    duration_s, told = found
    if not fills:
        text = f"is missing; {told}: --fix OUT writes that"
        return raw, row, [replace(missing, message=text)]
    filled = msgspec.json.decode(msgspec.json.format(raw, indent=-1), type=dict[str, msgspec.Raw])
    filled["duration"] = msgspec.Raw(msgspec.json.encode(duration_s))
    raw = msgspec.json.encode(filled)
    whole, problems = schema.check_row(raw, path=missing.path, line=missing.line)
    text = f"was missing; filled in: {told}"
    return raw, whole, [placed(Finding("duration", "duration-filled", text, "warning")), *problems]


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
