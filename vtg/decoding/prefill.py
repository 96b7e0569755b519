"""A prompt's keys, values and states: what its continuations start from."""

from collections.abc import Sequence
from inspect import signature
from typing import Any

from transformers import DynamicCache, GenerationMixin

from vtg.data.pixels import join_videos
from vtg.decoding.shared_prefix import Prompt

_INPUTS: Any = GenerationMixin.prepare_inputs_for_generation  # pyright: ignore[reportAttributeAccessIssue]
CACHE = "cache" if "cache" in signature(_INPUTS).parameters else "past_key_values"
"""What models call their keys and values: the former since transformers 5.24, and alone from version 6 on."""

Layers = Sequence[Any]
"""Of a cache: keys and values (1, heads, tokens, d) of each decoder layer, or its recurrent states."""


def cache_of(plain: Any, layers: Layers = ()) -> Any:
    """A cache of a plain model, with these layers or, without any, empty ones."""
    cache: Any = DynamicCache(config=plain.config.get_text_config())
    if layers:
        cache.layers = list(layers)
    return cache


def prefill(plain: Any, prompt: Prompt) -> Layers:
    """The layers of a cache after all tokens of a prompt but the last."""
    inputs, cache = prompt.inputs(), cache_of(plain)
    plain.model(
        # Not the last token: it is the first input of each continuation, whose logits start the completion.
        input_ids=inputs["input_ids"][None, :-1],
        attention_mask=inputs["attention_mask"][None, :-1],
        mm_token_type_ids=inputs["mm_token_type_ids"][None, :-1],
        position_ids=inputs["position_ids"][..., None, :-1],
        **join_videos([inputs]),
        use_cache=True,
        **{CACHE: cache},
    )
    return cache.layers
