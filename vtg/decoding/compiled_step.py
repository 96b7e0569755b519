"""Decoder layers compiled for a step: norms, rotary positions, adapters and the softmax fused into few kernels.

Every layer of a kind runs one compiled function. So that it is one, a layer is given its own cache and pages, and no
list of all in which its number would have to be looked up.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import torch

from vtg.decoding.key_pool import OwnKeys, OwnStates
from vtg.decoding.paged_attention import PagedLayout
from vtg.decoding.prefill import CACHE


class LayerCache:
    """The cache of one layer, as its forward asks for it: with a number that says nothing here."""

    def __init__(self, layer: OwnKeys | OwnStates) -> None:
        self.layer: Any = layer

    def update(self, key: torch.Tensor, value: torch.Tensor, layer_idx: int, **kwargs: Any) -> Any:
        return self.layer.update(key, value)

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> torch.Tensor:
        return self.layer.conv_states[state_idx]

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> torch.Tensor:
        return self.layer.recurrent_states[state_idx]

    def is_recording_past(self, layer_idx: int) -> bool:
        return False

    def update_recurrent_state(self, states: torch.Tensor, layer_idx: int, **kwargs: Any) -> torch.Tensor:
        return self.layer.recurrent_states[0].copy_(states)


@contextmanager
def compiled_layers(
    language: Any, layers: Sequence[OwnKeys | OwnStates], layout: PagedLayout, *, on: bool
) -> Iterator[None]:
    """Within it, where `on`, a language model's layers run compiled, each with its part of the cache and the pages."""
    if not on:
        yield
        return
    layout_alone = replace(layout, layers=())
    for module, own, pages in zip(language.layers, layers, layout.layers, strict=True):
        given = {CACHE: LayerCache(own), "paged": layout_alone, "pages": pages}
        module.forward = _forward(module, given)
    try:
        # The number of a layer is an attribute of its attention: told as a constant, every layer would be compiled.
        with torch._dynamo.config.patch(allow_unspec_int_on_nn_module=True):
            yield
    finally:
        for module in language.layers:
            del module.forward


def _forward(module: Any, given: dict[str, Any]) -> Callable[..., Any]:
    compiled = _compiled(type(module))

    def forward(*args: Any, **kwargs: Any) -> Any:
        return compiled(module, *args, **kwargs | given)

    return forward


@cache
def _compiled(layer: type) -> Callable[..., Any]:
    return torch.compile(layer.forward, dynamic=False)  # type: ignore[attr-defined]
