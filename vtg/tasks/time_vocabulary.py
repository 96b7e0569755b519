"""Temporal tokens as entries of a tokenizer: their ids, and the second of a clip that each stands for."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from vtg.config.task_settings import TaskConfig
from vtg.errors import ConfigError
from vtg.tasks.answer_forms.tokens import TokensCodec


@dataclass(frozen=True, slots=True)
class TimeVocabulary:
    """The temporal tokens `<0>` ... `<N-1>` of a tokenizer.

    Attributes:
        ids: (N,) token ids, in the order of the bins.
    """

    ids: tuple[int, ...]

    def starts_s(self, duration_s: float) -> np.ndarray:
        """(N,) float64: the second at which each bin begins, which its token means as the start of a moment."""
        return np.arange(len(self.ids)) * duration_s / len(self.ids)

    def ends_s(self, duration_s: float) -> np.ndarray:
        """(N,) float64: the second at which each bin ends, which its token means as the end of a moment."""
        return np.arange(1, len(self.ids) + 1) * duration_s / len(self.ids)


def time_vocabulary(tokenizer: Any, config: TaskConfig) -> TimeVocabulary | None:
    """The temporal tokens of an answer form as `tokenizer` has them; None for a form without.

    Raises:
        ConfigError: the tokenizer lacks one of them (`add_time_tokens` adds them).
    """
    tokens = _tokens(config)
    if not tokens:
        return None
    vocabulary = tokenizer.get_vocab()
    missing = next((token for token in tokens if token not in vocabulary), None)
    if missing is not None:
        raise ConfigError(
            f"task.answer = 'tokens': the tokenizer has no token {missing}; load it with task=tokens and "
            f"task.num_bins={len(tokens)}"
        )
    return TimeVocabulary(tuple(vocabulary[token] for token in tokens))


def add_time_tokens(tokenizer: Any, config: TaskConfig, *, path: str) -> bool:
    """Adds the temporal tokens of an answer form to a tokenizer, in place; returns whether it had none before.

    Args:
        path: of the checkpoint, as the user named it.

    Raises:
        ConfigError: for a tokenizer with another number of them.
    """
    tokens = _tokens(config)
    if not tokens:
        return False
    there = _count(tokenizer.get_added_vocab())
    if there == 0:
        # No special tokens: an answer is decoded without those, and these are the answer.
        tokenizer.add_tokens(tokens)
        return True
    if there != len(tokens):
        raise ConfigError(
            f"task.num_bins = {len(tokens)}: {path} was trained with {there} temporal tokens, <0> to <{there - 1}>; "
            f"set task.num_bins={there}, or train its base model anew"
        )
    return False


def _tokens(config: TaskConfig) -> list[str]:
    return TokensCodec.from_config(config).tokens() if config.answer == "tokens" else []


def _count(added: dict[str, int]) -> int:
    """How many temporal tokens there are without a gap."""
    count = 0
    while f"<{count}>" in added:
        count += 1
    return count
