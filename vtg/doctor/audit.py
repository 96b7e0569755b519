"""Checks whole annotation files row by row, in constant memory: the report that `vtg.validate` prints.

Repeated qids are therefore found among the first `FirstSeen.LIMIT` distinct ones of a file, and videos are counted up
to `MAX_VIDEOS`; the report says when a limit is reached. `VideoChecks` alone remembers every video.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import msgspec

from vtg.annotations import row_decoder
from vtg.annotations.formats import format_of
from vtg.annotations.formats.published import form_remedy
from vtg.annotations.raw_rows import RowsOfLines, row_at
from vtg.annotations.row_checks import Finding
from vtg.annotations.sample import Problem, check_row, empty_file, video_and_query
from vtg.annotations.target import row_kind
from vtg.doctor.first_seen import FirstSeen
from vtg.doctor.row_facts import RowFacts
from vtg.doctor.subtitle_checks import subtitle_problems
from vtg.doctor.video_checks import VideoChecks, readable_gap_s

# Hashes of their names in a Python set: some ten megabytes, which no file can make more.
MAX_VIDEOS = 1 << 17


@dataclass
class Report:
    """Exact counts, and the first `max_problems` problems of each kind (None: all)."""

    max_problems: int | None = 20
    strict: bool = False
    files: list[str] = field(default_factory=list)
    rows: int = 0
    good: int = 0
    min_duration_s: float = float("inf")
    max_duration_s: float = 0.0
    without_moment: int = 0
    with_several: int = 0
    tasks: Counter[str] = field(default_factory=Counter)
    """Good rows of other tasks than spans."""
    # Hash of a video's name → its duration where its rows do not trim it (else None), and the first place of that.
    videos: dict[int, tuple[float | None, str]] = field(default_factory=dict)
    tables_full: bool = False
    errors: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)

    def add(self, problem: Problem) -> None:
        counts = dict(self.counts())[problem.severity]
        counts[problem.kind] += 1
        if self.max_problems is None or counts[problem.kind] <= self.max_problems:
            self.problems.append(problem)

    def counts(self) -> Iterator[tuple[str, Counter[str]]]:
        """The number of problems of each kind, by severity."""
        yield from (("error", self.errors), ("warning", self.warnings), ("note", self.notes))

    def other_duration(self, video: str, duration_s: float, path: str, line: int, nth: int) -> Problem | None:
        """What is wrong with the duration of a row without a trim, where an earlier row names the same video."""
        key = hash(video)
        first_s, place = self.videos.get(key, (None, ""))
        if first_s is None:
            if key in self.videos or len(self.videos) < MAX_VIDEOS:
                self.videos[key] = duration_s, f"{path}:{row_at(line, nth)}"
            return None
        if abs(first_s - duration_s) <= readable_gap_s(duration_s):
            return None
        text = f"is {duration_s:.10g} s, but {first_s:.10g} s in {place} for the same video; correct one of them"
        return Problem(path, line, "duration", f"{text} (--probe says which)", "error", "duration-two", nth)

    def count(self, video: str, duration_s: float, moments: int, *, task: str | None) -> None:
        """Counts a good row; `task`: another than spans, of which there are no moments to be counted."""
        self.rows += 1
        self.good += 1
        if task is not None:
            self.tasks[task] += 1
        elif moments != 1:
            self.without_moment += not moments
            self.with_several += moments > 1
        if len(self.videos) < MAX_VIDEOS:
            self.videos.setdefault(hash(video), (None, ""))
        # Comparisons rather than min() and max(): this runs for every row of files of millions.
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
            "notes": self.notes.total(),
            "videos": len(self.videos),
            "tables_full": self.tables_full,
            "moments": self._moments,
            "tasks": dict(self.tasks),
            "duration_s": {"min": self.min_duration_s, "max": self.max_duration_s} if self.max_duration_s else None,
            "kinds": {severity: dict(counts) for severity, counts in self.counts()},
            "problems_of_each_kind": self.max_problems,
            "problems": [asdict(problem) for problem in self.problems],
        }

    @property
    def _moments(self) -> dict[str, int]:
        """How many of the good rows of spans have no moment, one, and several."""
        others = self.without_moment + self.with_several + self.tasks.total()
        return {"none": self.without_moment, "one": self.good - others, "several": self.with_several}

    def lines(self) -> Iterator[str]:
        """The report as text: errors, warnings, each kind of them together, and a summary."""
        of_kind: dict[tuple[str, str], list[Problem]] = defaultdict(list)
        for problem in self.problems:
            of_kind[problem.severity, problem.kind].append(problem)
        for severity, counts in self.counts():
            if counts:
                yield f"{_counted(counts.total(), severity)}:"
                for kind, count in counts.items():
                    shown = of_kind[severity, kind]
                    yield from (f"  {problem}" for problem in shown)
                    if count > len(shown):
                        yield f"  … and {count - len(shown):,} more of this kind; --all shows every one"
                yield ""
        totals = f"{_counted(self.errors.total(), 'error')}, {_counted(self.warnings.total(), 'warning')}"
        if self.notes:
            totals += f", {_counted(self.notes.total(), 'note')}"
        yield f"{_counted(self.rows, 'row')} in {_counted(len(self.files), 'file')}: {self.good} good, {totals}"
        if self.max_duration_s:
            videos = _counted(len(self.videos), "video")
            yield f"{videos}; durations {self.min_duration_s:.10g} to {self.max_duration_s:.10g} s"
        if self.without_moment or self.with_several:
            moments = ", ".join(f"{name} {count}" for name, count in self._moments.items())
            needs = " (rows with none need task.moments=set)" if self.without_moment else ""
            yield f"moments of a row: {moments}{needs}"
        if self.tasks:
            yield f"rows of other tasks: {', '.join(f'{name} {count}' for name, count in self.tasks.items())}"
        for severity, counts in self.counts():
            yield from (f"  {severity} {kind}: {count}" for kind, count in counts.most_common())
        if self.tables_full:
            limits = f"{FirstSeen.LIMIT} distinct qids of a file, {MAX_VIDEOS} videos"
            yield f"a limit was met ({limits}): what came after was not compared or counted"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


class Sink(Protocol):
    """Where rows go once they are checked: what `--fix` writes."""

    def keep(self, raw: bytes, problems: list[Problem]) -> None: ...
    def reject(self, raw: bytes, problems: list[Problem]) -> None: ...


def audit_file(
    path: str,
    report: Report,
    *,
    videos: VideoChecks | None = None,
    sink: Sink | None = None,
    facts: RowFacts | None = None,
) -> None:
    """Checks every row of a file of any format into the report; `facts` gets the good ones, to be compared.

    Raises:
        OSError: the file cannot be read.
        ConfigError: shards that are not there.
    """
    report.files.append(path)
    if facts is not None:
        facts.files.append(path)
    good = report.good
    audit_rows(path, format_of(path).raw_rows(path), report, videos=videos, sink=sink, facts=facts)
    if report.good == good and (remedy := form_remedy(path)):
        report.add(Problem(path, 1, "file", remedy, "note", "file-form"))


def audit_rows(
    path: str,
    rows: Iterable[tuple[int, bytes] | Problem],
    report: Report,
    *,
    videos: VideoChecks | None = None,
    sink: Sink | None = None,
    facts: RowFacts | None = None,
) -> None:
    """`audit_file` of rows that were read before, or are in no file yet; problems call them `path` and their number."""
    decoder, qids, of_lines, empty = row_decoder.RowDecoder(), FirstSeen(), RowsOfLines(), True
    for item in rows:
        empty = False
        if isinstance(item, Problem):
            _reject(b"", [item], report, sink)
            continue
        line, raw = item
        nth = of_lines.nth(line, raw)
        try:
            row = decoder.decode(raw)
            # Nearly all rows pass this compiled check; only the others are looked at key by key, which is slower.
            clean = videos is None and row_decoder.is_clean(row)
            if clean and "task" in decoder.learned:
                clean = row_kind({"timestamp": row.timestamp, **decoder.metadata(row)}) is None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            row, clean = None, False
        problems: list[Problem] = []
        task: str | None = None
        if row is not None and clean:
            video, duration_s, qid, is_whole = row.video, row.duration, row.qid, row.video_start is None
            query, times = row.sentence, row.timestamp
        else:
            whole, problems = check_row(raw, path=path, line=line, nth=nth)
            if (
                videos is not None
                and whole is not None
                and [problem.kind for problem in problems] == ["duration-missing"]
            ):
                raw, whole, problems = _with_duration(raw, whole, problems[0], videos, fills=sink is not None)
            if whole is None or _has_error(problems):
                _reject(raw, problems, report, sink)
                continue
            decoder.learn(whole)
            kind, (video, query) = row_kind(whole), video_and_query(whole)
            task, times = (None, whole["timestamp"]) if kind is None else (kind.task, [])
            if kind is not None:
                problems += subtitle_problems(whole, path, line, nth)
            duration_s, qid, is_whole = float(whole["duration"]), whole.get("qid"), whole.get("video_start") is None
            if videos is not None:
                problems += [_as_problem(finding, path, line, nth) for finding in videos.findings(whole)]
        if qid is not None and (first := qids.line_of(str(qid), line)):
            text = f"{str(qid)[:80]!r} is also on line {first}; give every row its own, or scores will mix them up"
            problems.append(Problem(path, line, "qid", text, "warning", "qid-repeated", nth))
        # Where files are opened, the file itself says which of two durations is right.
        asks_file = videos is not None and videos.probes
        if is_whole and not asks_file and (problem := report.other_duration(video, duration_s, path, line, nth)):
            problems.append(problem)
        if problems and _has_error(problems):
            _reject(raw, problems, report, sink)
            continue
        for problem in problems:
            report.add(problem)
        moments = 1 if times and not isinstance(times[0], list | tuple) else len(times)
        report.count(video, duration_s, moments, task=task)
        if facts is not None:
            facts.add(line, nth, video=video, query=query, duration_s=duration_s, times=times)
        if sink is not None:
            sink.keep(raw, problems)
    if empty:
        report.add(empty_file(path))
    report.tables_full |= qids.count >= qids.LIMIT or len(report.videos) >= MAX_VIDEOS


def _with_duration(
    raw: bytes, row: dict[str, Any], missing: Problem, videos: VideoChecks, *, fills: bool
) -> tuple[bytes, dict[str, Any] | None, list[Problem]]:
    """Of a row without `duration`: with `fills`, the row with that of its video, checked again; else the row as it is.

    Returns the raw row, its keys and values (None for a broken one) and its problems.
    """
    as_problem = partial(_as_problem, path=missing.path, line=missing.line, nth=missing.nth)
    known = videos.duration(row)
    if known is None:
        return raw, row, [missing, *map(as_problem, videos.findings(row | {"duration": 0.0}))]
    duration_s, source = known
    if not fills:
        text = f"is missing; {source}: --fix OUT writes that"
        return raw, row, [replace(missing, message=text)]
    # Raw values, so that every other key is written back as it was given, numbers to the last digit.
    filled = msgspec.json.decode(msgspec.json.format(raw, indent=-1), type=dict[str, msgspec.Raw])
    filled["duration"] = msgspec.Raw(msgspec.json.encode(duration_s))
    raw = msgspec.json.encode(filled)
    whole, problems = check_row(raw, path=missing.path, line=missing.line, nth=missing.nth)
    text = f"was missing; filled in: {source}"
    return raw, whole, [as_problem(Finding("duration", "duration-filled", text, "warning")), *problems]


def _has_error(problems: list[Problem]) -> bool:
    return any(problem.severity == "error" for problem in problems)


def _as_problem(finding: Finding, path: str, line: int, nth: int) -> Problem:
    return Problem(path, line, finding.field, finding.message, finding.severity, finding.kind, nth)


def _reject(raw: bytes, problems: list[Problem], report: Report, sink: Sink | None) -> None:
    for problem in problems:
        report.add(problem)
    if problems[0].field != "file":  # a fault of the file as a whole is no row
        report.rows += 1
        if sink is not None:
            sink.reject(raw, problems)
