"""Decoder layers compiled for training, each kind of them once, whatever the lengths of batches.

    compile_layers(model)    # after adapters are added

The layers of a model are alike, so that one compiled function serves all of them. The second length that it meets makes
sizes symbols, and no other is a new compilation (batches of one row and of several are two). Checkpointing stays around
the function, adapters lie within it; norms are the model's own there, which the compiler fuses. Answers are generated
by the layers as they are, for which a growing cache would be another program at every step.
"""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from vtg.models.families import family_of

log = logging.getLogger(__name__)

Backend = str | Callable[..., Any]


def compile_layers(model: Any, *, backend: Backend = "inductor") -> int:
    """Has the decoder layers of a model compute compiled in training, in place; returns for how many.

    Args:
        backend: of `torch.compile`.
    """
    family, count = family_of(model.config), 0
    for name, layer in model.named_modules():
        if not isinstance(layer, GradientCheckpointingLayer) or family.part_of(name) != "language":
            continue
        # What runs in chunks of a sequence has another program for every length.
        if family.recurrent is None or not any(inner.endswith(family.recurrent) for inner, _ in layer.named_modules()):
            layer.__class__ = _compiled(type(layer), backend)
            count += 1
    log.info("%d decoder layers are compiled: the first step takes long", count)
    return count


@cache
def _compiled(plain: type, backend: Backend) -> type:
    # Not dynamic=True: it makes symbols of Python's numbers too, and the scale of an adapter or the epsilon of a norm
    # becomes a tensor on the CPU, for which the compiler then needs a C++ compiler.
    forward_alone: Any = plain.forward  # type: ignore[attr-defined]
    if "__init_subclass__" in vars(GradientCheckpointingLayer):
        # There transformers (5.24) wraps `forward` in checkpointing, earlier `__call__`. Within the program, whether a
        # layer is checkpointed would be a program of its own.
        forward_alone = forward_alone.__wrapped__
    function = torch.compile(forward_alone, backend=backend)

    def forward(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return plain.forward(self, *args, **kwargs)  # type: ignore[attr-defined]
        return function(self, *args, **kwargs)

    return type(f"Compiled{plain.__name__}", (plain,), {"forward": forward, "__module__": plain.__module__})
