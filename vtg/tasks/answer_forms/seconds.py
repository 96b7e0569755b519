"""Answers in seconds of the clip."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from vtg.annotations.target import Span
from vtg.config.task_settings import TaskConfig
from vtg.tasks.answer import SEPARATOR, TOLERANCE_S, Answer, check_int, judge, to_grid, written_pairs
from vtg.tasks.answer_grammar import AnswerGrammar
from vtg.tasks.answer_numbers import NUMBERS_IN_SECONDS


@dataclass(frozen=True, slots=True)
class SecondsCodec:
    """Seconds with a fixed number of decimals: `3.2 to 7.5 seconds, 10.0 to 12.4 seconds`."""

    decimals: int = 1
    templates: ClassVar[tuple[str, ...]] = (
        'When does "{query}" happen in the video? Answer with its start and end in the form: START to END seconds.',
        'Find the moment of the video that shows "{query}". Reply only with its times: START to END seconds.',
        'The video is {duration} seconds long. Give the start and end time of "{query}" as: START to END seconds.',
        'Locate the event "{query}" in the video. State when it starts and ends, in seconds: START to END seconds.',
        'Between which times can "{query}" be seen? Answer in the form: START to END seconds.',
        'Query: "{query}". Return the matching part of the video as: START to END seconds.',
    )

    def __post_init__(self) -> None:
        check_int("task.decimals", self.decimals, low=0, high=6)

    @classmethod
    def from_config(cls, config: TaskConfig) -> Self:
        return cls(decimals=config.decimals)

    def resolution_s(self, duration_s: float) -> float:
        return 10.0**-self.decimals

    def encode(self, spans: Sequence[Span], duration_s: float) -> str:
        per_second = 10**self.decimals
        steps = to_grid(spans, duration_s, steps_per_s=per_second, last=math.ceil(duration_s * per_second))
        written = [(f"{a / per_second:.{self.decimals}f}", f"{b / per_second:.{self.decimals}f}") for a, b in steps]
        return SEPARATOR.join(f"{start} to {end} seconds" for start, end in written)

    def parse(self, text: str, duration_s: float) -> Answer:
        pairs = written_pairs(text, NUMBERS_IN_SECONDS)
        return judge(text, pairs, duration_s=duration_s, slack_s=max(TOLERANCE_S, self.resolution_s(duration_s)))

    def grammar(self, duration_s: float) -> AnswerGrammar:
        last = math.ceil(duration_s * 10**self.decimals)
        return AnswerGrammar((None, " to ", None, " seconds"), last, decimals=self.decimals, least=1)

    def tokens(self) -> list[str]:
        return []
