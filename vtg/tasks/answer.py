"""The forms an answer can take, one codec each, and what became of a parsed answer.

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
from typing import ClassVar, Protocol, Self

from vtg.annotations.target import Span
from vtg.config.task_settings import TaskConfig
from vtg.errors import ConfigError, SampleError
from vtg.tasks.answer_numbers import FRACTIONS, INTEGERS, NUMBERS_IN_SECONDS, TOKENS, answer_part, read_pairs

SEPARATOR = ", "
"""Stands between the moments of one answer."""

MAX_MOMENTS = 256
"""An answer with more moments than this is number spam: `malformed` when parsed, an error when encoded."""

TOLERANCE_S = 0.5
"""An answer may leave the clip by this much (or by one grid step, if that is longer) and is clipped to it."""


class Status(StrEnum):
    """What became of an answer. Only `ok` counts as an answer; the share of all others is `parse_failures`."""

    OK = "ok"
    MALFORMED = "malformed"
    OUT_OF_RANGE = "out_of_range"
    REVERSED = "reversed"


@dataclass(frozen=True, slots=True)
class Answer:
    """A parsed answer.

    - `ok`: one or more spans in the order written, each 0 <= start < end <= duration (clipped, within the tolerance);
    - `reversed`: some span ends no later than it starts; `spans` are as written, and such a span scores IoU 0;
    - `out_of_range`: some span leaves the clip by more than the tolerance; `spans` are as written, not clipped;
    - `malformed`: no pair of times was found, or too many; `spans` is empty, and it is empty for no other status.
    """

    spans: tuple[Span, ...]
    status: Status
    text: str


class Codec(Protocol):
    """One form of answer. `encode` and `parse` speak seconds, clip-relative."""

    @classmethod
    def from_config(cls, config: TaskConfig) -> Self: ...

    def resolution_s(self, duration_s: float) -> float:
        """One grid step in seconds. Ends come back within half of it; within all of it for spans shorter than it."""
        ...

    def encode(self, spans: Sequence[Span], duration_s: float) -> str:
        """The text of one or several moments, sorted. Raises SampleError for a span that has no part in the clip."""
        ...

    def parse(self, text: str, duration_s: float) -> Answer:
        """What `text` says. Never raises on a text."""
        ...

    def tokens(self) -> list[str]:
        """The entries this form adds to the vocabulary."""
        ...


@dataclass(frozen=True, slots=True)
class SecondsCodec:
    """Seconds with a fixed number of decimals: `3.2 to 7.5 seconds, 10.0 to 12.4 seconds`."""

    decimals: int = 1

    def __post_init__(self) -> None:
        _check_int("task.decimals", self.decimals, low=0, high=6)

    @classmethod
    def from_config(cls, config: TaskConfig) -> Self:
        return cls(decimals=config.decimals)

    def resolution_s(self, duration_s: float) -> float:
        return 10.0**-self.decimals

    def encode(self, spans: Sequence[Span], duration_s: float) -> str:
        per_second = 10**self.decimals
        steps = _to_grid(spans, duration_s, steps_per_s=per_second, last=math.ceil(duration_s * per_second))
        written = [(f"{a / per_second:.{self.decimals}f}", f"{b / per_second:.{self.decimals}f}") for a, b in steps]
        return SEPARATOR.join(f"{start} to {end} seconds" for start, end in written)

    def parse(self, text: str, duration_s: float) -> Answer:
        pairs = _read(text, NUMBERS_IN_SECONDS)
        return _answer(text, pairs, duration_s=duration_s, slack_s=max(TOLERANCE_S, self.resolution_s(duration_s)))

    def tokens(self) -> list[str]:
        return []


@dataclass(frozen=True, slots=True)
class RelativeCodec:
    """Fractions of the clip: `0.123 to 0.456`. `decimals` are those of a percentage: 1 writes thousandths."""

    decimals: int = 1

    def __post_init__(self) -> None:
        _check_int("task.decimals", self.decimals, low=0, high=6)

    @classmethod
    def from_config(cls, config: TaskConfig) -> Self:
        return cls(decimals=config.decimals)

    def resolution_s(self, duration_s: float) -> float:
        return duration_s / 10 ** (self.decimals + 2)

    def encode(self, spans: Sequence[Span], duration_s: float) -> str:
        digits = self.decimals + 2
        steps = _to_grid(spans, duration_s, steps_per_s=10**digits / duration_s, last=10**digits)
        return SEPARATOR.join(f"{a / 10**digits:.{digits}f} to {b / 10**digits:.{digits}f}" for a, b in steps)

    def parse(self, text: str, duration_s: float) -> Answer:
        pairs = [(start * duration_s, end * duration_s) for start, end in _read(text, FRACTIONS)]
        return _answer(text, pairs, duration_s=duration_s, slack_s=max(TOLERANCE_S, self.resolution_s(duration_s)))

    def tokens(self) -> list[str]:
        return []


@dataclass(frozen=True, slots=True)
class BinsCodec:
    """`num_bins` equal parts of the clip, the first and the last one of the moment: `12 to 45`, from 0.

    The last bin belongs to the moment: `5 to 5` is one bin long, and the whole clip is `0 to num_bins - 1`.
    """

    num_bins: int = 100
    pattern: ClassVar[Pattern[str]] = INTEGERS
    form: ClassVar[str] = "{} to {}"

    def __post_init__(self) -> None:
        _check_int("task.num_bins", self.num_bins, low=2, high=100_000)

    @classmethod
    def from_config(cls, config: TaskConfig) -> Self:
        return cls(num_bins=config.num_bins)

    def resolution_s(self, duration_s: float) -> float:
        return duration_s / self.num_bins

    def encode(self, spans: Sequence[Span], duration_s: float) -> str:
        steps = _to_grid(spans, duration_s, steps_per_s=self.num_bins / duration_s, last=self.num_bins)
        return SEPARATOR.join(self.form.format(first, end - 1) for first, end in steps)

    def parse(self, text: str, duration_s: float) -> Answer:
        pairs = _read(text, self.pattern)
        exist = all(0 <= bin_ < self.num_bins for pair in pairs for bin_ in pair)
        width_s = duration_s / self.num_bins
        in_seconds = [(first * width_s, (last + 1) * width_s) for first, last in pairs]
        return _answer(text, in_seconds, duration_s=duration_s, slack_s=TOLERANCE_S if exist else 0.0)

    def tokens(self) -> list[str]:
        return []


@dataclass(frozen=True, slots=True)
class TokensCodec(BinsCodec):
    """Bins written as temporal tokens `<0>` ... `<num_bins - 1>`, two new vocabulary entries a moment: `<123><456>`."""

    num_bins: int = 1000
    pattern: ClassVar[Pattern[str]] = TOKENS
    form: ClassVar[str] = "<{}><{}>"

    def tokens(self) -> list[str]:
        return [f"<{bin_}>" for bin_ in range(self.num_bins)]


CODECS: dict[str, type[Codec]] = {
    "seconds": SecondsCodec,
    "relative": RelativeCodec,
    "bins": BinsCodec,
    "tokens": TokensCodec,
}


def _check_int(key: str, value: int, *, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ConfigError(f"{key} = {value!r}: must be an integer from {low} to {high}")


def _to_grid(spans: Sequence[Span], duration_s: float, *, steps_per_s: float, last: int) -> list[tuple[int, int]]:
    """Spans as sorted pairs of grid steps, 0 <= start < end <= last."""
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
        if end <= start:
            start = min(math.floor((start_s + end_s) / 2 * steps_per_s), last - 1)
            end = start + 1
        steps.append((start, end))
    return sorted(steps)


def _read(text: str, numbers: Pattern[str]) -> list[Span]:
    """Pairs of finite numbers in the answer part of a completion; none where there are too many."""
    pairs = read_pairs(answer_part(text), numbers)
    return pairs if len(pairs) <= MAX_MOMENTS else []


def _answer(text: str, spans: Sequence[Span], *, duration_s: float, slack_s: float) -> Answer:
    """Judge spans read from `text`, in seconds; leaving the clip by up to `slack_s` is mended."""
    _check_duration(duration_s)
    as_written = tuple(spans)
    if not as_written or not all(math.isfinite(bound) for span in as_written for bound in span):
        return Answer((), Status.MALFORMED, text)
    if any(end <= start for start, end in as_written):
        return Answer(as_written, Status.REVERSED, text)
    clipped = tuple((max(start, 0.0), min(end, duration_s)) for start, end in as_written)
    leaves = any(start < -slack_s or end > duration_s + slack_s for start, end in as_written)
    if leaves or any(end <= start for start, end in clipped):
        return Answer(as_written, Status.OUT_OF_RANGE, text)
    return Answer(clipped, Status.OK, text)


def _check_duration(duration_s: float) -> None:
    if not (math.isfinite(duration_s) and duration_s > 0):
        raise SampleError(f"duration {duration_s!r} s: must be a positive number of seconds")
