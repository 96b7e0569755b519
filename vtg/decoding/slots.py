"""What is decoded: prompts in flight, each with the continuations that are written of it, and what comes of them."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from vtg.decoding.prompt_sequence import Prompt
from vtg.tasks.answer_grammar import BEGIN, State


@dataclass(frozen=True)
class Completion:
    """Continuation `continuation` of prompt `request`: token ids up to and with the one that ended it.

    `log_probs`: of each token, in nats, in the distribution that it was drawn from (temperature, top_p, … applied); in
    the model's own where it was chosen greedily.
    """

    request: int
    continuation: int
    tokens: list[int]
    log_probs: list[float]


@dataclass(eq=False)
class Row:
    """What is decoded as one row of a step, at `place`: a continuation in flight, or several that are alike so far.

    Attributes:
        place: None before its first step. Rows that were one until the last step have one place, until they are moved.
    """

    continuations: list[int]
    place: int | None = None
    state: State | None = BEGIN
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)

    def write(self, tokens: Sequence[int], log_probs: Sequence[float]) -> "Sequence[Row]":
        """Gives each continuation its next token; the rows that come of it, one for each token, the first itself."""
        found = dict[int, tuple[float, list[int]]]()
        for continuation, token, log_prob in zip(self.continuations, tokens, log_probs, strict=True):
            found.setdefault(token, (log_prob, []))[1].append(continuation)
        rows = [
            self,
            *(replace(self, tokens=[*self.tokens], log_probs=[*self.log_probs]) for _ in range(len(found) - 1)),
        ]
        for row, (token, (log_prob, continuations)) in zip(rows, found.items(), strict=True):
            row.continuations = continuations
            row.tokens.append(token)
            row.log_probs.append(log_prob)
        return rows


@dataclass(eq=False)
class Slot:
    """A prompt in flight: its pages, and the continuations of it that wait for room.

    Attributes:
        length: tokens that are attended to.
        shared: how many of its first pages another prompt has filled, which begins alike.
        states: what it leaves in recurrent layers.
        draws: (n, tokens) float64 in (0, 1], of all its n continuations by number; None where nothing is drawn.
    """

    request: int
    prompt: Prompt
    length: int
    waiting: deque[int]
    grammar: Any
    pages: list[int] = field(default_factory=list)
    shared: int = 0
    states: Sequence[dict[str, torch.Tensor]] = ()
    rows: list[Row] = field(default_factory=list)
    draws: np.ndarray | None = None

    @property
    def in_flight(self) -> int:
        """How many continuations are being decoded."""
        return sum(len(row.continuations) for row in self.rows)

    def last_token(self, row: Row) -> int:
        """What the next step of one of its rows is given."""
        return row.tokens[-1] if row.tokens else int(self.prompt.features["input_ids"][-1])


@dataclass
class Peak:
    """The most that was held, and the most continuations in flight, at once; and how many steps it took."""

    bytes: int = 0
    rows: int = 0
    steps: int = 0
