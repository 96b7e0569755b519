"""Answers in temporal tokens, entries of their own in the vocabulary."""

from dataclasses import dataclass
from re import Pattern
from typing import ClassVar

from vtg.tasks.answer_forms.bins import BinsCodec
from vtg.tasks.answer_grammar import AnswerGrammar
from vtg.tasks.answer_numbers import TOKENS


@dataclass(frozen=True, slots=True)
class TokensCodec(BinsCodec):
    """Bins written as temporal tokens `<0>` ... `<num_bins - 1>`, two new vocabulary entries a moment: `<123><456>`."""

    num_bins: int = 1000
    pattern: ClassVar[Pattern[str]] = TOKENS
    form: ClassVar[str] = "<{}><{}>"
    # Each is a row of embeddings and head that its own answers alone train; finer than 1 s of 2.8 h no data is.
    most_bins: ClassVar[int] = 10_000
    templates: ClassVar[tuple[str, ...]] = (
        'When does "{query}" happen in the video? Answer with the time tokens of its start and end, '
        "<0> being the beginning and <{last_bin}> the end of the video.",
        'Find the moment of the video that shows "{query}". Reply only with its two time tokens, <0> to <{last_bin}>.',
        'Time runs from <0> to <{last_bin}> over the video. Give the start and end token of "{query}".',
        'Locate the event "{query}" in the video. Answer with two time tokens between <0> and <{last_bin}>.',
        'Query: "{query}". Return the start and end of the matching part of the video as time tokens.',
    )

    def grammar(self, duration_s: float) -> AnswerGrammar:
        return AnswerGrammar((None, None), self.num_bins - 1, symbols=True)

    def tokens(self) -> list[str]:
        return [f"<{bin_}>" for bin_ in range(self.num_bins)]
