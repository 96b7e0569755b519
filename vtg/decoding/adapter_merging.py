"""Merges an adapter into the weights of its base model: for an engine that knows no adapters, one weight at a time; for
decoding on a CPU, as long as it lasts.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import nn

from vtg.models.plain_model import plain_model

MOST_COPIED = 2**31
"""Bytes of weights that `merged_for_decoding` copies at most: as much as keys may take on a CPU."""

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


@contextmanager
def merged_for_decoding(model: Any) -> Iterator[None]:
    """Within it, adapted linear layers on a CPU in float32 are one product instead of three; then all is as it was, bit
    for bit.

    A step of decoding multiplies few rows, so that calls of small matrices take much of its time there. Other layers
    keep their adapters: in bfloat16, also that of autocast, a merged weight would round small updates away, and on a
    GPU, where steps are captured, a second copy of the weights is memory that keys could have. So do all where the
    copies would take more than `MOST_COPIED`.

    Args:
        model: a plain model, or a PeftModel on one.
    """
    plain = plain_model(model)
    # A head can be tied to the embedding, which has no part in its adapter.
    uses = Counter(id(weight) for module in plain.modules() for weight in module.parameters(recurse=False))
    layers: list[Any] = [
        layer
        for layer in plain.modules()
        if _merges_exactly(layer) and all(uses[id(weight)] == 1 for weight in layer.parameters())
    ]
    before = [(weight, weight.data) for layer in layers for weight in layer.get_base_layer().parameters()]
    if torch.is_autocast_enabled("cpu") or sum(unmerged.nbytes for _, unmerged in before) > MOST_COPIED:
        layers, before = [], []
    try:
        for weight, unmerged in before:
            weight.data = unmerged.clone()
        with torch.no_grad():
            for layer in layers:
                layer.merge()
        yield
    finally:
        for layer in layers:
            if layer.merged:  # else merging itself has failed
                layer.unmerge()
        for weight, unmerged in before:
            weight.data = unmerged


def _merges_exactly(layer: Any) -> bool:
    # The type itself: a quantized layer is of a subclass. A disabled adapter has no part in what the model answers.
    if not isinstance(layer, LoraLayer) or type(layer.get_base_layer()) is not nn.Linear:
        return False
    if layer.merged or layer.disable_adapters:  # type: ignore[attr-defined]
        return False
    # Under ZeRO-3 (`ds_id`) a rank has parts of weights alone.
    return all(
        weight.device.type == "cpu" and weight.dtype == torch.float32 and not hasattr(weight, "ds_id")
        for weight in layer.parameters()  # type: ignore[attr-defined]
    )


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
