"""What models, or `vtg.annotate`, say of the rows: predictions by the row or the question they answer.

A file of predictions (a run's predictions.jsonl) or of rows (what `vtg.annotate` wrote). Rows that hold a `pred` have
one more.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtg.app.rows.row_text import Span, spans_in, text_of
from vtg.errors import ConfigError
from vtg.evaluation.prediction_rows import moments, predicted, read_rows


@dataclass(frozen=True, slots=True)
class Proposal:
    """Moments somebody proposes, with the query they are of; `place`: where it stands."""

    spans: tuple[Span, ...]
    sentence: str
    place: str


class RowProposals:
    """Proposals by row.

    Raises:
        ConfigError: the file cannot be read, or holds something else; names the place.
    """

    def __init__(self, path: str | None = None) -> None:
        self.path = path
        self._by_qid: dict[str, list[Proposal]] = defaultdict(list)
        self._by_question: dict[tuple[str, str], list[Proposal]] = defaultdict(list)
        self._by_video: dict[str, list[Proposal]] = defaultdict(list)
        if path is None:
            return
        try:
            for place, row in read_rows(path):
                self._add(place, row)
        except (OSError, ValueError) as error:
            raise ConfigError(f"--predictions: {error}") from None

    def _add(self, place: str, row: Mapping[str, Any]) -> None:
        # Rows of vtg.annotate are annotations: their moments are what it proposes.
        is_prediction = "prediction" in row or "timestamp" not in row
        spans = predicted(place, dict(row), None)[0] if is_prediction else moments(place, row["timestamp"])
        good = tuple((start, end) for start, end in spans if 0 <= start < end < math.inf)
        proposal = Proposal(good, text_of(row, "sentence"), place)
        if (qid := _qid(row)) is not None:
            self._by_qid[qid].append(proposal)
        if video := text_of(row, "video"):
            self._by_video[Path(video).stem].append(proposal)
            self._by_question[_question(row)].append(proposal)

    def of(self, row: Mapping[str, Any]) -> list[Proposal]:
        """Proposals for a row, the likeliest first: by its qid, its question, or, where it asks nothing, its video."""
        found = self._by_qid.get(_qid(row) or "", [])
        if not found and text_of(row, "video"):
            asks = text_of(row, "sentence").strip()
            found = (
                self._by_question.get(_question(row), [])
                if asks
                else self._by_video.get(Path(text_of(row, "video")).stem, [])
            )
        pred = tuple((start, end) for start, end in spans_in(row, "pred") if 0 <= start < end)
        return [*found, Proposal(pred, text_of(row, "sentence"), "pred")] if pred else found


def _qid(row: Mapping[str, Any]) -> str | None:
    qid = row.get("qid")
    return str(qid) if isinstance(qid, str | int) and not isinstance(qid, bool) and qid != "" else None


def _question(row: Mapping[str, Any]) -> tuple[str, str]:
    """Video without its folder and ending, and the words of the query: folders differ between machines."""
    return Path(text_of(row, "video")).stem, " ".join(text_of(row, "sentence").split())
