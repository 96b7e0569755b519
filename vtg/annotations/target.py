"""What a sample's answer should be: one class for each kind, all frozen and compared by value.

A further task brings its own kind: one more class here, in `Target` and in `TARGETS`, and in
`vtg.annotations.sample_table` a column where its content is not spans.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

Span = tuple[float, float]
"""Start and end in seconds, relative to the clip."""


@dataclass(frozen=True, slots=True)
class Spans:
    """The sentence happens in these spans, one or several.

    Raises:
        ValueError: without any span, which could mean either of the other two kinds.
    """

    kind: ClassVar[str] = "spans"
    spans: tuple[Span, ...]

    def __post_init__(self) -> None:
        if not self.spans:
            raise ValueError("Spans() needs at least one span; use NoMoment() or Unlabelled()")


@dataclass(frozen=True, slots=True)
class NoMoment:
    """Somebody looked, and the sentence does not happen in the clip: a label, with which to train and to score."""

    kind: ClassVar[str] = "no-moment"
    spans: ClassVar[tuple[Span, ...]] = ()


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """Nobody has annotated it: it can be asked, and is neither trained on nor scored."""

    kind: ClassVar[str] = "unlabelled"
    spans: ClassVar[tuple[Span, ...]] = ()


Target = Spans | NoMoment | Unlabelled

# By the name under which a table stores them: a stored name must never change its meaning.
TARGETS: dict[str, type[Spans] | type[NoMoment] | type[Unlabelled]] = {
    target.kind: target for target in (Spans, NoMoment, Unlabelled)
}


def moment_counts(targets: Iterable[Target]) -> dict[str, int]:
    """How many targets have no moment (`none`), `one`, and `several`."""
    counts = Counter(min(len(target.spans), 2) for target in targets)
    return {name: counts[number] for number, name in enumerate(("none", "one", "several"))}


def stored_target(kind: str, spans: tuple[Span, ...]) -> Target:
    """The target of a table's row: its kind, and its spans where it has any.

    Raises:
        KeyError: a kind that this version does not know.
    """
    target = TARGETS[kind]
    return target(spans) if target is Spans else target()  # type: ignore[call-arg]
