"""What comparing rows needs of each, in columns of fixed width: no objects are kept, and memory is bounded."""

from array import array
from collections.abc import Sequence
from typing import Any

from vtg.annotations.raw_rows import row_at


class RowFacts:
    """Facts of the good rows of several files, in their order.

    Attributes:
        files: paths.
        file, line, nth: where each row is: a number of `files`, a line, and which of the rows that start on it.
        video, spans: hashes of the name and of all moments.
        duration_s, start_s, end_s: of the clip, and of its moments together.
        moments: how many.
        query_end: where the UTF-8 text of a query ends in `queries`; it begins where the one before ends.
        names: hash of a video → its name, of the first `MAX_NAMES`.
        is_full: whether rows came after the limits, and were left out.
    """

    # A row takes 49 bytes and its query: 300 MB at most.
    MAX_ROWS = 1 << 21
    MAX_TEXT = 1 << 27
    MAX_NAMES = 1 << 17

    def __init__(self) -> None:
        self.files: list[str] = []
        self.file, self.line, self.nth, self.moments = array("H"), array("I"), array("I"), array("H")
        self.video, self.spans, self.query_end = array("q"), array("q"), array("q")
        self.duration_s, self.start_s, self.end_s = array("f"), array("f"), array("f")
        self.queries = bytearray()
        self.names: dict[int, str] = {}
        self.is_full = False

    def __len__(self) -> int:
        return len(self.line)

    def add(self, line: int, nth: int = 1, *, video: str, query: str, duration_s: float, times: Sequence[Any]) -> None:
        """Adds a row of the last of `files`. `times`: [start, end] or a list of such pairs, in seconds of the clip."""
        if len(self.line) >= self.MAX_ROWS or len(self.queries) >= self.MAX_TEXT:
            self.is_full = True
            return
        pairs = [tuple(pair) for pair in times] if times and not isinstance(times[0], int | float) else [tuple(times)]
        pairs = [pair for pair in pairs if pair]
        key = hash(video)
        if key not in self.names and len(self.names) < self.MAX_NAMES:
            self.names[key] = video
        self.file.append(len(self.files) - 1)
        self.line.append(line & 0xFFFFFFFF)
        self.nth.append(nth)
        self.video.append(key)
        self.spans.append(hash(tuple(pairs)))
        self.duration_s.append(duration_s)
        self.start_s.append(min((start for start, _ in pairs), default=0.0))
        self.end_s.append(max((end for _, end in pairs), default=0.0))
        self.moments.append(min(len(pairs), 0xFFFF))
        self.queries += query.encode("utf-8", "replace")
        self.query_end.append(len(self.queries))

    def place(self, row: int) -> str:
        """`path:line` of a row by its number (`Problem.place`)."""
        return f"{self.files[self.file[row]]}:{row_at(self.line[row], self.nth[row])}"

    def query(self, row: int) -> str:
        return self.queries[self.query_end[row - 1] if row else 0 : self.query_end[row]].decode()

    def name(self, row: int) -> str:
        """The video of a row, or nothing past `MAX_NAMES`."""
        return self.names.get(self.video[row], "")
