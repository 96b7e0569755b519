"""Merges an adapter into the weights of its base model, one at a time, for an engine that knows no adapters."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import nn

from vtg.models.plain_model import plain_model

Gather = Callable[[Iterable[nn.Parameter]], AbstractContextManager[None]]


@torch.no_grad()
def iter_merged_weights(
    model: Any, gather: Gather = lambda parameters: nullcontext()
) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and weights of the plain Qwen-VL model, each merged, whole and a copy of its own; tied ones by both names.

    The model itself stays bit for bit as it was.

    Args:
        model: a plain model, or a PeftModel on one.
        gather: makes parameters whole that are kept in parts (ZeRO-3); all ranks iterate together.
    """
    plain = plain_model(model)
    layers: tuple[str, ...] = ()
    module: Any
    for name, module in plain.named_modules():
        if any(name.startswith(layer) for layer in layers):
            continue
        is_adapted, is_copied = isinstance(module, BaseTunerLayer), isinstance(module, ModulesToSaveWrapper)
        if is_adapted or is_copied:
            layers += (f"{name}.",)
            with gather(list(module.parameters())):
                weights = _merge_layer(module) if is_adapted else _copies(_trained(module))
        else:
            parameters = dict(module.named_parameters(recurse=False))
            with gather(list(parameters.values())):
                weights = {own: weight.detach().clone() for own, weight in parameters.items()}
        yield from ((f"{name}.{own}" if name else own, weight) for own, weight in weights.items())


def _trained(wrapper: Any) -> nn.Module:
    """The copy of a layer that is trained in full beside LoRA."""
    return wrapper.modules_to_save[wrapper.active_adapters[0]]


def _copies(module: nn.Module) -> dict[str, torch.Tensor]:
    return {own: weight.detach().clone() for own, weight in module.named_parameters()}


def _merge_layer(layer: Any) -> dict[str, torch.Tensor]:
    base = layer.get_base_layer()
    before = _copies(base)
    # Around a layer of experts PEFT puts a wrapper for each of its parameters, one in the other.
    wrappers = [one for one in layer.modules() if isinstance(one, BaseTunerLayer)]
    for wrapper in wrappers:
        wrapper.merge()
    merged = _copies(base)
    for wrapper in wrappers:
        wrapper.unmerge()
    # Put back as they were: adding and subtracting the same in bfloat16 rounds, so weights would drift with each sync.
    for own, weight in base.named_parameters():
        weight.data.copy_(before[own])
    return merged
