"""Rows that say the same: repeated in a file, or shared between files that should have nothing in common.

Near-equal queries about one video are found by MinHash (Broder 1997): rows whose signatures agree in a band are
compared word by word, each with the first of its bucket alone, so that time and memory grow with the rows and not with
their pairs.
"""

import re
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vtg.annotations.sample import Problem
from vtg.doctor.row_facts import RowFacts

# Words, or single characters of scripts that write none between blanks.
WORDS = re.compile(r"[぀-ヿ㐀-鿿]|[^\W_぀-ヿ㐀-鿿]+")
# With them "a man opens the door" and "the man opens a door" would be no nearer than it and "man opens door" are.
ARTICLES = frozenset({"a", "an", "the"})

# Share of the words of two queries that both have. Of six words one may differ in this: opposites ("opens", "closes")
# in a sentence of six are 5 of 7.
NEAR = 0.75
# Bands of two: of pairs as near as that they miss 1 in 1,000, and compare 1 in 2 of those half as near.
BANDS = 8
# Moments are the same from this tIoU on: annotators and rounding move an end by less.
SAME_MOMENT = 0.9

Rows = NDArray[np.int64]


@dataclass
class Shared:
    """What a file has in common with an earlier one: videos, rows with the same query about the same video or a
    near-equal one, and rows whose query stands there about any video.
    """

    videos: int = 0
    rows: int = 0
    near_rows: int = 0
    queries: int = 0


@dataclass
class Comparison:
    """`problems`: in the order of rows. `shared`: (earlier file, later file) → what they share. `words`: (N,) of each
    query.
    """

    problems: list[Problem] = field(default_factory=list)
    shared: dict[tuple[int, int], Shared] = field(default_factory=dict)
    words: Rows = field(default_factory=lambda: np.zeros(0, np.int64))


def compare(facts: RowFacts, *, between_files: bool = True) -> Comparison:
    """Compares all rows. `between_files`: whether what two files share is a problem, as of training and test sets."""
    rows = _Rows(facts)
    found = Comparison(words=rows.word_counts)
    if between_files:
        for later in range(len(facts.files)):
            found.shared |= {(earlier, later): Shared() for earlier in range(later)}
    of_row: dict[int, list[Problem]] = {}
    for repeats in (_same_queries, _near_queries, _same_videos):
        for row, problem in repeats(rows, found.shared):
            of_row.setdefault(row, []).append(problem)
    _count_queries(rows, found.shared)
    found.problems = [problem for row in sorted(of_row) for problem in of_row[row]]
    return found


class _Rows:
    """The facts as arrays, and what is made of the queries."""

    def __init__(self, facts: RowFacts) -> None:
        self.facts = facts
        self.file = np.frombuffer(facts.file, np.uint16).astype(np.int64)
        self.video = np.frombuffer(facts.video, np.int64)
        self.spans = np.frombuffer(facts.spans, np.int64)
        self.start_s, self.end_s = (np.frombuffer(one, np.float32) for one in (facts.start_s, facts.end_s))
        self.query, self.word_counts = np.zeros((2, len(facts)), np.int64)
        words, ends = array("I"), array("q")
        for row in range(len(facts)):
            own = WORDS.findall(facts.query(row).lower())
            self.word_counts[row] = len(own)
            told = [word for word in own if word not in ARTICLES] or own
            self.query[row] = hash(" ".join(told))
            # crc32: hashes of Python differ from run to run, and with them what bands find.
            words.extend(sorted({zlib.crc32(word.encode()) for word in told}) or [0])
            ends.append(len(words))
        self._words, self._ends = np.frombuffer(words, np.uint32), np.frombuffer(ends, np.int64)

    def words(self, row: int) -> set[int]:
        start = self._ends[row - 1] if row else 0
        return set(self._words[start : self._ends[row]].tolist())

    def signatures(self) -> NDArray[np.uint32]:
        """(N, 2 · BANDS) the least of each of so many hashes of its words."""
        rng = np.random.default_rng(0)
        starts = np.concatenate([[0], self._ends[:-1]])
        found = np.empty((len(self._ends), 2 * BANDS), np.uint32)
        for at in range(2 * BANDS):
            factor, term = rng.integers(1, 1 << 32, 2, dtype=np.uint64) | np.uint64(1)
            # The upper half of a product modulo 2^64 (Dietzfelbinger's multiply-shift).
            mixed = (self._words * factor * np.uint64(0x9E3779B97F4A7C15) + term * factor) >> np.uint64(32)
            found[:, at] = np.minimum.reduceat(mixed.astype(np.uint32), starts)
        return found

    def moment_iou(self, one: int, other: int) -> float:
        """Of all moments together: 1 where neither has any."""
        ends, starts = self.end_s[[one, other]], self.start_s[[one, other]]
        union = float(ends.max() - starts.min())
        return max(0.0, float(ends.min() - starts.max())) / union if union > 0 else 1.0


def _groups(*keys: Rows) -> Iterator[list[int]]:
    """Rows in their order that agree in all keys, of two and more."""
    if not len(keys[0]):
        return
    order = np.lexsort(keys[::-1])
    differs = np.zeros(len(order) - 1, bool)
    for key in keys:
        differs |= np.diff(key[order]) != 0
    edges = np.concatenate([[0], np.flatnonzero(differs) + 1, [len(order)]])
    for start, size in zip(edges[:-1][np.diff(edges) > 1], np.diff(edges)[np.diff(edges) > 1], strict=True):
        yield order[start : start + size].tolist()


def _same_queries(rows: _Rows, shared: dict[tuple[int, int], Shared]) -> Iterator[tuple[int, Problem]]:
    """The same query about the same video: with the same moments, with others, or in another file."""
    for group in _groups(rows.video, rows.query):
        first_of: dict[int, int] = {}  # file → row
        first_with: dict[tuple[int, int], int] = {}  # file and moments → row
        for row in group:
            file, spans = int(rows.file[row]), int(rows.spans[row])
            others = [other for other in first_of if (other, file) in shared]
            for other in others:
                shared[other, file].rows += 1
            if others:
                text = "asks the same about the same video: drop one, or a test counts what was trained on"
                yield row, _problem(rows, row, first_of[others[0]], "sentence", "leak-row", text)
            if (earlier := first_with.get((file, spans))) is not None:
                text = "is the same row: video, query and moments; drop one"
                yield row, _problem(rows, row, earlier, "sentence", "row-repeated", text)
            elif file in first_of:
                text = "asks the same about the same video, with another moment; make one row of both"
                yield row, _problem(rows, row, first_of[file], "timestamp", "query-two-answers", text)
            first_with.setdefault((file, spans), row)
            first_of.setdefault(file, row)


def _near_queries(rows: _Rows, shared: dict[tuple[int, int], Shared]) -> Iterator[tuple[int, Problem]]:
    """Near-equal queries about the same video: in another file, or in the same with the same moment."""
    told: set[int] = set()
    signatures = rows.signatures() if len(rows.facts) else np.zeros((0, 2 * BANDS), np.uint32)
    for band in range(BANDS):
        pair = signatures[:, 2 * band].astype(np.int64) << 31 ^ signatures[:, 2 * band + 1]
        for first, *others in _groups(rows.video, pair):
            for row in others:
                between = (int(rows.file[first]), int(rows.file[row]))
                if row in told or rows.query[row] == rows.query[first]:
                    continue
                if between not in shared and (between[0] != between[1] or rows.moment_iou(first, row) < SAME_MOMENT):
                    continue
                one, other = rows.words(first), rows.words(row)
                if len(one & other) < NEAR * len(one | other):
                    continue
                told.add(row)
                if between in shared:
                    shared[between].near_rows += 1
                    text = "asks nearly the same about the same video ({}): drop one"
                    kind = "leak-near-row"
                else:
                    text, kind = "asks nearly the same ({}), with the same moment; drop one", "row-near-repeated"
                text = text.format(repr(rows.facts.query(first)[:80]))
                yield row, _problem(rows, row, first, "sentence", kind, text)


def _same_videos(rows: _Rows, shared: dict[tuple[int, int], Shared]) -> Iterator[tuple[int, Problem]]:
    """The same video in two files, told once for both."""
    for group in _groups(rows.video) if shared else ():
        first_of: dict[int, int] = {}
        for row in group:
            file = int(rows.file[row])
            if file in first_of:
                continue
            for other in first_of:
                shared[other, file].videos += 1
            if first_of:
                text = f"names the same video {rows.facts.name(row)!r}: split by video, or a test is trained on"
                yield row, _problem(rows, row, next(iter(first_of.values())), "video", "leak-video", text)
            first_of[file] = row


def _count_queries(rows: _Rows, shared: dict[tuple[int, int], Shared]) -> None:
    """How many rows ask what stands word for word in an earlier file, about any video: a prior can answer those."""
    asked = [np.unique(rows.query[rows.file == file]) for file in range(len(rows.facts.files))]
    for (earlier, later), counts in shared.items():
        counts.queries = int(np.isin(rows.query[rows.file == later], asked[earlier]).sum())


def _problem(rows: _Rows, row: int, earlier: int, field_name: str, kind: str, text: str) -> Problem:
    facts = rows.facts
    path, line, nth = facts.files[rows.file[row]], facts.line[row], facts.nth[row]
    return Problem(path, line, field_name, f"{facts.place(earlier)} {text}", "warning", kind, nth)
