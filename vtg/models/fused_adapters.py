"""LoRA adapters that compute in the type of what they read, and add to their layer's output within their own product.

PEFT makes the adapters of a half-precision model in float32, since small updates vanish when bfloat16 rounds them, and
casts what each reads to float32; autocast casts it back, for every layer a copy of all tokens. Here the matrices are
cast instead, which have rank times width numbers: the same products as under autocast, and neither the copies nor
autocast itself. Gradients, optimizer and checkpoints see float32 weights as before.

PEFT then scales what an adapter gives and adds it to the layer's output, each a pass over (tokens, width) numbers, and
the first again in the backward pass. Here the second product does both, as matrix products can: out += s · (x A) B. So
the sum is rounded once in place of three times.
"""

from typing import Any

import torch
from peft.tuners.lora import Linear, LoraLayer
from torch import nn


class AdapterMatrix(nn.Linear):
    """A matrix of LoRA, cast to the type of its input."""

    def forward(self, input: torch.Tensor, add_to: torch.Tensor | None = None, scaling: float = 1.0) -> torch.Tensor:
        """(…, in) → (…, out), of one type.

        Args:
            add_to: (tokens, out), which is changed and returned: the product of `input` (tokens, in), times `scaling`,
                is added to it.
        """
        weight = self.weight.to(input.dtype)
        bias = None if self.bias is None else self.bias.to(input.dtype)
        if add_to is None:
            return nn.functional.linear(input, weight, bias)
        if bias is not None:
            add_to = add_to + scaling * bias
        # Under ZeRO-3 (`ds_id`) the output of a layer is a view that autograd lets nobody change.
        add = torch.addmm if hasattr(self.weight, "ds_id") else torch.Tensor.addmm_
        return add(add_to, input, weight.t(), alpha=scaling)


class AdaptedLinear(Linear):
    """A linear layer with plain LoRA adapters, which add to its output where they compute it."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """(…, in) → (…, out)."""
        names = [name for name in self.active_adapters if name in self.lora_A]
        # Not fused: PEFT's ways of choosing an adapter for each row, and adapters that were added since.
        fuses = all(isinstance(self.lora_B[name], AdapterMatrix) for name in names)
        if self.disable_adapters or self.merged or args or kwargs or not fuses:
            return super().forward(x, *args, **kwargs)
        # Of three axes a layer with a bias returns a view, which autograd changes in place by way of a copy.
        rows = x.reshape(-1, x.shape[-1])
        out = self.base_layer(rows)
        for name in names:
            read = self.lora_A[name](self.lora_dropout[name](rows))
            out = self.lora_B[name](read, out, self.scaling[name])
        return out.view(*x.shape[:-1], out.shape[-1])


def fuse_adapters(model: Any) -> None:
    """Lets the plain LoRA adapters of linear layers compute so, in place; parameters keep their names and types.

    DoRA's and those of experts stay PEFT's: they put together whole weights, which takes float32. Those of quantized
    layers compute in the type of what they read, and are added as PEFT does.
    """
    for layer in model.modules():
        if not isinstance(layer, LoraLayer) or not isinstance(layer.get_base_layer(), nn.Linear):
            continue
        matrices = [*layer.lora_A.values(), *layer.lora_B.values()]
        if layer.lora_variant or any(type(one) not in (nn.Linear, AdapterMatrix) for one in matrices):
            continue
        layer.cast_input_dtype_enabled = False
        for matrix in matrices:
            matrix.__class__ = AdapterMatrix
        if type(layer) is Linear and not layer.fan_in_fan_out:
            layer.__class__ = AdaptedLinear


def unfuse_adapters(model: Any) -> None:
    """Lets them compute as PEFT has it, in place."""
    kinds: dict[type, type] = {AdapterMatrix: nn.Linear, AdaptedLinear: Linear}
    for layer in model.modules():
        layer.__class__ = kinds.get(type(layer), type(layer))
        if isinstance(layer, LoraLayer):
            layer.cast_input_dtype_enabled = True
