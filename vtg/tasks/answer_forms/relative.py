"""Answers in fractions of the clip."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from vtg.annotations.target import Span
from vtg.config.task_settings import TaskConfig
from vtg.tasks.answer import SEPARATOR, TOLERANCE_S, Answer, check_int, judge, to_grid, written_pairs
from vtg.tasks.answer_grammar import AnswerGrammar
from vtg.tasks.answer_numbers import FRACTIONS


@dataclass(frozen=True, slots=True)
class RelativeCodec:
    """Fractions of the clip: `0.123 to 0.456`. `decimals` are those of a percentage: 1 writes thousandths."""

    decimals: int = 1
    templates: ClassVar[tuple[str, ...]] = (
        'When does "{query}" happen in the video? Answer with start and end as fractions of its length, '
        "0 being the beginning and 1 the end of the video, in the form: START to END.",
        'Find the moment of the video that shows "{query}". Taking its length as 1, reply only with: START to END.',
        'Let time run from 0 (first frame) to 1 (last frame). Give the start and end of "{query}" as: START to END.',
        'Locate the event "{query}" in the video. Answer with two fractions between 0 and 1: START to END.',
        'Query: "{query}". Return the matching part of the video in fractions of its length: START to END.',
    )

    def __post_init__(self) -> None:
        check_int("task.decimals", self.decimals, low=0, high=6)

    @classmethod
    def from_config(cls, config: TaskConfig) -> Self:
        return cls(decimals=config.decimals)

    def resolution_s(self, duration_s: float) -> float:
        return duration_s / 10 ** (self.decimals + 2)

    def encode(self, spans: Sequence[Span], duration_s: float) -> str:
        digits = self.decimals + 2
        steps = to_grid(spans, duration_s, steps_per_s=10**digits / duration_s, last=10**digits)
        return SEPARATOR.join(f"{a / 10**digits:.{digits}f} to {b / 10**digits:.{digits}f}" for a, b in steps)

    def parse(self, text: str, duration_s: float) -> Answer:
        pairs = [(start * duration_s, end * duration_s) for start, end in written_pairs(text, FRACTIONS)]
        return judge(text, pairs, duration_s=duration_s, slack_s=max(TOLERANCE_S, self.resolution_s(duration_s)))

    def grammar(self, duration_s: float) -> AnswerGrammar:
        digits = self.decimals + 2
        return AnswerGrammar((None, " to ", None), 10**digits, decimals=digits, least=1)

    def tokens(self) -> list[str]:
        return []
