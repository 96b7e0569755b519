"""Completions of many prompts at once, each prompt's keys and values held once for all of its continuations.

    engine = DecodingEngine(model, Sampling(max_new_tokens=64, ends=(end,), temperature=1.0))
    for completion in engine.decode(prompts, n=8, seed=0): ...

Prompts run through the model, short ones packed into one call, and their keys go into pages. Then every step writes one
token of every row in flight: of all continuations of several prompts, which are one row for as long as they are alike,
except in a CUDA graph. A row leaves when it ends, and others enter, as many as `key_bytes` have room for. A step is the
model's own forward, with its adapters, in which attention reads the pages (`vtg.decoding.paged_attention`) and
recurrent layers a state of each row; on a GPU it is a CUDA graph.

Why not transformers' own: `generate` holds a prompt once for each continuation and ends with the last row; its
continuous batching takes token ids alone, with positions that count them: no pixels, no M-RoPE, no recurrent states.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from vtg.decoding.captured_step import StepGraphs
from vtg.decoding.constrained import TokenConstraint
from vtg.decoding.flight import Flight
from vtg.decoding.prompt_sequence import Prompt
from vtg.decoding.slots import Completion, Peak
from vtg.decoding.stepper import Stepper
from vtg.decoding.token_choice import Sampling, TokenChoice
from vtg.models.plain_model import plain_model


class DecodingEngine:
    """Writes completions with a model in evaluation mode.

    Args:
        model: a plain model of a family, or a PeftModel on one; it stays as it is.
        constraint: what completions are kept to.
        key_bytes: the most that keys, values and states may take, one row excepted; None: `default_key_bytes`.
        at_once: in place of `key_bytes`: what so many rows of the first prompt of a call take.
        graphs: run steps as CUDA graphs; None: where the model can (`is_capturable`).
        compiled_after: steps of one shape after which its graph is of compiled layers, which no GPU has run yet;
            None: never.
        prefill_tokens: the most tokens of prompts that are read in one call; one alone may have more. None: by the
            device.

    Attributes:
        peak: of the last call of `decode`.
    """

    def __init__(
        self,
        model: Any,
        sampling: Sampling,
        *,
        constraint: TokenConstraint | None = None,
        key_bytes: int | None = None,
        at_once: int | None = None,
        graphs: bool | None = None,
        compiled_after: int | None = None,
        prefill_tokens: int | None = None,
    ) -> None:
        plain, columns = plain_model(model), constraint.columns if constraint else []
        self.constraint, self.at_once = constraint, at_once
        self.key_bytes = key_bytes or default_key_bytes(plain.device)
        self.captured = is_capturable(plain) if graphs is None else graphs
        head = plain.get_output_embeddings()
        choose = TokenChoice(
            sampling, vocabulary=head.weight.shape[0], columns=columns if constraint else None, device=plain.device
        )
        steps = StepGraphs(compiled_after=compiled_after) if self.captured else None
        self._stepper = Stepper(plain, choose, columns=len(columns), graphs=steps, prefill_tokens=prefill_tokens)
        self.peak = Peak()

    @torch.no_grad()
    def decode(self, prompts: Iterable[Prompt], *, n: int = 1, seed: int = 0) -> Iterator[Completion]:
        """n completions of every prompt, each as soon as it has ended.

        Args:
            prompts: on the model's device; read as there is room for them.
            seed: with a prompt's number and a continuation's, of what a row draws, whatever is decoded beside it.
        """
        flight = Flight(
            self._stepper,
            iter(prompts),
            n=n,
            seed=seed,
            constraint=self.constraint,
            key_bytes=self.key_bytes if self.at_once is None else None,
            at_once=self.at_once or 0,
            rounded=self.captured,
        )
        self.peak = flight.peak
        try:
            yield from flight.completions()
        finally:
            self._stepper.prompts.forget()  # made by these weights, which may be others at the next call

    def complete(self, prompts: Sequence[Prompt], *, n: int = 1, seed: int = 0) -> list[list[Completion]]:
        """The completions of every prompt, in their order."""
        found = sorted(self.decode(prompts, n=n, seed=seed), key=lambda one: (one.request, one.continuation))
        return [found[at : at + n] for at in range(0, len(found), n)]


def is_capturable(plain: Any) -> bool:
    """Whether steps of a plain model can be CUDA graphs: it is on a GPU, and no layer looks at its tensors' values."""
    # A mixture's experts are chosen by where their tokens are.
    is_mixture = bool(getattr(plain.config.get_text_config(), "num_experts", None))
    return plain.device.type == "cuda" and not is_mixture and not getattr(plain, "is_quantized", False)


def default_key_bytes(device: torch.device) -> int:
    """An eighth of a GPU's memory, which holds four prompts of a 4B model's 12,000 tokens on 64 GB; else 2 GiB."""
    return torch.cuda.get_device_properties(device).total_memory // 8 if device.type == "cuda" else 2**31
