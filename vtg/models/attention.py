"""Attention as a `Layout` says who sees whom, without a mask of all tokens by all tokens: a function of transformers'.

    attend_in_layouts(model, "sdpa")      # once, after loading
    model(**inputs, layout=layout)        # a packed batch, or prompts with their completions

`sdpa`: PyTorch's scaled_dot_product_attention, a call for each segment, causal, and one for some branches of it at once
under a mask of these alone. Everywhere, in every type.

`varlen`: `torch.nn.attention.varlen` (from PyTorch 2.11), one call for all segments and one for many branches, whose
keys are gathered, each with what it goes on from before it, and again in the backward pass, so that no layer keeps
them. Its kernel runs on a GPU in half precision; elsewhere SDPA takes its place, a call for each sequence. (Its
log-sum-exp carries no gradient, or branches could see their segment's keys where they are.)

A vision tower attends within frames, by `vtg.models.frame_attention`.
"""

import copy
import itertools
from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.utils.import_utils import is_flash_attn_2_available

from vtg.data.layout import ATTENTIONS, LAYOUT, Bounds, KeyGather, Layout
from vtg.errors import ConfigError
from vtg.models.families import family_of
from vtg.models.families.family import ModelFamily
from vtg.models.frame_attention import FRAMES, frames_attention
from vtg.models.plain_model import plain_model

# From PyTorch 2.12. 2.11 takes fewer heads of keys unasked: on an H200 with the numbers and gradients of repeated ones.
_GROUPED: dict[str, Any] = {"enable_gqa": True} if "enable_gqa" in signature(varlen_attn).parameters else {}

# Left out where layers are compiled: how many calls there are, and of what sizes, differs by the batch.
_uncompiled: Any = torch.compiler.disable

GATHERED_KEYS = 2**17
"""The most keys that `varlen` gathers at once: with 8 heads of 128 numbers in half precision 268 MB, and as many of
values; enough work for a kernel, and no more however many branches there are."""

KEPT_BYTES = 2**20
"""Up to so many, a layer keeps a chunk's copy of keys and values for the backward pass, which then need not compute its
attention again; of a model with 8 heads of keys, 128 numbers each, in half precision those of 256 tokens."""

# Of the kernel behind varlen_attn: sizes of a head, and types.
_HEAD_MULTIPLE, _HEAD_MOST, _HALF = 8, 256, (torch.bfloat16, torch.float16)


# What `auto` is where FlashAttention 2 is not installed, or the family needs what it does not do.
AUTO = "sdpa"


def choose_attention(name: str, device: torch.device, *, family: ModelFamily | None = None) -> str:
    """`auto` is FlashAttention 2 on a GPU where it is installed and the family allows it, else PyTorch's SDPA.

    Raises:
        ConfigError: a kernel is asked for that has no mask, and the family needs one.
    """
    both_ways = family is not None and family.both_ways
    if name in ("flash_attention_2", "varlen") and family is not None and both_ways:
        kernel = "FlashAttention 2" if name == "flash_attention_2" else "varlen"
        raise ConfigError(
            f"model.attention = {name!r}: the vision tokens of a {family.title} attend to each other both ways, for "
            f"which {kernel} has no mask; set model.attention=sdpa"
        )
    if name == "auto":
        can = device.type == "cuda" and not both_ways and is_flash_attn_2_available()
        return "flash_attention_2" if can else AUTO
    return name


def attend_in_layouts(model: Any, kernel: str) -> None:
    """Lets a plain Qwen-VL model, in place, take layouts; its vision tower sees all frames of a size at once.

    `kernel`: one of ATTENTIONS. Calls without a layout stay as they were.
    """
    for name, function in ((ATTENTIONS["sdpa"], segments_by_sdpa), (ATTENTIONS["varlen"], segments_by_varlen)):
        AttentionInterface.register(name, function)
        AttentionMaskInterface.register(name, sdpa_mask)
    AttentionInterface.register(FRAMES, frames_attention)
    # Through the registry of attention functions: the layers themselves stay the model's own.
    model.model.language_model.config._attn_implementation = ATTENTIONS[kernel]
    tower = model.model.get_submodule(family_of(model.config).tower[0])
    if any("cu_seqlens" in signature(module.forward).parameters for module in tower.modules()):
        # A copy of its own: of the model's config others are built, and transformers looks for a package of that name.
        before, own = tower.config, copy.deepcopy(tower.config)
        own._attn_implementation = FRAMES
        for module in tower.modules():
            if getattr(module, "config", None) is before:
                module.config = own


def takes_layouts(model: Any) -> bool:
    """Whether this plain model's attention is told by a `Layout`."""
    return attention_of(model) in ATTENTIONS.values()


def attention_of(model: Any) -> str:
    """The name of the attention function of a model's language model, with PEFT around it or not."""
    return plain_model(model).model.language_model.config._attn_implementation


def segments_by_sdpa(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    layout: Layout | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of (1, heads, L, d) → (1, L, heads, d), in pieces; transformers' SDPA without a layout."""
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return _by_calls(module, query, key, value, layout, **kwargs), None


@_uncompiled
def _by_calls(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, **kwargs: Any
) -> torch.Tensor:
    query, key, value = (_ordered(states, layout.order) for states in (query, key, value))
    dtype, pieces, start = _attention_dtype(query), [], 0
    sizes = [*layout.heads, *(sum(chunk.lengths) for chunk in layout.chunks)]
    queries = iter(query.split(sizes, dim=2))
    token_bytes = (key[0, :, 0].numel() + value[0, :, 0].numel()) * key.element_size()
    keys, values = (_Pieces(states, layout.cuts) for states in (key, value))
    for length in layout.heads:
        own = slice(start, start + length)
        mask = layout.segment_mask(own, dtype)
        made = sdpa_attention_forward(module, next(queries), keys.at([own]), values.at([own]), mask, **kwargs)
        pieces.append(made[0])
        start += length
    for chunk in layout.chunks:
        own = (module, next(queries), keys, values, (*chunk.before, chunk.own), layout.chunk_mask(chunk, dtype))
        copied = len(chunk.before) > 1 and (chunk.keys + sum(chunk.lengths)) * token_bytes > KEPT_BYTES
        if copied and torch.is_grad_enabled():
            # Questions about a clip have a copy of its keys each, and long ones are not kept for the backward pass.
            draws = bool(kwargs.get("dropout"))
            pieces.append(checkpoint(_chunk, *own, use_reentrant=False, preserve_rng_state=draws, **kwargs))
        else:
            pieces.append(_chunk(*own, **kwargs))
    made = torch.cat(pieces, dim=1)
    return made if layout.inverse is None else made[:, layout.inverse]


class _Pieces:
    """Keys or values (1, heads, L, d), cut: the backward pass of a slice makes a gradient of all L tokens, and of as
    many calls as there are chunks that would be most of its work."""

    def __init__(self, states: torch.Tensor, cuts: Sequence[int]) -> None:
        """`cuts`: `Layout.cuts`."""
        self.states, self.numbers = states, {cut: number for number, cut in enumerate(cuts)}
        self.pieces = states.split([stop - start for start, stop in itertools.pairwise(cuts)], dim=2)

    def at(self, places: Sequence[slice]) -> torch.Tensor:
        """Those at these places; copied only where they are not adjacent."""
        if all(one.stop == other.start for one, other in itertools.pairwise(places)) and len(places) > 1:
            return self.states[:, :, places[0].start : places[-1].stop]
        found = [one for place in places for one in self.pieces[self.numbers[place.start] : self.numbers[place.stop]]]
        return found[0] if len(found) == 1 else torch.cat(found, dim=2)


def _chunk(
    module: Any,
    query: torch.Tensor,
    keys: _Pieces,
    values: _Pieces,
    places: Sequence[slice],
    mask: torch.Tensor,
    **kwargs: Any,
) -> torch.Tensor:
    """Attention of some queries to the keys at these places."""
    return sdpa_attention_forward(module, query, keys.at(places), values.at(places), mask, **kwargs)[0]


def segments_by_varlen(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    layout: Layout | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """The same in calls of all heads, and of branches; as `sdpa` for what only a mask can say, and with dropout."""
    if layout is None or layout.both_ways is not None or dropout:
        more = kwargs | {LAYOUT: layout, "scaling": scaling, "dropout": dropout}
        return segments_by_sdpa(module, query, key, value, attention_mask, **more)
    return _in_sequences(query, key, value, layout, scaling), None


@_uncompiled
def _in_sequences(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scaling: float | None
) -> torch.Tensor:
    # (L, heads, d), as the layer's projections made them
    query, key, value = (_ordered(one, layout.order)[0].transpose(0, 1) for one in (query, key, value))
    before = sum(layout.heads)
    pieces = [_sequences(query[:before], key[:before], value[:before], layout.head_bounds, scaling)]
    for gather in layout.key_gathers(GATHERED_KEYS):
        # Computed again in the backward pass: gathered, a segment's keys stand there once for each of its branches.
        own: Any = (query[gather.own], key, value, gather, scaling)
        pieces.append(checkpoint(_branches, *own, use_reentrant=False, preserve_rng_state=False))
    made = torch.cat(pieces)
    return (made if layout.inverse is None else made[layout.inverse])[None]


def _branches(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, gather: KeyGather, scale: float | None
) -> torch.Tensor:
    """Attention of the queries of some branches to what they go on from and themselves."""
    keys, values = (states.index_select(0, gather.keys) for states in (key, value))
    return _sequences(query, keys, values, gather.bounds, scale)


def _sequences(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bounds: Bounds, scale: float | None
) -> torch.Tensor:
    """Causal attention of sequences (L, heads, d) one after the other; the last query of each sees all keys of it."""
    dtype, size = _attention_dtype(query), query.shape[-1]
    if not (query.is_cuda and dtype in _HALF and size % _HEAD_MULTIPLE == 0 and size <= _HEAD_MOST):
        return sequences_by_sdpa(query, key, value, bounds, scale)
    query, key, value = (states.to(dtype) for states in (query, key, value))
    at = (bounds.queries, bounds.keys, bounds.most_queries, bounds.most_keys)
    made: Any = varlen_attn(query, key, value, *at, scale=scale, window_size=(-1, 0), **_GROUPED)
    return made


def sequences_by_sdpa(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bounds: Bounds, scale: float | None
) -> torch.Tensor:
    """What `varlen_attn` computes, where it has no kernel: a call for each sequence."""
    pieces = []
    states = zip((query, key, value), bounds.sizes, strict=True)
    for q, k, v in zip(*(one.split(sizes) for one, sizes in states), strict=True):
        seen = torch.ones(len(q), len(k), dtype=torch.bool, device=q.device).tril(len(k) - len(q))
        mask = None if len(q) == len(k) else seen
        q, k, v = (one.transpose(0, 1)[None] for one in (q, k, v))
        made = scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, scale=scale, enable_gqa=True)
        pieces.append(made[0].transpose(0, 1))
    return torch.cat(pieces)


def _attention_dtype(query: torch.Tensor) -> torch.dtype:
    """The type that attention is computed in: autocast casts what SDPA takes, and no kernel that it does not know."""
    kind = query.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype


def _ordered(states: torch.Tensor, order: torch.Tensor | None) -> torch.Tensor:
    return states if order is None else states.index_select(2, order)
