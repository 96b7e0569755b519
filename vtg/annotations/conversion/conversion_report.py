"""What became of every row of the files that were converted: counted by kind, the first of each kind shown."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from vtg.annotations.sources.source_row import Change, NoRow

MEANING = {
    "end-clipped": "ended after the clip, by no more than rounding: cut to its end",
    "end-clipped-far": "ended well after the clip: cut to its end",
    "start-clipped": "started before 0: cut to 0",
    "sentence-whitespace": "blanks at the edges, doubled blanks, line breaks and control characters removed",
    "duration-filled": "duration taken from another file",
    "duration-differs": "duration differs a little from another one of the same video: the row's own is kept",
    "duration-unknown": "written without `duration`: give --durations, or --video-dir with --probe",
    "duration-estimated": "nothing tells the duration: the longest that the annotations allow",
    "duration-from-text": "duration was text",
    "duration-from-trim": "duration is video_end - video_start",
    "duration-in-shots": "duration counted shots of 2 s",
    "timestamp-from-text": "times were text",
    "unlabelled": "written without `timestamp`: nobody has labelled it",
    "no-moment": "written with `timestamp: []`: it says that there is none; if labels are withheld, --empty unlabelled",
    "span-of-most": "of several people's spans the one that agrees best with all; `annotators` keeps each",
    "annotators-merged": "rows of several people became one: the span that agrees best; `annotators` keeps each",
    "spans-from-points": "moments without an end last until the next sample",
    "spans-from-scores": "the best-scored 15 % of the shots",
    "kwargs-unpacked": "what stood in `kwargs` became keys of the row",
    "class-name-unknown": "the sentence is the code of the class",
    "answer-without-times": "no time is told in this answer",
    "video-named": "video became the name of its file",
    "timestamp-reversed": "ends before it starts",
    "timestamp-empty": "ends where it starts",
    "timestamp-outside": "starts after the clip's end, or ends before its start",
    "timestamp-format": "no span can be read",
    "video-absent": "there is no such video",
    "video-ambiguous": "several files may be this video, or several videos this file",
    "duration-contradicts": "two durations of one video",
}
"""Kind → what it means, where that is not plain."""


@dataclass
class Tally:
    """Counts by kind, and the first `limit` examples of each."""

    limit: int = 3
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, place: str, text: str, *, count: int = 1) -> None:
        if self.counts[kind] < self.limit:
            self.examples.setdefault(kind, []).append(f"{place}: {text}")
        self.counts[kind] += count

    def document(self) -> dict[str, Any]:
        return {kind: {"count": n, "examples": self.examples[kind]} for kind, n in sorted(self.counts.items())}

    def lines(self) -> Iterator[str]:
        for kind, count in sorted(self.counts.items(), key=lambda pair: (-pair[1], pair[0])):
            meaning = f"  {MEANING[kind]}" if kind in MEANING else ""
            yield f"    {count:>9,}  {kind}{meaning}"
            yield from (f"               {example}" for example in self.examples[kind])


@dataclass
class FileReport:
    """One file: how many of its rows were written, changed, dropped and left out, and what broke it."""

    path: str
    form: str
    how: str
    limit: int = 3
    """Examples of each kind."""
    rows: int = 0
    written: int = 0
    dropped_rows: int = 0
    changed: Tally = field(init=False)
    dropped: Tally = field(init=False)
    left_out: Tally = field(init=False)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.changed, self.dropped, self.left_out = (Tally(self.limit) for _ in range(3))

    def write(self, line: int, changes: list[Change], *, rows: int = 1) -> None:
        self.rows += rows
        self.written += 1
        for kind, text in changes:
            self.changed.add(kind, f"{self.path}:{line}", text)

    def drop(self, line: int, no_row: NoRow) -> None:
        """Counts what is no row; a bad one against the share that may be dropped."""
        if no_row.is_bad:
            self.rows += 1
            self.dropped_rows += 1
        (self.dropped if no_row.is_bad else self.left_out).add(no_row.kind, f"{self.path}:{line}", no_row.text)

    def fault(self, line: int, text: str) -> None:
        self.faults.append(f"{self.path}:{line}: {text}")

    @property
    def dropped_share(self) -> float:
        return self.dropped_rows / self.rows if self.rows else 0.0

    def document(self) -> dict[str, Any]:
        return {
            "file": self.path,
            "format": self.form,
            "found_by": self.how,
            "rows": self.rows,
            "written": self.written,
            "dropped": self.dropped_rows,
            "dropped_share": round(self.dropped_share, 6),
            "changed_by_kind": self.changed.document(),
            "dropped_by_kind": self.dropped.document(),
            "left_out_by_kind": self.left_out.document(),
            "faults": self.faults,
        }

    def lines(self) -> Iterator[str]:
        yield f"{self.path}: {self.form} ({self.how})"
        dropped = f"{self.dropped_rows:,} dropped ({self.dropped_share:.2%})"
        yield f"  {self.rows:,} rows read, {self.written:,} written, {dropped}"
        for title, tally in (("changed", self.changed), ("dropped", self.dropped), ("left out", self.left_out)):
            if tally.counts:
                yield f"  {title}:"
                yield from tally.lines()
        yield from (f"  broken: {fault}" for fault in self.faults)
