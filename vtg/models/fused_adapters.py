"""Adapters that compute in the type of what they read, while their weights stay float32.

PEFT makes the adapters of a half-precision model in float32, since small updates vanish when bfloat16 rounds them, and
casts what each reads to float32; autocast casts it back, for every layer a copy of all tokens. Here the matrices are
cast instead, which have rank times width numbers: the same products as under autocast, and neither the copies nor
autocast itself. Gradients, optimizer and checkpoints see float32 weights as before.
"""

from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import nn


class AdapterMatrix(nn.Linear):
    """A matrix of LoRA, cast to the type of its input."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, in) → (…, out), of one type."""
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return nn.functional.linear(input, self.weight.to(input.dtype), bias)


def compute_in_input_type(model: Any) -> None:
    """Lets the plain LoRA adapters of linear layers compute so, in place; parameters keep their names and types.

    DoRA's and those of experts stay PEFT's: they put together whole weights, which takes float32.
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
