"""The weights of a model with its adapter merged, one at a time, for an engine that knows no adapters."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

Gather = Callable[[Iterable[nn.Parameter]], AbstractContextManager[None]]


@torch.no_grad()
def merged_weights(
    model: Any, gather: Gather = lambda parameters: nullcontext()
) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and weights of the plain Qwen-VL model; each is whole and merged until the next is asked for.

    The model is bit for bit as it was afterwards: merging and unmerging in bfloat16 would wear the base weights off.

    Args:
        model: a plain model, or a PeftModel on one.
        gather: makes parameters whole that are kept in parts (ZeRO-3); all ranks iterate together.
    """
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    seen: set[int] = set()
    inside: tuple[str, ...] = ()
    for name, module in plain.named_modules():
        if name.startswith(inside) and inside:
            continue
        if isinstance(module, BaseTunerLayer):
            inside += (f"{name}.",)
            yield from _merged(name, module, gather)
            continue
        for own, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in seen:  # tied weights have two names
                seen.add(id(parameter))
                with gather([parameter]):
                    yield f"{name}.{own}" if name else own, parameter.data


def _merged(name: str, layer: Any, gather: Gather) -> Iterator[tuple[str, torch.Tensor]]:
    with gather(list(layer.parameters())):
        base = layer.get_base_layer()
        before = {own: parameter.data.clone() for own, parameter in base.named_parameters()}
        layer.merge()
        try:
            for own, parameter in base.named_parameters():
                yield f"{name}.{own}", parameter.data
        finally:
            layer.unmerge()
            for own, parameter in base.named_parameters():
                parameter.data.copy_(before[own])
