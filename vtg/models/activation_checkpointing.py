"""Which layers keep their activations: with selective checkpointing half of them compute theirs again."""

from typing import Any

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer


def keep_last_half(model: Any) -> int:
    """Has the last half of the layers of tower and language model, in place, keep their activations for the backward
    pass, where checkpointing is on; returns how many do.

    The last, because theirs are freed before the first of the others is computed again: at no time are both there. The
    half of every kind of layer, as long as kinds alternate in less than that. Whole layers, because that holds for any
    kernel, one that overwrites what it has read included, where a choice of operations to keep does not.
    """
    kept = 0
    for stack in model.modules():
        if not isinstance(stack, nn.ModuleList):
            continue
        layers = [layer for layer in stack if isinstance(layer, GradientCheckpointingLayer)]
        for layer in layers[len(layers) // 2 :]:
            layer.gradient_checkpointing = False
            kept += 1
    return kept
