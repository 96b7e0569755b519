"""Decoding that writes answers which can be read and nothing else: a grammar walked over token ids.

The grammar (`vtg.tasks.answer_grammar`) knows characters; here are the tokens that are made of its characters, in a
trie, so that what may follow is found by walking both at once. Every way of cutting an answer into tokens is allowed.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Protocol, Self

import numpy as np
import torch
from transformers import LogitsProcessor, ProcessorMixin

from vtg.data.encoding import turn_end_id
from vtg.tasks.answer import SEPARATOR
from vtg.tasks.answer_grammar import BEGIN, AnswerGrammar, State
from vtg.tasks.span_task import SpanTask
from vtg.tasks.time_vocabulary import time_vocabulary

# What a blank is in the entries of byte-level (Qwen, Molmo2) vocabularies: the others of a grammar are themselves.
BLANK = "\u0120"

Trie = dict[str, Any]
"""Symbol → the trie of what follows it; under the empty text the id of the token that ends there."""


class TokenConstraint(Protocol):
    """What completions are kept to, as the engine asks it: see `Constraint`, whose methods these are."""

    columns: list[int]

    def grammar(self, duration_s: float, /) -> Any: ...

    def allowed(self, grammar: Any, state: State | None, *, room: int) -> Sequence[int] | np.ndarray: ...

    def after(self, grammar: Any, state: State | None, token: int) -> State | None: ...


class Constraint:
    """What a model may write as an answer of a task.

    Attributes:
        columns: ids of all tokens that an answer can hold and of the one that ends it, ascending.
    """

    def __init__(self, task: SpanTask, processor: ProcessorMixin) -> None:
        tokenizer: Any = processor.tokenizer  # type: ignore[attr-defined]
        self.task, self.end = task, turn_end_id(processor)
        alphabet = task.grammar(duration_s=1.0).alphabet
        entries = {entry: number for entry, number in tokenizer.get_vocab().items() if number != self.end}
        texts = {entry.replace(BLANK, " "): number for entry, number in entries.items()}
        spelled = {text: number for text, number in texts.items() if text and alphabet.issuperset(text)}
        times = time_vocabulary(tokenizer, task.config)
        tokens = [(list(text), number) for text, number in spelled.items()]
        tokens += [([f"<{at}>"], number) for at, number in enumerate(times.ids if times else ())]
        self.trie: Trie = {}
        for symbols, number in tokens:
            node = self.trie
            for symbol in symbols:
                node = node.setdefault(symbol, {})
            node[""] = number
        self._symbols = {number: symbols for symbols, number in tokens}
        self.columns = sorted([*self._symbols, self.end])
        self.grammar = lru_cache(maxsize=4096)(self._grammar)
        self._next = lru_cache(maxsize=65536)(self._tokens_after)

    @classmethod
    def of(cls, task: SpanTask, processor: ProcessorMixin) -> Self | None:
        """What answers of a task are kept to (`task.constrained`); None where they are free."""
        return cls(task, processor) if task.config.constrained else None

    def _grammar(self, duration_s: float) -> AnswerGrammar:
        return self.task.grammar(duration_s=duration_s)

    def allowed(self, grammar: AnswerGrammar, state: State | None, *, room: int) -> tuple[int, ...]:
        """Ids of the tokens that may come next; of a state of None, which is an answer that has ended, the end alone.

        `room`: how many tokens may still be written, with the one that ends the answer.
        """
        if state is None:
            return (self.end,)
        # Another moment may begin only where there is room for it to end, were it written character by character.
        return self._next(grammar, state, room > len(SEPARATOR) + grammar.longest + 1)

    def after(self, grammar: AnswerGrammar, state: State | None, token: int) -> State | None:
        """The state after a token that was allowed; None after the end, and after any other."""
        for symbol in self._symbols.get(token, [""]) if state is not None else ():
            state = grammar.step(state, symbol) if symbol and state is not None else None
        return state

    def states(self, grammar: AnswerGrammar, completion: Sequence[int]) -> Iterator[State | None]:
        """The states before each token of a completion."""
        state: State | None = BEGIN
        for token in completion:
            yield state
            state = self.after(grammar, state, token)

    def mask(self, completions: torch.Tensor, durations_s: Sequence[float], *, room: int) -> torch.Tensor:
        """(rows, C, columns) bool: which of `columns` might be written at each token of completions (rows, C).

        `durations_s`: of the clip of each row. `room`: the most tokens that a completion has.
        """
        at = {number: index for index, number in enumerate(self.columns)}
        mask = torch.zeros(*completions.shape, len(at), dtype=torch.bool)
        for row, (tokens, duration_s) in enumerate(zip(completions.tolist(), durations_s, strict=True)):
            grammar = self.grammar(duration_s)
            for place, state in enumerate(self.states(grammar, tokens)):
                ids = self.allowed(grammar, state, room=room - place)
                mask[row, place, [at[number] for number in ids]] = True
        return mask.to(completions.device)

    def _tokens_after(self, grammar: AnswerGrammar, state: State, more: bool) -> tuple[int, ...]:
        found = list(_walk(self.trie, grammar, state, more=more))
        return tuple(sorted([*found, self.end] if grammar.may_end(state) else found))


def _walk(node: Trie, grammar: AnswerGrammar, state: State, *, more: bool) -> Iterator[int]:
    """Ids of the tokens of a trie whose symbols the grammar takes one after the other from `state` on."""
    for symbol, child in node.items():
        if symbol == "":
            yield child
            continue
        reached = grammar.step(state, symbol, more=more)
        if reached is not None:
            yield from _walk(child, grammar, reached, more=more)


class GrammarProcessor(LogitsProcessor):
    """Keeps `generate` to answers: all other tokens get a probability of 0.

    Args:
        durations_s: of the clip of each row.
        start: how many tokens a row has before its completion.
        room: the most tokens that a completion has.
    """

    def __init__(self, constraint: Constraint, durations_s: Sequence[float], *, start: int, room: int) -> None:
        self.constraint, self.start, self.room = constraint, start, room
        self.grammars = [constraint.grammar(duration_s) for duration_s in durations_s]
        self.states: list[State | None] = [BEGIN] * len(self.grammars)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        written = input_ids.shape[1] - self.start
        if written:
            last = zip(self.grammars, self.states, input_ids[:, -1].tolist(), strict=True)
            self.states = [self.constraint.after(grammar, state, token) for grammar, state, token in last]
        places: list[tuple[int, int]] = []
        for row, (grammar, state) in enumerate(zip(self.grammars, self.states, strict=True)):
            places += [(row, token) for token in self.constraint.allowed(grammar, state, room=self.room - written)]
        rows, tokens = torch.tensor(places, device=scores.device).T
        kept = torch.full_like(scores, -torch.inf)
        kept[rows, tokens] = scores[rows, tokens]
        return kept
