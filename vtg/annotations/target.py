"""What a sample's answer should be: one class for each kind, all frozen and compared by value.

The kinds that are spans are here. A further task brings kinds of its own (`vtg.annotations.row_target` says what they
offer), each a line of `ROW_TARGETS`. Which kind a row has, and so which task, is told by its keys (`row_kind`).
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from vtg.annotations.point_targets import Count, Points, Tracks
from vtg.annotations.row_target import RowTarget
from vtg.annotations.text_targets import Caption, Question, TimedCaptions

Span = tuple[float, float]
"""Start and end in seconds, relative to the clip."""


@dataclass(frozen=True, slots=True)
class Spans:
    """The sentence happens in these spans, one or several.

    Raises:
        ValueError: without any span, which could mean either of the other two kinds.
    """

    kind: ClassVar[str] = "spans"
    task: ClassVar[str] = "span"
    spans: tuple[Span, ...]

    def __post_init__(self) -> None:
        if not self.spans:
            raise ValueError("Spans() needs at least one span; use NoMoment() or Unlabelled()")


@dataclass(frozen=True, slots=True)
class NoMoment:
    """Somebody looked, and the sentence does not happen in the clip: a label, with which to train and to score."""

    kind: ClassVar[str] = "no-moment"
    task: ClassVar[str] = "span"
    spans: ClassVar[tuple[Span, ...]] = ()


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """Nobody has annotated it: it can be asked, and is neither trained on nor scored."""

    kind: ClassVar[str] = "unlabelled"
    task: ClassVar[str] = "span"
    spans: ClassVar[tuple[Span, ...]] = ()


SpanTarget = Spans | NoMoment | Unlabelled
Target = SpanTarget | RowTarget

# By the name under which a table stores them: a stored name must never change its meaning.
TARGETS: dict[str, type[Spans] | type[NoMoment] | type[Unlabelled]] = {
    target.kind: target for target in (Spans, NoMoment, Unlabelled)
}

ROW_TARGETS: dict[str, type[RowTarget]] = {
    target.kind: target for target in (Question, TimedCaptions, Caption, Count, Tracks, Points)
}
"""The kinds that are not spans, by their stored names, in the order in which a row is asked whether it is one."""


def row_kind(row: Mapping[str, Any]) -> type[RowTarget] | None:
    """The kind of target that a row has; None for spans.

    `task` tells it where it is the name of a task. Otherwise the keys do: a row with `timestamp` is one of spans, and
    another is of the first of `ROW_TARGETS` whose first key it has.
    """
    kinds = ROW_TARGETS.values()
    named = row.get("task")
    if named == Spans.task:
        return None
    if isinstance(named, str) and (own := [kind for kind in kinds if kind.task == named]):
        return next((kind for kind in own if row.get(kind.keys[0]) is not None), own[0])
    if row.get("timestamp") is not None:
        return None
    return next((kind for kind in kinds if row.get(kind.keys[0]) is not None), None)


def moment_counts(targets: Iterable[Target]) -> dict[str, int]:
    """How many targets of spans have no moment (`none`), `one`, and `several`."""
    counts = Counter(min(len(target.spans), 2) for target in targets if target.task == Spans.task)
    return {name: counts[number] for number, name in enumerate(("none", "one", "several"))}


def stored_content(target: Target) -> str | None:
    """What a table stores of a target beside its kind and spans, as JSON; None of spans."""
    return json.dumps(target.row()) if target.kind in ROW_TARGETS else None  # type: ignore[union-attr]


def stored_target(kind: str, spans: tuple[Span, ...], content: str | None, *, duration_s: float) -> Target:
    """The target of a table's row: its kind, and its spans or its content where it has any.

    Raises:
        KeyError: a kind that this version does not know.
    """
    if content is not None:
        return ROW_TARGETS[kind].of_row(json.loads(content), duration_s=duration_s)
    target = TARGETS[kind]
    return target(spans) if target is Spans else target()  # type: ignore[call-arg]
