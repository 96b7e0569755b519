"""What GRPO asks of an engine that samples completions; apart from the table of engines, which imports them all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vtg.decoding.prompt_sequence import Prompt

Completions = tuple[list[list[int]], list[list[float]] | None]
"""Token ids of every row up to and with the one that ended it, and their log-probs where the engine knows them."""


@dataclass(frozen=True)
class GreedyCompletion:
    """An engine's greedy completion of a prompt, and the token ids that it read the prompt as.

    `log_probs`: of each token of the completion, at temperature 1, in nats.
    """

    prompt_ids: list[int]
    completion_ids: list[int]
    log_probs: list[float]


class Engine(Protocol):
    """Samples the completions of GRPO."""

    @property
    def name(self) -> str:
        """Its key in `ENGINES`."""
        ...

    @property
    def own_model(self) -> bool:
        """Whether it holds its own copy of the model, which must be given the weights and returns log-probs."""
        ...

    def sync(self, model: Any, step: int) -> None:
        """Copies the weights of `model`, as of optimizer step `step`, to the engine."""
        ...

    def sample(self, model: Any, prompts: Sequence[Sequence[Prompt]], *, n: int) -> Completions:
        """n completions of every prompt of these micro-batches, in their order."""
        ...

    def answer_greedily(self, model: Any, prompt: Prompt) -> GreedyCompletion:
        """Token ids and a greedy completion of one prompt, for `check_parity`."""
        ...
