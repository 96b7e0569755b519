"""Which rows are looked at: by what is wrong with them, by IoU with a prediction, by source, by text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vtg.annotations.sample import Problem
from vtg.app.rows.row_proposals import Proposal
from vtg.app.rows.row_text import spans_in, text_of
from vtg.tasks.iou import set_iou


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFilter:
    """All of these hold; what is None or empty asks nothing.

    Attributes:
        text: in the query, the video's name or the qid, in any case of letters.
        finding: a kind of `vtg.validate`'s findings; or `any`, `none`, `edited`, or `open`: not annotated yet.
        source: of `row_text.source_of`.
        min_iou, max_iou: of the row's moments with its first proposal's; rows without a proposal are left out.
    """

    text: str = ""
    finding: str = ""
    source: str = ""
    min_iou: float | None = None
    max_iou: float | None = None

    @property
    def asks(self) -> bool:
        """Whether any row could be left out."""
        return self != RowFilter()

    @property
    def asks_iou(self) -> bool:
        return self.min_iou is not None or self.max_iou is not None

    def fits_text(self, raw: bytes, row: Mapping[str, Any] | None) -> bool:
        """Whether a row holds the text; one that cannot be read is searched as it stands."""
        needle = self.text.strip().lower()
        if not needle:
            return True
        if row is None:
            return needle in raw.decode(errors="backslashreplace").lower()
        return any(needle in str(row.get(key, "")).lower() for key in ("sentence", "video", "qid"))

    def fits_findings(self, problems: Sequence[Problem], *, edited: bool, is_open: bool) -> bool:
        match self.finding:
            case "":
                return True
            case "any":
                return bool(problems)
            case "none":
                return not problems and not is_open
            case "open":
                return is_open
            case "edited":
                return edited
        return any(problem.kind == self.finding for problem in problems)

    def fits_iou(self, iou: float | None) -> bool:
        if not self.asks_iou:
            return True
        return iou is not None and (self.min_iou or 0.0) <= iou <= (1.0 if self.max_iou is None else self.max_iou)


def iou_of(row: Mapping[str, Any], proposals: Sequence[Proposal]) -> float | None:
    """IoU of a row's moments with those of its first proposal; None without one, or without an annotation to compare.

    Two that both say there is no moment agree.
    """
    if not proposals or row.get("timestamp") is None or not text_of(row, "sentence"):
        return None
    truth, first = spans_in(row), proposals[0].spans
    return 1.0 if not truth and not first else set_iou(truth, first)
