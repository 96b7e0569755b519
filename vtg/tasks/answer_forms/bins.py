"""Answers in numbers of the clip's equal parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from re import Pattern
from typing import ClassVar, Self

from vtg.annotations.target import Span
from vtg.config.task_settings import TaskConfig
from vtg.tasks.answer import SEPARATOR, TOLERANCE_S, Answer, check_int, judge, to_grid, written_pairs
from vtg.tasks.answer_grammar import AnswerGrammar
from vtg.tasks.answer_numbers import INTEGERS


@dataclass(frozen=True, slots=True)
class BinsCodec:
    """`num_bins` equal parts of the clip, the first and the last one of the moment: `12 to 45`, from 0.

    The last bin belongs to the moment: `5 to 5` is one bin long, and the whole clip is `0 to num_bins - 1`.
    """

    num_bins: int = 100
    pattern: ClassVar[Pattern[str]] = INTEGERS
    form: ClassVar[str] = "{} to {}"
    most_bins: ClassVar[int] = 100_000
    templates: ClassVar[tuple[str, ...]] = (
        "The video is divided into {num_bins} equal parts, numbered 0 to {last_bin}. "
        'In which parts does "{query}" happen? Answer with the first and the last one in the form: FIRST to LAST.',
        'Find the moment of the video that shows "{query}". With the video cut into {num_bins} equal parts counted '
        "from 0, reply only with: FIRST to LAST.",
        'Number {num_bins} equal parts of the video from 0 to {last_bin}. Give those of "{query}" as: FIRST to LAST.',
        'Locate the event "{query}" in the video. Answer with its first and last part out of 0 to {last_bin}, '
        "all parts being equally long: FIRST to LAST.",
        'Query: "{query}". Return the matching parts of the video, 0 to {last_bin}, as: FIRST to LAST.',
    )

    def __post_init__(self) -> None:
        check_int("task.num_bins", self.num_bins, low=2, high=self.most_bins)

    @classmethod
    def from_config(cls, config: TaskConfig) -> Self:
        return cls(num_bins=config.num_bins)

    def resolution_s(self, duration_s: float) -> float:
        return duration_s / self.num_bins

    def encode(self, spans: Sequence[Span], duration_s: float) -> str:
        steps = to_grid(spans, duration_s, steps_per_s=self.num_bins / duration_s, last=self.num_bins)
        return SEPARATOR.join(self.form.format(first, end - 1) for first, end in steps)

    def parse(self, text: str, duration_s: float) -> Answer:
        pairs = written_pairs(text, self.pattern)
        exist = all(0 <= bin_ < self.num_bins for pair in pairs for bin_ in pair)
        width_s = duration_s / self.num_bins
        in_seconds = [(first * width_s, (last + 1) * width_s) for first, last in pairs]
        return judge(text, in_seconds, duration_s=duration_s, slack_s=TOLERANCE_S if exist else 0.0)

    def grammar(self, duration_s: float) -> AnswerGrammar:
        return AnswerGrammar((None, " to ", None), self.num_bins - 1)

    def tokens(self) -> list[str]:
        return []
