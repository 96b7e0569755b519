"""What a preset is: the rules of one published evaluator, in words and in code."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vtg.evaluation.presets.case import Case, Scores

RULES = ("threshold", "order", "rounding", "parser", "denominator", "missing", "duplicates", "invalid")


@dataclass(frozen=True, kw_only=True)
class PublishedPreset:
    """The rules of one evaluator.

    Attributes:
        source: where the script is whose numbers it gives.
        threshold: which IoU is a hit.
        order: which windows count, and in which order.
        rounding: of what is printed.
        parser: what reads an answer that is text alone.
        denominator: what a mean is over.
        missing: what becomes of questions that nothing was predicted for.
        duplicates: what becomes of several rows for one question.
        invalid: what becomes of windows that are reversed, empty, not finite, or without a score.
        score: the scores of cases. Raises ValueError, naming a place, for what the rules refuse.
        in_seconds: whether windows are seconds of the clip.
        parse: the windows in a text; None where the script reads no text.
    """

    name: str
    source: str
    threshold: str
    order: str
    rounding: str
    parser: str
    denominator: str
    missing: str
    duplicates: str
    invalid: str
    score: Callable[[Sequence[Case]], Scores]
    in_seconds: bool = True
    parse: Callable[[str], list[tuple[float, float]]] | None = None

    @property
    def inclusive(self) -> bool:
        """Whether an IoU at the threshold is a hit."""
        return self.threshold.startswith(">=")

    @property
    def convention(self) -> str:
        """One line for reports."""
        return f"R1@t counts IoU {self.threshold} t; {self.order}; {self.rounding}"

    def describe(self) -> str:
        """Every rule on a line of its own."""
        lines = [f"{rule + ':':13}{getattr(self, rule)}" for rule in RULES]
        return "\n".join([f"preset {self.name}", *lines, f"{'source:':13}{self.source}"])
