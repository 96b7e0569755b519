"""The model that lies in a PeftModel, the GPU that it is on, and how it is run without gradients."""

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


def is_parted(plain: Any) -> bool:
    """Whether a rank holds parts of the weights alone (ZeRO-3), made whole for the forward of a module by its hooks."""
    return hasattr(next(plain.parameters()), "ds_id")


def without_gradients(plain: Any) -> AbstractContextManager[Any]:
    """Inference mode, in which a call of small tensors takes a tenth less than under `no_grad`; that, where a weight
    that hooks make whole within it would stay an inference tensor, and could not be trained."""
    return torch.no_grad() if is_parted(plain) else torch.inference_mode()
