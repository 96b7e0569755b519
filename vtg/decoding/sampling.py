"""Completions sampled by transformers' `generate`, with every prompt run once for all of its completions."""

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import DynamicCache, GenerationConfig, GenerationMixin
from transformers.cache_utils import DynamicLayer

from vtg.data.padding import collate
from vtg.data.pixels import join_videos
from vtg.decoding.constrained import Constraint, GrammarProcessor
from vtg.decoding.shared_prefix import Prompt, plain_model, repeated_batch, shared_batch
from vtg.models.families import family_of

_INPUTS: Any = GenerationMixin.prepare_inputs_for_generation  # pyright: ignore[reportAttributeAccessIssue]
CACHE = "cache" if "cache" in signature(_INPUTS).parameters else "past_key_values"
"""What models call their keys and values: the former since transformers 5.24, and alone from version 6 on."""


class PreallocatedLayer(DynamicLayer):
    """Keys and values of prompts, n rows each and padded on the left, with room for the tokens to come.

    A layer that grows by concatenation copies all keys and values at every token.

    Args:
        prompts: [keys, values] (1, heads, P, d) of each; emptied as they are copied.
        longest: the most P.
        room: tokens to come.
    """

    def __init__(self, prompts: Sequence[list[Any]], *, n: int, longest: int, room: int) -> None:
        super().__init__()
        first = prompts[0][0]
        self.dtype, self.device, self.is_initialized = first.dtype, first.device, True
        shape = (len(prompts) * n, first.shape[1], longest + room, first.shape[3])
        self.whole = [first.new_zeros(shape) for _ in range(2)]
        for of, states in enumerate(self.whole):
            for at, prompt in enumerate(prompts):
                states[at * n : at * n + n, :, longest - prompt[of].shape[2] : longest] = prompt[of]
                prompt[of] = None  # freed at once, so that the prompts are never in memory twice as a whole
        self.keys, self.values = self._up_to(longest)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        for states, new in zip(self.whole, (key_states, value_states), strict=True):
            states[:, :, start:end] = new
        self.keys, self.values = self._up_to(end)
        return self.keys, self.values

    def _up_to(self, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.whole[0][:, :, :end], self.whole[1][:, :, :end]


@torch.no_grad()
def sample(
    model: Any,
    prompts: Sequence[Prompt],
    config: GenerationConfig,
    *,
    n: int,
    pad_token_id: int,
    share: bool = True,
    constraint: Constraint | None = None,
) -> list[list[int]]:
    """n completions of each prompt, in their order, as token ids up to and with the one that ended them.

    Args:
        model: a plain Qwen-VL model, or a PeftModel on one, in evaluation mode.
        share: run every prompt once and hand its keys, values and states to its n completions; else run it n times.
        constraint: what completions are kept to.
    """
    inputs = _generation_inputs(model, prompts, config, n=n, pad_token_id=pad_token_id, share=share)
    start, kept = inputs["input_ids"].shape[1], None
    if constraint is not None:
        durations_s = [prompt.duration_s for prompt in prompts for _ in range(n)]
        kept = [GrammarProcessor(constraint, durations_s, start=start, room=config.max_new_tokens or 0)]
    out = model.generate(**inputs, generation_config=config, logits_processor=kept)
    return [_up_to_end(row, config) for row in out[:, start:].tolist()]


@torch.no_grad()
def answer_greedily(
    model: Any, prompt: Prompt, config: GenerationConfig, *, pad_token_id: int, share: bool = True
) -> tuple[list[int], list[float]]:
    """The greedy completion of a prompt, and the log-prob of each of its tokens at temperature 1, as it was decoded.

    Of `config`, length, ends and suppressed tokens are kept.
    """
    greedy = GenerationConfig(
        max_new_tokens=config.max_new_tokens,
        eos_token_id=config.eos_token_id,
        pad_token_id=pad_token_id,
        suppress_tokens=config.suppress_tokens,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        disable_compile=True,
    )
    inputs = _generation_inputs(model, [prompt], config, n=1, pad_token_id=pad_token_id, share=share)
    out = model.generate(**inputs, generation_config=greedy)
    tokens = _up_to_end(out.sequences[0, inputs["input_ids"].shape[1] :].tolist(), greedy)
    # float32: bfloat16 has 8 bits of mantissa, too few to compare log-probs to hundredths.
    rows = [logits[0].float().log_softmax(-1) for logits in out.logits]
    return tokens, [float(row[token]) for row, token in zip(rows, tokens, strict=False)]


@torch.no_grad()
def forward_log_probs(
    model: Any, prompt: Prompt, completion: Sequence[int], *, pad_token_id: int, dtype: torch.dtype, share: bool = True
) -> list[float]:
    """The log-prob of each token of a completion at temperature 1, in the forward that training runs.

    `dtype`: in which attention is computed.
    """
    plain = plain_model(model)
    own = torch.tensor([list(completion)], device=prompt.features["input_ids"].device)
    if share:
        both_ways = family_of(plain.config).both_ways
        inputs = shared_batch([prompt], [own], dtype=dtype, both_ways=both_ways)
    else:
        inputs = repeated_batch([prompt], [own], [torch.ones_like(own)], pad_token_id=pad_token_id)
    hidden = plain.model(**inputs).last_hidden_state
    if not share:  # shared, the forward returns the predicting states only
        hidden = hidden[:, -own.shape[1] - 1 : -1]
    logits = plain.lm_head(hidden)[0].float()
    return logits.log_softmax(-1).gather(1, own[0, :, None])[:, 0].tolist()


def _generation_inputs(
    model: Any, prompts: Sequence[Prompt], config: GenerationConfig, *, n: int, pad_token_id: int, share: bool
) -> dict[str, Any]:
    """The inputs of `generate`: n rows of each prompt."""
    if share:
        return _prefilled_inputs(model, prompts, n=n, room=config.max_new_tokens or 0, pad_token_id=pad_token_id)
    rows = [prompt.inputs() for prompt in prompts for _ in range(n)]
    inputs = collate(rows, pad_token_id=pad_token_id, padding_side="left")
    del inputs["labels"]
    return inputs


def _up_to_end(row: list[int], config: GenerationConfig) -> list[int]:
    """Token ids up to and including the first that ends a completion."""
    ends: Any = config.eos_token_id
    ends = [ends] if isinstance(ends, int) else ends
    stop = next((at for at, token in enumerate(row) if token in ends), len(row) - 1)
    return row[: stop + 1]


def _prefilled_inputs(model: Any, prompts: Sequence[Prompt], *, n: int, room: int, pad_token_id: int) -> dict[str, Any]:
    """What `generate` continues from: all prompt tokens but the last in the cache, n rows each, padded on the left."""
    plain = plain_model(model)
    caches = [_layers(plain, prompt) for prompt in prompts]
    longest = max(len(prompt.features["input_ids"]) for prompt in prompts)

    def rows(name: str, fill: int) -> torch.Tensor:
        # Padded on the left, so that all rows continue at one index.
        tensors = [prompt.features[name] for prompt in prompts]
        padded = [pad(tensor, (longest - tensor.shape[-1], 0), value=fill) for tensor in tensors]
        return torch.stack(padded, dim=-2).repeat_interleave(n, dim=-2)

    cache: Any = DynamicCache(config=plain.config.get_text_config())
    cache.layers = [_forked(layers, n=n, longest=longest - 1, room=room) for layers in zip(*caches, strict=True)]
    return {
        "input_ids": rows("input_ids", pad_token_id),
        "attention_mask": rows("attention_mask", 0),
        "position_ids": rows("position_ids", 0),
        CACHE: cache,
    }


def _forked(prompts: Sequence[Any], *, n: int, longest: int, room: int) -> Any:
    """A layer of the caches of prompts as one for n rows of each."""
    first = prompts[0]
    if not hasattr(first, "recurrent_states"):
        # All room at once: growing by concatenation copies every key and value at each token.
        states = [[layer.keys, layer.values] for layer in prompts]
        for layer in prompts:
            layer.keys = layer.values = None
        return PreallocatedLayer(states, n=n, longest=longest, room=room)
    # A recurrent layer holds the same however long its prompt was, so there is nothing to pad.
    for name in ("conv_states", "recurrent_states"):
        for key in getattr(first, name):
            states = [getattr(layer, name)[key] for layer in prompts]
            getattr(first, name)[key] = torch.cat(states).repeat_interleave(n, dim=0)
    return first


def _layers(plain: Any, prompt: Prompt) -> list[Any]:
    """The cache of every layer after P - 1 tokens: keys and values (1, heads, P - 1, d), or recurrent states."""
    inputs = prompt.inputs()
    cache: Any = DynamicCache(config=plain.config.get_text_config())
    plain.model(
        # Not the last token: it is the first input of each of the n rows, whose logits start the completion.
        input_ids=inputs["input_ids"][None, :-1],
        attention_mask=inputs["attention_mask"][None, :-1],
        mm_token_type_ids=inputs["mm_token_type_ids"][None, :-1],
        position_ids=inputs["position_ids"][..., None, :-1],
        **join_videos([inputs]),
        use_cache=True,
        **{CACHE: cache},
    )
    return cache.layers
