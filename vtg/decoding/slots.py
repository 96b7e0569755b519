"""What is decoded: prompts in flight, each with the continuations that are written of it, and what comes of them."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

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
    """A continuation in flight, at row `place` of a step; None before its first."""

    continuation: int
    place: int | None = None
    state: State | None = BEGIN
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)


@dataclass(eq=False)
class Slot:
    """A prompt in flight: its pages, and the continuations of it that wait for room.

    Attributes:
        length: tokens that are attended to.
        shared: how many of its first pages another prompt has filled, which begins alike.
        states: what it leaves in recurrent layers.
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


@dataclass
class Peak:
    """The most that was held and in flight at once, and how many steps it took."""

    bytes: int = 0
    rows: int = 0
    steps: int = 0
