"""The model that lies in a PeftModel, and the GPU that it is on."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def plain_model(model: Any) -> Any:
    """The model of a family without PEFT around it; its adapters stay in its layers.

    Args:
        model: plain, or a PeftModel on one.
    """
    # By its method and not by its class: where there is no adapter, peft need not be imported.
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def on_device(plain: Any) -> AbstractContextManager[Any]:
    """Makes the GPU of a model the current one of this thread, which streams, CUDA graphs and Triton's kernels belong
    to: of a model on `cuda:1` it is not, unless something says so."""
    return torch.cuda.device(plain.device) if plain.device.type == "cuda" else nullcontext()
