"""Which token a row writes next: the distribution that `generate` would sample from, and a draw of each row's own.

A row's draws are uniform numbers, a part of one stream that its number says (`uniforms`), turned into tokens through
its cumulative probabilities: what it writes does not depend on the rows that are decoded beside it.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

# What a GenerationConfig may set beside what `Sampling` reads: it changes no token.
NEUTRAL = {
    "pad_token_id",
    "bos_token_id",
    "disable_compile",
    "max_length",
    "use_cache",
    "return_dict_in_generate",
    "output_logits",
    "output_scores",
    "transformers_version",
}


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How completions are written.

    Attributes:
        ends: ids of the tokens that end a completion.
        temperature: None: greedily.
        top_k: 0: all tokens.
        suppressed: ids of tokens that are never written.
        min_new_tokens: before so many, no completion ends.
    """

    max_new_tokens: int
    ends: tuple[int, ...]
    temperature: float | None = None
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    suppressed: tuple[int, ...] = ()
    min_new_tokens: int = 0

    @property
    def is_greedy(self) -> bool:
        return self.temperature is None

    @classmethod
    def of(cls, config: GenerationConfig) -> Self | None:
        """What a config of `generate` asks for; None where it asks for more than this knows."""
        asked: dict[str, Any] = {key: value for key, value in config.to_dict().items() if value is not None}
        asked = {key: value for key, value in asked.items() if key not in NEUTRAL and not key.startswith("_")}
        ends = asked.pop("eos_token_id", [])
        draws = asked.pop("do_sample", False)
        read = {
            "max_new_tokens": asked.pop("max_new_tokens", 0),
            "suppressed": tuple(asked.pop("suppress_tokens", ())),
            "min_new_tokens": asked.pop("min_new_tokens", 0),
        }
        warped = {"temperature": 1.0, "top_k": 50, "top_p": 1.0, "min_p": 0.0}  # what `generate` takes by default
        warped = {key: asked.pop(key, default) for key, default in warped.items()}
        default = GenerationConfig().to_dict()
        if any(value != default.get(key) and value not in (False, 1, 1.0) for key, value in asked.items()):
            return None
        ends = (ends,) if isinstance(ends, int) else tuple(ends)
        return cls(ends=ends, **read, **(warped if draws else {}))


class TokenChoice:
    """The tokens that rows write, of their logits (rows, vocabulary).

    Args:
        columns: ids that a row may write where it is constrained, ascending; None: nothing is.
    """

    def __init__(self, sampling: Sampling, *, vocabulary: int, columns: list[int] | None, device: torch.device) -> None:
        self.sampling = sampling
        self._never = _forbidden(sampling.suppressed, vocabulary, device)
        self._too_early = _forbidden(sampling.ends if sampling.min_new_tokens else (), vocabulary, device)
        self._columns = torch.tensor(columns, device=device) if columns is not None else None
        self._warpers = _warpers(sampling)

    def __call__(
        self, logits: torch.Tensor, *, uniforms: torch.Tensor, written: torch.Tensor, allowed: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (rows,) int64, and the log-prob of each in the distribution that it was drawn from; of one that was
        chosen greedily, in the model's own.

        Args:
            uniforms: (rows,) float64 in (0, 1].
            written: (rows,) how many tokens each row has.
            allowed: (rows, columns) 0 for what a row may write, else -inf.
        """
        scores = logits.float()
        if self._too_early is not None:
            early = written < self.sampling.min_new_tokens
            scores = torch.where(early[:, None], scores + self._too_early, scores)
        if self._never is not None:
            scores = scores + self._never
        if self._columns is not None:
            kept = torch.full_like(scores, -torch.inf)
            scores = kept.index_copy(1, self._columns, scores.index_select(1, self._columns) + allowed)
        for warper in self._warpers:
            scores = warper(None, scores)  # type: ignore[arg-type]
        if not self.sampling.is_greedy:
            # In float64: sums of 150,000 float32 numbers, made in parallel, can fall where they should stay.
            probabilities = scores.softmax(-1, dtype=torch.float64)
            reached = probabilities.cumsum(-1)
            tokens = torch.searchsorted(reached, uniforms[:, None] * reached[:, -1:])[:, 0]
            return tokens, probabilities.gather(1, tokens[:, None])[:, 0].log()
        tokens, log_probs = scores.argmax(-1), logits.float().log_softmax(-1)
        return tokens, log_probs.gather(1, tokens[:, None])[:, 0]


def _forbidden(tokens: tuple[int, ...], vocabulary: int, device: torch.device) -> torch.Tensor | None:
    """(vocabulary,) -inf for these tokens, else 0; None for none. A head may lack some that prompts can hold."""
    if not tokens:
        return None
    bias = torch.zeros(vocabulary, device=device)
    bias[[token for token in tokens if token < vocabulary]] = -torch.inf
    return bias


def uniforms(seed: int, first: int, *, rows: int, count: int) -> np.ndarray:
    """(rows, count) float64 in (0, 1], of rows number `first` and following of all that are decoded under a seed.

    What a row draws is a part of its own of one stream, so that neighbours are drawn in one call.
    """
    stream, blocks = np.random.Philox(seed), -(-count // 4)  # a step of its counter makes four numbers
    stream.advance(first * blocks)
    return 1.0 - np.random.Generator(stream).random((rows, 4 * blocks))[:, :count]


def _warpers(sampling: Sampling) -> list[LogitsProcessor]:
    """transformers' own, in the order of `generate`."""
    if sampling.temperature is None:
        return []
    warpers: list[LogitsProcessor] = []
    if sampling.temperature != 1.0:
        warpers.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1.0:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    return warpers
