"""What a reward looks at: one completion, as the task's codec parsed it, beside the annotated moments."""

from collections.abc import Sequence
from dataclasses import dataclass

from vtg.annotations.target import Span
from vtg.tasks.answer import Answer, Status


@dataclass(frozen=True, slots=True)
class Completion:
    """One rollout's completion.

    Attributes:
        text: as the model wrote it.
        answer: what the codec of the task parsed; its spans are in seconds of the clip.
        truth: the annotated spans in seconds of the clip; none where the query has no moment.
        duration_s: length of the clip.
    """

    text: str
    answer: Answer
    truth: tuple[Span, ...]
    duration_s: float

    def __post_init__(self) -> None:
        assert self.duration_s > 0, self

    @property
    def predicted(self) -> tuple[Span, ...]:
        """The parsed spans; none where the status is not `ok`, so that such an answer overlaps nothing."""
        return self.answer.spans if self.answer.status == Status.OK else ()

    @property
    def is_right_none(self) -> bool:
        """Whether it says that there is no moment, and there is none."""
        return not self.truth and self.answer.status == Status.NONE


def length_s(span: Span) -> float:
    """Seconds of one span."""
    return span[1] - span[0]


def hull(spans: Sequence[Span]) -> Span:
    """From the first start to the last end."""
    return min(start for start, _ in spans), max(end for _, end in spans)
