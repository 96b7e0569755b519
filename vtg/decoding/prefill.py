"""A prompt's keys, values and states: what its continuations start from."""

import copy
from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from transformers import DynamicCache, GenerationMixin

from vtg.data.pixels import join_videos
from vtg.decoding.shared_prefix import Prompt

_INPUTS: Any = GenerationMixin.prepare_inputs_for_generation  # pyright: ignore[reportAttributeAccessIssue]
CACHE = "cache" if "cache" in signature(_INPUTS).parameters else "past_key_values"
"""What models call their keys and values: the former since transformers 5.24, and alone from version 6 on."""

CONV, RECURRENT = "conv_states", "recurrent_states"
"""What recurrent layers of a cache call their states, by number."""

Layers = Sequence[Any]
"""Of a cache: keys and values (1, heads, tokens, d) of each decoder layer, or its recurrent states."""


def cache_of(plain: Any, layers: Layers = ()) -> Any:
    """A cache of a plain model, with these layers or, without any, empty ones."""
    cache: Any = DynamicCache(config=plain.config.get_text_config())
    if layers:
        cache.layers = list(layers)
    return cache


class Prefill:
    """Runs prompts through a plain model, one after the other; what several begin with (`Prompt.common`), once."""

    def __init__(self, plain: Any) -> None:
        self.plain = plain
        self._known: tuple[torch.Tensor | None, int, Layers] = (None, 0, ())

    def __call__(self, prompt: Prompt) -> Layers:
        """The layers of a cache after all tokens of a prompt but the last."""
        # Not the last token: it is the first input of each continuation, whose logits start the completion.
        end = len(prompt.features["input_ids"]) - 1
        if not prompt.common:
            return self._read(prompt, 0, end, ())
        if self._known[0] is not prompt.encoded or self._known[1] != prompt.common:
            self.forget()  # before the next clip is read: both at once would be twice the keys
            self._known = prompt.encoded, prompt.common, self._read(prompt, 0, prompt.common, ())
        return self._read(prompt, prompt.common, end, self._known[2])

    def forget(self) -> None:
        """Lets go of what the last prompts began with."""
        self._known = None, 0, ()

    def _read(self, prompt: Prompt, start: int, end: int, before: Layers) -> Layers:
        """The layers after the tokens up to `end`, those before `start` being in `before`, which stays as it is."""
        inputs, cache = prompt.inputs(), cache_of(self.plain, [_fork(layer) for layer in before])
        self.plain.model(
            input_ids=inputs["input_ids"][None, start:end],
            attention_mask=inputs["attention_mask"][None, :end],
            mm_token_type_ids=inputs["mm_token_type_ids"][None, start:end],
            position_ids=inputs["position_ids"][..., None, start:end],
            **({} if start else join_videos([inputs])),
            use_cache=True,
            **{CACHE: cache},
        )
        return cache.layers


def _fork(layer: Any) -> Any:
    """A layer of a cache that goes on by itself: keys grow into new tensors, recurrent states change in place."""
    fork = copy.copy(layer)
    for name in (CONV, RECURRENT):
        if hasattr(layer, name):
            setattr(fork, name, {at: one if one is None else one.clone() for at, one in getattr(layer, name).items()})
    return fork
