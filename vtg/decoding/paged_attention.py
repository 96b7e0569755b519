"""Attention of one new token a row over the keys of its prompt, held once for all rows, and over the row's own.

Keys of prompts lie in pages of a fixed number of tokens, so that prompts of any length share one buffer, and prompts
that begin alike the pages of their beginning. A page is attended to by all rows of its prompts together, its keys read
once; so are the tokens that a row has written itself. The
softmax is over both: every part gives its sum under its own highest score, and the parts are added under the highest of
all (as split attention does: Dao et al., FlashDecoding; shared prefixes: Juravsky et al., arXiv:2402.05099). No size
depends on what the tensors hold, so that a step can be captured as a CUDA graph.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION = "paged_prompt"
"""The name of the attention function, as `DecodingEngine` sets it while it decodes."""

LOWEST = torch.finfo(torch.float32).min
"""The score of what is not attended to. Not -inf, of which differences are NaN."""

LEAST = -80.0
"""Below it PyTorch's exponential on a CPU takes up to twenty times as long; e^-80 is lost in any float32 sum with the 1
of the highest score."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a step: `slots` prompts of `width` rows each, so many pages, at most `longest` to a prompt and `users`
    prompts to a page, and so many tokens of a row's own."""

    slots: int
    width: int
    pages: int
    longest: int
    own: int
    users: int = 1

    @property
    def rows(self) -> int:
        return self.slots * self.width


@dataclass(frozen=True)
class PagedLayout:
    """Which keys the rows of a step attend to; row r is of slot r // width.

    Attributes:
        slots_of_page: (pages, users) int64; 0 where a page has fewer.
        places_of_slot: (slots, longest) int64: page · users + user, the pages of each slot, and as which of their users
            it attends to them; 0, the empty page, where a prompt has fewer.
        page_bias: (pages, 1, 1, tokens) float32, 0 for tokens that are there, else LOWEST.
        own_bias: (rows, 1, 1, own) likewise, of the tokens a row has written.
        layers: of each decoder layer, pages of keys and of values (pages, heads, tokens, d); None where it has none.
    """

    shape: Shape
    slots_of_page: torch.Tensor
    places_of_slot: torch.Tensor
    page_bias: torch.Tensor
    own_bias: torch.Tensor
    layers: tuple[tuple[torch.Tensor, torch.Tensor] | None, ...]


@contextmanager
def paged_attention(language_model: Any) -> Iterator[None]:
    """Within it the layers of a language model attend by `PagedLayout`s, given as the keyword `paged`; else by SDPA."""
    AttentionInterface.register(ATTENTION, _attention)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    config = language_model.config
    before, config._attn_implementation = config._attn_implementation, ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = before


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    paged: PagedLayout | None = None,
    pages: tuple[torch.Tensor, torch.Tensor] | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of (rows, heads, 1, d), of rows with own keys (rows, key heads, own, d), → (rows, 1, heads, d)."""
    if paged is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    pages = pages or paged.layers[module.layer_idx]
    assert pages is not None
    # Scores and sums are float32 whatever autocast makes of products.
    with torch.autocast(query.device.type, enabled=False):
        return _attend(query, key, value, paged, pages, module.scaling), None


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    paged: PagedLayout,
    pages: tuple[torch.Tensor, torch.Tensor],
    scaling: float,
) -> torch.Tensor:
    shape, (rows, heads, _, d), kv = paged.shape, query.shape, key.shape[1]
    group = heads // kv
    query = query.view(rows, kv, group, d)
    # All queries of a slot that share a head of keys are one matrix.
    together = query.view(shape.slots, shape.width, kv, group, d).transpose(1, 2)
    together = together.reshape(shape.slots, kv, shape.width * group, d)
    keys, values = (states[: shape.pages] for states in pages)
    asking = together[paged.slots_of_page].transpose(1, 2).flatten(2, 3)
    prompt = _partial(asking, keys, values, paged.page_bias, scaling)
    own = _partial(query, key, value, paged.own_bias, scaling)

    # (pages, heads, users · width · group, x) → (slots, longest, heads, width · group, x)
    prompt = prompt.unflatten(2, (shape.users, -1)).transpose(1, 2).flatten(0, 1)[paged.places_of_slot]
    # (rows, heads, group, x) → (slots, 1, heads, width · group, x)
    own = own.view(shape.slots, shape.width, kv, group, -1).transpose(1, 2)
    own = own.reshape(shape.slots, 1, kv, shape.width * group, -1)
    tops, sums = torch.cat([prompt, own], dim=1).split([1, d + 1], dim=-1)
    total = (_exp(tops - tops.amax(1, keepdim=True)) * sums).sum(1)
    out = total[..., 1:] / total[..., :1]
    out = out.view(shape.slots, kv, shape.width, group, d).transpose(1, 2)
    return out.reshape(rows, 1, heads, d).to(query.dtype)


def _partial(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor, scaling: float
) -> torch.Tensor:
    """What queries (b, heads, q, d) make of keys alone, (b, heads, q, 2 + d) float32: their highest score, the sum of
    their weights under it, and the weighted sum of values."""
    scores = torch.add(bias, _product(query, key.transpose(-1, -2)), alpha=scaling)
    top = scores.amax(-1, keepdim=True)
    weights = _exp(scores.sub_(top))
    return torch.cat([top, weights.sum(-1, keepdim=True), _product(weights.to(value.dtype), value)], dim=-1)


def _exp(below: torch.Tensor) -> torch.Tensor:
    """The exponential of numbers that are 0 or less, which is changed in place; on a CPU no less than that of LEAST."""
    return (below if below.is_cuda else below.clamp_(min=LEAST)).exp_()


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The matrix product of (b, heads, …) in float32, of numbers as they are."""
    if a.dtype is torch.float32:
        return a @ b
    if not a.is_cuda:
        return a.float() @ b.float()
    # The products of a tensor core are summed in float32; rounding them again would cost scores their digits.
    out = torch.bmm(a.flatten(0, 1), b.flatten(0, 1), out_dtype=torch.float32)
    return out.view(*a.shape[:-1], b.shape[-1])
