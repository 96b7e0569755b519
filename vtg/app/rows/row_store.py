"""Rows that one page or several look at and edit: findings, filters, steps and their journal, under one lock."""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vtg.annotations.sample import Problem, check_row, resolve_video
from vtg.app.rows.edit_journal import EditJournal
from vtg.app.rows.row_filter import RowFilter, iou_of
from vtg.app.rows.row_list import ADDED, WRITTEN, Row, RowList
from vtg.app.rows.row_proposals import Proposal, RowProposals
from vtg.app.rows.row_text import is_open, mended, open_row, parsed, source_of, text_of, with_values
from vtg.app.rows.saved_rows import SavedFiles
from vtg.doctor.audit import Report, audit_rows
from vtg.doctor.video_checks import VideoChecks
from vtg.errors import SampleError
from vtg.video.files.address import is_address
from vtg.video.files.video_files import exists

# Found by comparing rows; everything else a row tells by itself.
BETWEEN_ROWS = ("qid-repeated", "duration-two")


class StaleEdit(Exception):
    """An edit of rows that somebody has edited since: it would be of something its author has not seen."""


class Looked(NamedTuple):
    """A row as it is looked at: `number` from 1 in the order of all rows."""

    row: Row
    number: int
    value: dict[str, Any] | None
    iou: float | None


class _Audit(NamedTuple):
    revision: int
    problems: dict[int, list[Problem]]
    kinds: dict[str, tuple[int, str]]


class RowStore:
    """Rows, what is said of them, and their edits. Safe under threads."""

    def __init__(
        self,
        rows: RowList,
        journal: EditJournal,
        files: SavedFiles,
        *,
        name: str,
        video_dir: str | None,
        proposals: RowProposals,
        faults: Sequence[str] = (),
        saved_revision: int | None = None,
    ) -> None:
        """`name`: what problems call the rows' file; `faults`: what is wrong with the files that were read."""
        self.rows, self.files, self.proposals = rows, files, proposals
        self.name, self.faults, self.video_dir = name, tuple(faults), video_dir
        self._journal, self._videos = journal, VideoChecks(video_dir, exists=exists)
        self._saved_revision = saved_revision
        self._shown = {
            resolve_video(text_of(value, "video"), video_dir) for row in rows.given() if (value := parsed(row.raw))
        }
        self._audit = _Audit(-1, {}, {})
        self._changing = threading.RLock()

    def __str__(self) -> str:
        edits = f"{self.rows.revision} edits so far are kept in" if self.rows.revision else "edits are kept in"
        return f"{len(self.rows)} rows; {edits} {self._journal.path}, and saved as {self.files.out}"

    # --- looking -------------------------------------------------------------------------------------------------

    def page(
        self, asked: RowFilter, *, offset: int = 0, limit: int, around: int | None = None
    ) -> tuple[int, int, list[Looked]]:
        """How many rows a filter leaves, and `limit` of them from `offset` on, which is returned too.

        `around`: the key of a row; where the filter leaves it, its page comes instead.
        """
        with self._changing:
            if not asked.asks:
                place = offset if around is None or around not in self.rows else self.rows.place_of(around)
                offset = place // limit * limit if around is not None else offset
                last = min(offset + limit, len(self.rows))
                return len(self.rows), offset, [self._looked(place) for place in range(offset, last)]
            found = list(self._filtered(asked))
            at = next((at for at, one in enumerate(found) if one.row.key == around), None)
            offset = offset if at is None else at // limit * limit
            return len(found), offset, found[offset : offset + limit]

    def step(self, asked: RowFilter, key: int, by: int) -> Looked | None:
        """The row that a filter leaves nearest before (`by` = -1) or after (1) a row, or None at the end.

        A row that left the filter by being mended is a place to go on from.
        """
        with self._changing:
            here = self.rows.place_of(key) if key in self.rows else -1
            places = range(here - 1, -1, -1) if by < 0 else range(here + 1, len(self.rows))
            if not asked.asks:
                return self._looked(places[0]) if len(places) else None
            return next(self._filtered(asked, places), None)

    def looked(self, key: int) -> Looked:
        """Raises KeyError for a row that is not there, or no longer."""
        with self._changing:
            _ = self.rows[key]
            return self._looked(self.rows.place_of(key))

    def problems(self, row: Row) -> list[Problem]:
        """What is wrong with a row; what is found between rows as of the last look at all of them."""
        if self.is_open(row):
            return []
        with self._changing:
            value, found = check_row(row.raw, path=self.name, line=self.rows.place_of(row.key) + 1)
            if value is not None and not any(problem.severity == "error" for problem in found):
                for one in self._videos.findings(value):
                    found.append(Problem(self.name, found[0].line if found else 0, *_fields(one)))
            between = (one for one in self._audit.problems.get(row.key, ()) if one.kind in BETWEEN_ROWS)
            return [*found, *between]

    def kinds(self) -> dict[str, tuple[int, str]]:
        """How many findings of each kind there are, and its severity."""
        with self._changing:
            return self._audited().kinds

    def sources(self) -> dict[str, int]:
        """How many rows come from each source."""
        counts: dict[str, int] = {}
        with self._changing:
            for row in self.rows:
                source = source_of(parsed(row.raw) or {}, self._path_of(row))
                counts[source] = counts.get(source, 0) + 1
        return counts

    def check_shown(self, value: Mapping[str, Any]) -> None:
        """Raises SampleError for a row whose video is none of those that the files name, nor in the folder of videos.

        What a page writes into a row does not open it other files of this machine.
        """
        path = resolve_video(text_of(value, "video"), self.video_dir)
        folder = self.video_dir and os.path.realpath(self.video_dir)
        # An address looks like a path below any folder.
        inside = folder is not None and not is_address(path) and Path(os.path.realpath(path)).is_relative_to(folder)
        if path not in self._shown and not inside:
            raise SampleError(
                f"video {path}: was named here, and by no file; start again with its folder as --video-dir"
            )

    def is_open(self, row: Row) -> bool:
        """Whether a row was made here for somebody to annotate, and nobody has yet."""
        return row.place in (ADDED, WRITTEN) and is_open(row.raw)

    @property
    def is_saved(self) -> bool:
        return self._saved_revision == self.rows.revision

    def open_count(self) -> int:
        with self._changing:
            return sum(map(self.is_open, self.rows))

    def proposed(self, value: Mapping[str, Any]) -> list[Proposal]:
        """Proposals for a row; to one that asks nothing yet, those of its video that no other row has taken up."""
        found = self.proposals.of(value)
        if text_of(value, "sentence").strip():
            return found
        with self._changing:
            rows = [parsed(row.raw) or {} for row in self.rows]
        taken = {text_of(row, "sentence") for row in rows if row.get("video") == value.get("video")}
        return [one for one in found if one.sentence not in taken or not one.sentence]

    def _looked(self, place: int) -> Looked:
        row = self.rows.at(place)
        value = parsed(row.raw)
        return Looked(row, place + 1, value, None if value is None else iou_of(value, self.proposals.of(value)))

    def _filtered(self, asked: RowFilter, places: range | None = None) -> Iterator[Looked]:
        problems = self._audited().problems if asked.finding not in ("", "open", "edited") else {}
        for place in range(len(self.rows)) if places is None else places:
            row = self.rows.at(place)
            found, opened = problems.get(row.key, ()), bool(asked.finding) and self.is_open(row)
            if not asked.fits_findings(found, edited=self.rows.is_edited(row), is_open=opened):
                continue
            value = parsed(row.raw)
            if not asked.fits_text(row.raw, value):
                continue
            if asked.source and source_of(value or {}, self._path_of(row)) != asked.source:
                continue
            iou = None if value is None else iou_of(value, self.proposals.of(value))
            if asked.fits_iou(iou):
                yield Looked(row, place + 1, value, iou)

    def _path_of(self, row: Row) -> str:
        return row.place.rpartition(":")[0] or row.place

    def _audited(self) -> _Audit:
        if self._audit.revision != self.rows.revision:
            report = Report(max_problems=None)
            numbered = ((place, row) for place, row in enumerate(self.rows, 1) if not self.is_open(row))
            audit_rows(self.name, ((place, row.raw) for place, row in numbered), report, videos=self._videos)
            problems: dict[int, list[Problem]] = {}
            for one in report.problems if len(self.rows) else ():
                problems.setdefault(self.rows.at(one.line - 1).key, []).append(one)
            kinds = {kind: (count, severity) for severity, counts in report.counts() for kind, count in counts.items()}
            kinds.pop("empty", None)  # no rows yet is what annotating begins with
            self._audit = _Audit(self.rows.revision, problems, kinds)
        return self._audit

    # --- editing -------------------------------------------------------------------------------------------------

    def set_values(self, key: int, values: Mapping[str, Any], *, revision: int) -> int:
        """Puts other values under keys of a row (None: removes the key). Errors as of `edit`."""
        with self._changing:
            return self.edit(
                {"replace": key, "row": with_values(self._row(key).raw, values).decode()}, revision=revision
            )

    def set_text(self, key: int, text: str, *, revision: int) -> int:
        """Puts a row's whole text. Errors as of `edit`."""
        return self.edit({"replace": key, "row": mended(text).decode()}, revision=revision)

    def insert(self, key: int, *, revision: int) -> int:
        """A new row of the same video behind a row; returns its key. Errors as of `edit`."""
        with self._changing:
            value = parsed(self._row(key).raw) or {}
            if not (video := text_of(value, "video")):
                raise SampleError("this row names no video of which another row could be; mend its text first")
            same = {name: value.get(name) for name in ("duration", "video_start", "video_end")}
            text = with_values(open_row(video), same).decode()
            step = {"insert": self.rows.next_key, "at": self.rows.place_of(key) + 1, "row": text}
            return self.edit(step, revision=revision)

    def edit(self, step: Mapping[str, Any], *, revision: int) -> int:
        """Takes a step and keeps it in the journal; returns the key of the row it leads to (-1: none is left).

        Raises:
            StaleEdit: the rows are not those of `revision` any more.
            SampleError: a step that cannot be. Nothing is changed.
            OSError: the journal cannot be written. Nothing is changed.
        """
        with self._changing:
            self._check(revision)
            if ("undo" in step and not self.rows.can_undo) or ("redo" in step and not self.rows.can_redo):
                raise SampleError(f"there is nothing to {'undo' if 'undo' in step else 'redo'}")
            if "delete" in step or "replace" in step:
                self._row(step["delete" if "delete" in step else "replace"])
            self._journal.append(step)
            return self.rows.play(step)

    def save(self, *, keeps_bad: bool, revision: int) -> dict[str, int]:
        """Writes the files (`SavedFiles.save`); returns how many rows are in the one, in the other, and in neither."""
        with self._changing:
            self._check(revision)
            rows = [row for row in self.rows if not self.is_open(row)]
            written, apart = self.files.save(rows, self._journal, keeps_bad=keeps_bad)
            self._saved_revision = self.rows.revision
            return {"written": written, "apart": apart, "open": len(self.rows) - len(rows)}

    def close(self) -> None:
        self._journal.close()

    def _row(self, key: int) -> Row:
        if key not in self.rows:
            raise SampleError(f"row {key} is not there any more; load the page again")
        return self.rows[key]

    def _check(self, revision: int) -> None:
        if revision != self.rows.revision:
            raise StaleEdit(
                f"not done: these rows were edited elsewhere (in another tab?) since this page read them (revision "
                f"{revision}, now {self.rows.revision}). The newer rows are shown now; do it again if it still fits"
            )


def _fields(finding: Any) -> tuple[str, str, str, str]:
    return finding.field, finding.message, finding.severity, finding.kind
