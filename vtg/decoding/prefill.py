"""A prompt's keys, values and states: what its continuations start from."""

import copy
import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from inspect import signature
from typing import Any

import torch
from transformers import DynamicCache, GenerationMixin

from vtg.data.pixels import join_videos
from vtg.decoding.prompt_sequence import Prompt, Sequenced
from vtg.models.attention import takes_layouts
from vtg.models.families import family_of
from vtg.models.plain_model import is_parted, on_device, without_gradients
from vtg.models.recurrence import is_recurrent

_INPUTS: Any = GenerationMixin.prepare_inputs_for_generation  # pyright: ignore[reportAttributeAccessIssue]
CACHE = "cache" if "cache" in signature(_INPUTS).parameters else "past_key_values"
"""What models call their keys and values: the former since transformers 5.24, and alone from version 6 on."""

CONV, RECURRENT = "conv_states", "recurrent_states"
"""What recurrent layers of a cache call their states, by number."""

Layers = Sequence[Any]
"""Of a cache: keys and values (1, heads, tokens, d) of each decoder layer, or its recurrent states."""


def cache_of(plain: Any, layers: Layers = (), *, kind: type[DynamicCache] = DynamicCache) -> Any:
    """A cache of a plain model, with these layers or, without any, empty ones."""
    cache: Any = kind(config=plain.config.get_text_config())
    if layers:
        cache.layers = list(layers)
    return cache


class _LastKeysMade(Exception):
    """Ends a prefill: nothing reads what the last layer makes of its keys and values."""


class _PrefillCache(DynamicCache):
    """A cache that ends the forward pass that fills it, as soon as the last layer has its keys and values."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        made = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        if layer_idx == len(self.layers) - 1:
            raise _LastKeysMade
        return made


PACKED_TOKENS = {"cuda": 4096}
"""The most tokens of prompts that are read in one call, by the kind of device: enough to keep it busy, and fewer than a
long prompt has, so that the memory of reading one is enough; else `PACKED_TOKENS_ELSEWHERE`."""

PACKED_TOKENS_ELSEWHERE = 1024


class Prefill:
    """Runs prompts through a plain model: short ones together, packed, and what several begin with once.

    Packed are prompts whose attention is told by a `Layout`: what those of a clip begin with is a segment, and what
    each goes on with a branch of it. Recurrent layers keep one state, that of the last token, so models that have them
    read one prompt after the other, and so does attention that knows no layouts.

    A forward pass ends in its last layer, by an exception, as soon as that has its keys and values (except under
    ZeRO-3): what it makes of them, and the forward hooks of the modules around it, are not run.

    Args:
        together: the most tokens of a packed call; None: by the device.
    """

    def __init__(self, plain: Any, *, together: int | None = None) -> None:
        self.plain = plain
        self.together = together or PACKED_TOKENS.get(plain.device.type, PACKED_TOKENS_ELSEWHERE)
        self._known: tuple[Prompt, Layers] | None = None
        # ZeRO-3 releases weights in hooks after a module's forward.
        self._cache = DynamicCache if is_parted(plain) else _PrefillCache

    def every(self, prompts: Sequence[Prompt]) -> Iterator[Layers]:
        """`self(prompt)` of every prompt, in their order; those that follow one another and begin alike are read
        together, within the tokens of a call."""
        packs = takes_layouts(self.plain) and not is_recurrent(self.plain)
        waiting, tokens = list[Prompt](), 0
        for group in _groups(prompts):
            own = sum(_end(prompt) - prompt.common for prompt in group)
            length = group[0].common + own
            alone = not packs or length > self.together or self._knows(group[0])
            if waiting and (alone or tokens + length > self.together):
                yield from self._packed(waiting)
                waiting, tokens = [], 0
            if alone:
                yield from map(self, group)
            else:
                waiting, tokens = [*waiting, *group], tokens + length
        if waiting:
            yield from self._packed(waiting)

    def __call__(self, prompt: Prompt) -> Layers:
        """The layers of a cache after all tokens of a prompt but the last."""
        if not prompt.common:
            return self._read(prompt, 0, _end(prompt), ())
        if not self._knows(prompt):
            self.forget()  # before the next clip is read: both at once would be twice the keys
            self._known = prompt, self._read(prompt, 0, prompt.common, ())
        assert self._known is not None
        return self._read(prompt, prompt.common, _end(prompt), self._known[1])

    def _knows(self, prompt: Prompt) -> bool:
        """Whether what this prompt has in common with others was read for the last one."""
        return self._known is not None and prompt.begins_as(self._known[0])

    def _packed(self, prompts: Sequence[Prompt]) -> Iterator[Layers]:
        """The layers after each prompt, read in one call; each prompt's are made as they are asked for: all at once
        would hold what several have in common once for each of them."""
        if any(prompt.common for prompt in prompts):  # else what was read before may be asked about later
            self.forget()
        sequence = Sequenced.of(prompts)
        read = self._layers(**sequence.inputs(both_ways=family_of(self.plain.config).both_ways))
        lengths = [len(part["input_ids"]) for part in sequence.parts]
        ends = itertools.accumulate(lengths)
        places = [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]
        for at, prompt in enumerate(prompts):
            own = [places[part] for part in sequence.parts_of(at)]
            layers = [_part(layer, *own) for layer in read]
            if prompt.common:
                self._known = prompt, layers
            yield layers

    def forget(self) -> None:
        """Lets go of what the last prompt began with."""
        self._known = None

    def _read(self, prompt: Prompt, start: int, end: int, before: Layers) -> Layers:
        """The layers after the tokens up to `end`; `before`, which stays as it is, begins with those before `start`."""
        inputs = prompt.inputs()
        return self._layers(
            [_fork(layer, start) for layer in before],
            input_ids=inputs["input_ids"][None, start:end],
            attention_mask=inputs["attention_mask"][None, :end],
            mm_token_type_ids=inputs["mm_token_type_ids"][None, start:end],
            position_ids=inputs["position_ids"][..., None, start:end],
            **({} if start else join_videos([inputs])),
        )

    def _layers(self, layers: Layers = (), **inputs: Any) -> Layers:
        """The layers of a cache after these inputs, which begins with `layers`."""
        cache = cache_of(self.plain, layers, kind=self._cache)
        with on_device(self.plain), without_gradients(self.plain), suppress(_LastKeysMade):
            self.plain.model(**inputs, use_cache=True, **{CACHE: cache})
        return cache.layers


def _groups(prompts: Sequence[Prompt]) -> list[list[Prompt]]:
    """Prompts that follow one another and have what they begin with in common; each of the others alone."""
    groups = list[list[Prompt]]()
    for prompt in prompts:
        last = groups[-1][-1] if groups else None
        if last and prompt.begins_as(last):
            groups[-1].append(prompt)
        else:
            groups.append([prompt])
    return groups


def _end(prompt: Prompt) -> int:
    """How many tokens of a prompt are read: not the last, which is the first input of each continuation, whose logits
    start the completion."""
    return len(prompt.features["input_ids"]) - 1


def _part(layer: Any, *places: slice) -> Any:
    """A layer of a cache with the keys and values at these places alone; copied where they are several."""
    part = copy.copy(layer)
    for name in ("keys", "values"):
        states = [getattr(layer, name)[:, :, place] for place in places]
        setattr(part, name, states[0] if len(states) == 1 else torch.cat(states, dim=2))
    return part


def _fork(layer: Any, tokens: int) -> Any:
    """A layer of a cache, of its first tokens, that goes on by itself: keys grow into new tensors, recurrent states, of
    which there are none but the last, change in place."""
    if not hasattr(layer, RECURRENT):
        return _part(layer, slice(tokens))
    fork = copy.copy(layer)
    for name in (CONV, RECURRENT):
        setattr(fork, name, {at: one if one is None else one.clone() for at, one in getattr(layer, name).items()})
    return fork
