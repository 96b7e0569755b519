"""Completions by transformers' `generate`, for what `DecodingEngine` does not know; and their log-probs in training."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from vtg.data.padding import collate
from vtg.decoding.constrained import Constraint, GrammarProcessor
from vtg.decoding.prompt_sequence import Prompt
from vtg.decoding.shared_prefix import repeated_batch, shared_batch
from vtg.models.families import family_of
from vtg.models.plain_model import plain_model


@torch.no_grad()
def sample(
    model: Any,
    prompts: Sequence[Prompt],
    config: GenerationConfig,
    *,
    n: int,
    pad_token_id: int,
    constraint: Constraint | None = None,
) -> list[list[int]]:
    """n completions of each prompt, which runs n times, in their order: token ids up to and with the one that ended it.

    Args:
        model: a plain Qwen-VL model, or a PeftModel on one, in evaluation mode.
        constraint: what completions are kept to.
    """
    rows = [prompt.inputs() for prompt in prompts for _ in range(n)]
    inputs: dict[str, Any] = collate(rows, pad_token_id=pad_token_id, padding_side="left")
    del inputs["labels"]
    start, kept = inputs["input_ids"].shape[1], None
    if constraint is not None:
        durations_s = [prompt.duration_s for prompt in prompts for _ in range(n)]
        kept = [GrammarProcessor(constraint, durations_s, start=start, room=config.max_new_tokens or 0)]
    out = model.generate(**inputs, generation_config=config, logits_processor=kept)
    return [_up_to_end(row, config) for row in out[:, start:].tolist()]


@torch.no_grad()
def forward_log_probs(
    model: Any, prompt: Prompt, completion: Sequence[int], *, pad_token_id: int, share: bool = True
) -> list[float]:
    """The log-prob of each token of a completion at temperature 1, in the forward that training runs."""
    plain = plain_model(model)
    own = torch.tensor([list(completion)], device=prompt.features["input_ids"].device)
    if share:
        both_ways = family_of(plain.config).both_ways
        inputs = shared_batch([prompt], [own], both_ways=both_ways)
    else:
        inputs = repeated_batch([prompt], [own], [torch.ones_like(own)], pad_token_id=pad_token_id)
    hidden = plain.model(**inputs).last_hidden_state
    if not share:  # shared, the forward returns the predicting states only
        hidden = hidden[:, -own.shape[1] - 1 : -1]
    logits = plain.lm_head(hidden)[0].float()
    return logits.log_softmax(-1).gather(1, own[0, :, None])[:, 0].tolist()


def _up_to_end(row: list[int], config: GenerationConfig) -> list[int]:
    """Token ids up to and including the first that ends a completion."""
    ends: Any = config.eos_token_id
    ends = [ends] if isinstance(ends, int) else ends
    stop = next((at for at, token in enumerate(row) if token in ends), len(row) - 1)
    return row[: stop + 1]
