"""What a preset scores: questions with their true moments, and what was predicted for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Window = tuple[float, float]
"""Start and end in seconds; NaN where the file says so."""


@dataclass(slots=True, kw_only=True)
class Given:
    """One row of a file of predictions, as far as it is about one question.

    Attributes:
        place: path:line.
        position: among the rows of its file.
        windows: as written, in the order written; None where the row has text alone.
        scores: of the windows, higher is better; None where the file has none.
        text: the raw answer.
        saliency: scores of the clip's two-second pieces.
        duration_s: as the row tells it.
        truth: true windows that stand in the row itself.
        annotators: what each of several people answered.
    """

    place: str
    position: int = 0
    qid: str | None = None
    video: str | None = None
    query: str | None = None
    windows: list[Window] | None = None
    scores: list[float] | None = None
    text: str | None = None
    saliency: Sequence[float] | None = None
    duration_s: float | None = None
    truth: list[Window] | None = None
    annotators: list[Window] | None = None


@dataclass(slots=True, kw_only=True)
class Case:
    """One question: its true windows, and the rows that answer it, in the order of the file (none: it was missed)."""

    place: str
    truth: list[Window]
    qid: str | None = None
    video: str | None = None
    query: str | None = None
    duration_s: float | None = None
    annotators: list[Window] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    given: list[Given] = field(default_factory=list)

    @property
    def name(self) -> str:
        """How a message calls it."""
        return self.qid or f"{self.video}: {(self.query or '')[:60]}"


Findings = dict[str, list[str]]
"""Kind → the questions or places it was found at."""


@dataclass(slots=True)
class Scores:
    """What an evaluator prints.

    Attributes:
        printed: its own names and its own rounding; a group of numbers is a dict. None: it has no such number.
        ious: of each case, 0 to 1, of the window that R1 takes, `(cases,)`, for statistics; NaN where the rules leave
            the case out.
        common: the same measurements by this project's names, so that presets can be laid side by side.
        findings: what the rules did with rows that the official script crashes on or passes over in silence.
        decimals: of `printed` in a table: a share of 1 needs four to say what a percentage says with two.
    """

    printed: dict[str, Any]
    ious: list[float]
    common: dict[str, float]
    findings: Findings = field(default_factory=dict)
    decimals: int = 2
