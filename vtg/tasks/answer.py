"""What a codec of `vtg.tasks.answer_forms` is, the result of parsing an answer, and what all codecs share.

A codec turns spans in seconds into the text a model is trained to write, and any text a model wrote back into spans:
targets, rewards, metrics and inference all go through the same codec. Every codec lays a grid over the clip and rounds
both ends of a span to it; a span too short for the grid becomes the one grid step around its middle, so that an encoded
span is never empty.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from re import Pattern
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from vtg.annotations.target import Span
from vtg.config.task_settings import TaskConfig
from vtg.errors import ConfigError, SampleError
from vtg.tasks.answer_numbers import answer_part, read_pairs

if TYPE_CHECKING:
    from vtg.tasks.answer_grammar import AnswerGrammar

# Between the moments of one answer.
SEPARATOR = ", "

# A model that repeats itself writes hundreds of pairs, and some pair of many always hits: more are `malformed`.
MAX_MOMENTS = 256

# Rounded times of a moment that runs to the end of the clip may exceed it: up to this, or one grid step, is clipped.
TOLERANCE_S = 0.5


NO_MOMENT = "no such moment"
"""What the model writes where a query has no moment in the clip (`task.moments=set`), in every form of answer."""


class Status(StrEnum):
    """What became of an answer. `ok` and `none` are answers; the share of all others is `parse_failures`."""

    OK = "ok"
    NONE = "none"
    MALFORMED = "malformed"
    OUT_OF_RANGE = "out_of_range"
    REVERSED = "reversed"


@dataclass(frozen=True, slots=True)
class Answer:
    """A parsed answer.

    - `ok`: one or more spans in the order written, each 0 <= start < end <= duration (clipped, within the tolerance);
    - `none`: it says `NO_MOMENT`, where the task lets it (`task.moments=set`); `spans` is empty;
    - `reversed`: some span ends no later than it starts; `spans` are as written, and such a span scores IoU 0;
    - `out_of_range`: some span leaves the clip by more than the tolerance; `spans` are as written, not clipped;
    - `malformed`: no pair of times was found, or too many, or times beside `NO_MOMENT`; `spans` is empty.
    """

    spans: tuple[Span, ...]
    status: Status
    text: str

    @property
    def value(self) -> list[list[float]]:
        """The spans as `prediction` of predictions.jsonl has them."""
        return [list(span) for span in self.spans]


def is_answer(status: str) -> bool:
    """Whether a status is that of an answer that could be read: spans, or that there is no moment."""
    return status in (Status.OK, Status.NONE)


class Codec(Protocol):
    """One form of answer, and the prompts that ask for it. Spans are in seconds, relative to the clip.

    `templates`: the pool of prompts, see `vtg.tasks.prompts`; `task.selection=fixed` takes the first.
    """

    templates: ClassVar[tuple[str, ...]]

    @classmethod
    def from_config(cls, config: TaskConfig) -> Self: ...

    def resolution_s(self, duration_s: float) -> float:
        """One grid step in seconds. Ends come back within half of it; within all of it for spans shorter than it."""
        ...

    def encode(self, spans: Sequence[Span], duration_s: float) -> str:
        """The text of one or several moments, sorted. Raises SampleError for a span that has no part in the clip."""
        ...

    def parse(self, text: str, duration_s: float) -> Answer:
        """The spans that `text` names, and its status. Never raises on a text."""
        ...

    def grammar(self, duration_s: float) -> "AnswerGrammar":
        """What may be written of an answer about a clip so long: what `parse` reads as `ok`, as `encode` writes it."""
        ...

    def tokens(self) -> list[str]:
        """The entries this form adds to the vocabulary."""
        ...


def check_int(key: str, value: int, *, low: int, high: int) -> None:
    """Raises ConfigError, naming `key`, for what is no integer from `low` to `high`."""
    # type(), not isinstance(): True is an instance of int.
    if type(value) is not int or not low <= value <= high:
        raise ConfigError(f"{key} = {value!r}: must be an integer from {low} to {high}")


def to_grid(spans: Sequence[Span], duration_s: float, *, steps_per_s: float, last: int) -> list[tuple[int, int]]:
    """Spans as sorted pairs of grid steps, 0 <= start < end <= last. Raises SampleError for what cannot be encoded."""
    _check_duration(duration_s)
    if not 1 <= len(spans) <= MAX_MOMENTS:
        raise SampleError(f"{len(spans)} moments to encode: an answer holds 1 to {MAX_MOMENTS}; split or drop this row")
    steps: list[tuple[int, int]] = []
    for span in spans:
        start_s, end_s = max(span[0], 0.0), min(span[1], duration_s)
        if not start_s < end_s:
            raise SampleError(
                f"span {list(span)} has no part inside the clip of 0 to {duration_s} s: the start must come before "
                "the end and before the clip's end; run `python -m vtg.validate` on the annotations"
            )
        start, end = round(start_s * steps_per_s), min(round(end_s * steps_per_s), last)
        if end <= start:  # shorter than a step: an empty span could not be parsed again
            start = min(math.floor((start_s + end_s) / 2 * steps_per_s), last - 1)
            end = start + 1
        steps.append((start, end))
    return sorted(steps)


def written_pairs(text: str, numbers: Pattern[str]) -> list[Span]:
    """Pairs of numbers in the answer part of a completion; none where there are more than `MAX_MOMENTS`."""
    pairs = read_pairs(answer_part(text), numbers)
    return pairs if len(pairs) <= MAX_MOMENTS else []


def judge(text: str, spans: Sequence[Span], *, duration_s: float, slack_s: float) -> Answer:
    """The answer with its status, for `spans` in seconds; leaving the clip by up to `slack_s` is clipped."""
    _check_duration(duration_s)
    as_written = tuple(spans)
    if not as_written or not all(math.isfinite(bound) for span in as_written for bound in span):
        return Answer((), Status.MALFORMED, text)
    if any(end <= start for start, end in as_written):
        return Answer(as_written, Status.REVERSED, text)
    clipped = tuple((max(start, 0.0), min(end, duration_s)) for start, end in as_written)
    # Further out the model is wrong about the length of the clip; clipping would hide that from parse_failures.
    leaves = any(start < -slack_s or end > duration_s + slack_s for start, end in as_written)
    if leaves or any(end <= start for start, end in clipped):
        return Answer(as_written, Status.OUT_OF_RANGE, text)
    return Answer(clipped, Status.OK, text)


def says_no_moment(text: str) -> bool:
    """Whether the answer part of a completion holds `NO_MOMENT`, in any case and spacing."""
    # Split, not matched: white space of any length stays linear in the text.
    return NO_MOMENT in " ".join(answer_part(text).lower().split())


def _check_duration(duration_s: float) -> None:
    if not (math.isfinite(duration_s) and duration_s > 0):
        raise SampleError(f"duration {duration_s!r} s: must be a positive number of seconds")
