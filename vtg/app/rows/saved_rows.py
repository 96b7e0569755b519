"""Rows written to their new file, whole or not at all; those with errors beside it, or among the others if asked."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from vtg.annotations.sample import Problem
from vtg.app.rows.edit_journal import EditJournal
from vtg.app.rows.row_list import Row
from vtg.app.rows.row_text import one_line
from vtg.doctor.audit import Report, audit_rows
from vtg.doctor.rejected_rows import rejected_line, rejects_path
from vtg.errors import SampleError
from vtg.storage.atomic import sync_one, written_beside
from vtg.storage.file_stamp import ABSENT, file_stamp

Stamp = tuple[int, int]


@dataclass
class SavedFiles:
    """The file and that of its rejects, and the versions of them that may be replaced: those written here before."""

    out: Path
    known: dict[str, set[Stamp]] = field(default_factory=dict)

    @property
    def rejects(self) -> Path:
        return rejects_path(str(self.out))

    @property
    def both(self) -> tuple[Path, Path]:
        return self.out, self.rejects

    def learn(self, versions: Mapping[str, Sequence[int]]) -> None:
        """Of a journal: versions that may be replaced."""
        for path, (size, time_ns) in versions.items():
            self.known.setdefault(path, set()).add((size, time_ns))

    def foreign(self) -> Path | None:
        """The first of the files that somebody else wrote, or changed since."""
        for path in self.both:
            stamp = file_stamp(str(path))
            if stamp != ABSENT and stamp not in self.known.get(str(path), ()):
                return path
        return None

    def save(self, rows: Sequence[Row], journal: EditJournal, *, keeps_bad: bool = False) -> tuple[int, int]:
        """Writes the rows; returns how many are in the file, and how many beside it.

        A row has an error where `vtg.validate` finds one; a file without such rows passes it.

        Raises:
            SampleError: another program has changed a file since it was written here. Nothing is written then.
            OSError: it cannot be written.
        """
        if path := self.foreign():
            raise SampleError(f"{path} was changed by another program; nothing was saved: move it away, and save again")
        with ExitStack() as stack:
            beside = {self.out: stack.enter_context(written_beside(self.out))}
            with beside[self.out].open("wb") as file:
                sink = _Rows(rows, file, keeps_bad=keeps_bad)
                audit_rows(str(self.out), sink.numbered(), Report(max_problems=0), sink=sink)
            if sink.rejected:
                beside[self.rejects] = stack.enter_context(written_beside(self.rejects))
                beside[self.rejects].write_text("".join(sink.rejected), encoding="utf-8")
            for written in beside.values():
                sync_one(written)
            versions = {str(path): file_stamp(str(written)) for path, written in beside.items()}
            # Before they take their names: a kill in between must leave files that are known as ours.
            journal.append({"saves": versions, "written": sink.written})
            self.learn({path: list(stamp) for path, stamp in versions.items()})
        if not sink.rejected:
            self.rejects.unlink(missing_ok=True)  # rows that were mended since; somebody else's it is not, as above
        return sink.written, len(sink.rejected)


class _Rows:
    """What `audit_rows` reads, and where it puts the rows."""

    def __init__(self, rows: Sequence[Row], file: IO[bytes], *, keeps_bad: bool) -> None:
        self._rows, self._file, self._keeps_bad = rows, file, keeps_bad
        self.written, self.rejected = 0, list[str]()

    def numbered(self) -> Iterator[tuple[int, bytes]]:
        return ((number, row.raw) for number, row in enumerate(self._rows, 1))

    def keep(self, raw: bytes, problems: list[Problem]) -> None:
        self._file.write(one_line(raw) + b"\n")
        self.written += 1

    def reject(self, raw: bytes, problems: list[Problem]) -> None:
        if self._keeps_bad:
            self.keep(raw, problems)
        else:
            self.rejected.append(rejected_line(raw, problems, place=self._rows[problems[0].line - 1].place))
