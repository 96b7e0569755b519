"""Merges an adapter into the weights of its base model: for an engine that knows no adapters, one weight at a time; for
decoding on a CPU, as long as it lasts.
"""

import copy
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
    """Within it, plain linear layers with merged weights stand in for adapted ones on a CPU in float32, one product
    instead of three; the adapted ones are not touched.

    A step of decoding multiplies few rows, so that calls of small matrices take much of its time there. Other layers
    keep their adapters: in bfloat16, also that of autocast, a merged weight would round small updates away, and on a
    GPU, where steps are captured, a second copy of the weights is memory that keys could have. So do all where the
    copies would take more than `MOST_COPIED`.

    Args:
        model: a plain model, or a PeftModel on one.
    """
    plain = plain_model(model)
    modules = list(plain.modules())
    # A head can be tied to the embedding, which has no part in its adapter.
    uses = Counter(id(weight) for module in modules for weight in module._parameters.values() if weight is not None)
    layers = [
        (parent, name, layer)
        for parent in modules
        for name, layer in parent._modules.items()
        if _merges_exactly(layer, uses)
    ]
    copied = sum(layer.get_base_layer().weight.nbytes for _, _, layer in layers)
    if torch.is_autocast_enabled("cpu") or copied > MOST_COPIED:
        layers = []
    try:
        for parent, name, layer in layers:
            setattr(parent, name, _merged(layer))
        yield
    finally:
        for parent, name, layer in layers:
            setattr(parent, name, layer)


@torch.no_grad()
def _merged(layer: Any) -> nn.Module:
    """A copy of the linear layer below an adapted one, with the adapters merged into its weights."""
    base = copy.copy(layer.get_base_layer())
    base._parameters = dict(base._parameters)
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    if not layer.lora_variant and not any(layer.lora_bias.values()):
        # (in, out) in memory: MKL multiplies a few dozen rows with it a tenth to a third faster.
        weight = base.weight.t()
        for name in names:  # one pass over the weight each; PEFT's own take four
            parts = layer.lora_A[name].weight.t(), layer.lora_B[name].weight.t()
            weight = torch.addmm(weight, *parts, alpha=layer.scaling[name])
        base.weight = nn.Parameter(weight.t(), requires_grad=False)
        return base
    for name, weight in layer.get_base_layer().named_parameters():
        setattr(base, name, nn.Parameter(weight.clone(), requires_grad=False))
    # PEFT merges in place: into a twin, which shares all but what merging changes.
    twin = copy.copy(layer)
    twin._modules, twin.merged_adapters, twin._caches = {**layer._modules, "base_layer": base}, [], {}
    twin.merge()
    return base


def _merges_exactly(layer: Any, uses: Counter[int]) -> bool:
    """`uses`: in how many places of the model each parameter is, by id."""
    # The type itself: a quantized layer is of a subclass. A disabled adapter has no part in what the model answers.
    if not isinstance(layer, LoraLayer) or type(layer.get_base_layer()) is not nn.Linear:
        return False
    if layer.merged or layer.disable_adapters:  # type: ignore[attr-defined]
        return False
    # PEFT merges no bias into a layer without one.
    if any(layer.lora_bias.values()) and layer.get_base_layer().bias is None:  # type: ignore[attr-defined]
        return False
    # Under ZeRO-3 (`ds_id`) a rank has parts of weights alone.
    return all(
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and not hasattr(weight, "ds_id")
        and uses[id(weight)] == 1
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
