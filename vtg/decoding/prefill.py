"""A prompt's keys, values and states: what its continuations start from."""

import copy
import itertools
from collections.abc import Iterator, Sequence
from inspect import signature
from typing import Any

import torch
from transformers import DynamicCache, GenerationMixin

from vtg.data.layout import LAYOUT, Layout, no_mask
from vtg.data.pixels import join_videos
from vtg.decoding.shared_prefix import TOKENS, Prompt
from vtg.models.attention import takes_layouts
from vtg.models.families import family_of
from vtg.models.plain_model import on_device
from vtg.models.recurrence import is_recurrent

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


PACKED_TOKENS = {"cuda": 4096}
"""The most tokens of prompts that are read in one call, by the kind of device: enough to keep it busy, and fewer than a
long prompt has, so that the memory of reading one is enough; else `PACKED_TOKENS_ELSEWHERE`."""

PACKED_TOKENS_ELSEWHERE = 1024


class Prefill:
    """Runs prompts through a plain model: short ones together, packed, and what several begin with once.

    Packed are prompts whose attention is told by a `Layout`. Recurrent layers keep one state, that of the last token,
    so models that have them read one prompt after the other, and so does attention that knows no layouts.

    Args:
        together: the most tokens of a packed call; None: by the device.
    """

    def __init__(self, plain: Any, *, together: int | None = None) -> None:
        self.plain = plain
        self.together = together or PACKED_TOKENS.get(plain.device.type, PACKED_TOKENS_ELSEWHERE)
        self._known: tuple[torch.Tensor | None, int, Layers] = (None, 0, ())

    def every(self, prompts: Sequence[Prompt]) -> Iterator[Layers]:
        """`self(prompt)` of every prompt, in their order; what is read together is held together."""
        packs = takes_layouts(self.plain) and not is_recurrent(self.plain)
        waiting, tokens = list[Prompt](), 0
        for prompt in prompts:
            alone, length = not packs or prompt.common > 0, len(prompt.features["input_ids"]) - 1
            if waiting and (alone or tokens + length > self.together):
                yield from self._packed(waiting)
                waiting, tokens = [], 0
            if alone:
                yield self(prompt)
            else:
                waiting, tokens = [*waiting, prompt], tokens + length
        if waiting:
            yield from self._packed(waiting)

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

    def _packed(self, prompts: Sequence[Prompt]) -> list[Layers]:
        """The layers after each of some prompts, read in one call."""
        if len(prompts) == 1:
            return [self(prompts[0])]
        rows = [{key: prompt.features[key][..., :-1] for key in TOKENS} for prompt in prompts]
        joined = {key: torch.cat([row[key] for row in rows], dim=-1).unsqueeze(-2) for key in TOKENS}
        attended, lengths = joined.pop("attention_mask")[0].bool(), [row["input_ids"].shape[-1] for row in rows]
        which = torch.repeat_interleave(torch.tensor(lengths)).to(attended.device)
        both_ways = joined["mm_token_type_ids"][0] > 0 if family_of(self.plain.config).both_ways else None
        layout = Layout.of(torch.where(attended, which, -1), torch.zeros_like(which), both_ways)
        cache = cache_of(self.plain)
        with on_device(self.plain):
            self.plain.model(
                **joined,
                **join_videos([prompt.inputs() for prompt in prompts]),
                attention_mask=no_mask(attended.device),
                use_cache=True,
                **{LAYOUT: layout, CACHE: cache},
            )
        ends = itertools.accumulate(lengths)
        parts = [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]
        return [[_part(layer, part) for layer in cache.layers] for part in parts]

    def forget(self) -> None:
        """Lets go of what the last prompts began with."""
        self._known = None, 0, ()

    def _read(self, prompt: Prompt, start: int, end: int, before: Layers) -> Layers:
        """The layers after the tokens up to `end`, those before `start` being in `before`, which stays as it is."""
        inputs, cache = prompt.inputs(), cache_of(self.plain, [_fork(layer) for layer in before])
        with on_device(self.plain):
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


def _part(layer: Any, tokens: slice) -> Any:
    """A layer of a cache with the keys and values of these tokens alone."""
    part = copy.copy(layer)
    part.keys, part.values = layer.keys[:, :, tokens], layer.values[:, :, tokens]
    return part


def _fork(layer: Any) -> Any:
    """A layer of a cache that goes on by itself: keys grow into new tensors, recurrent states change in place."""
    fork = copy.copy(layer)
    for name in (CONV, RECURRENT):
        if hasattr(layer, name):
            setattr(fork, name, {at: one if one is None else one.clone() for at, one in getattr(layer, name).items()})
    return fork
