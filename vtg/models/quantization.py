"""Weights of the language model in 4 or 8 bits (bitsandbytes), and their sizes."""

import math
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PretrainedConfig

from vtg.models.families import family_of
from vtg.models.families.family import ModelFamily

# bitsandbytes' NF4: a byte of scale for each 64 weights and, of these, 4 bytes for each 256 (double quantization).
BLOCK, SCALE_BLOCK = 64, 256


def quantization_config(kind: str, config: PretrainedConfig, dtype: torch.dtype) -> BitsAndBytesConfig:
    """For `from_pretrained`: quantizes the linear layers of the language model, and nothing else.

    Args:
        kind: `4bit` or `8bit`.
        config: of the model.
        dtype: in which the quantized layers compute.
    """
    options = quantization_options(kind, family_of(config))
    if kind == "4bit":
        options["bnb_4bit_compute_dtype"] = dtype
    return BitsAndBytesConfig(**options)


def quantization_options(kind: str, family: ModelFamily) -> dict[str, Any]:
    """The arguments of `BitsAndBytesConfig`, but for the dtype in which 4-bit layers compute."""
    # The tower and the projector are small and may be trained in full; a rounded head would blur all answers.
    kept = [*family.tower, *family.projector, "lm_head"]
    skipped = [name for module in kept for name in (module, rf".*\.{module}")]
    if kind == "8bit":
        return {"load_in_8bit": True, "llm_int8_skip_modules": skipped}
    nf4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    return nf4 | {"llm_int8_skip_modules": skipped}


def keep_gradients(model: nn.Module) -> None:
    """Has 4-bit layers on a CPU pass gradients on after they were used in evaluation."""
    from bitsandbytes.nn.modules import Linear4bit

    # At the first forward in evaluation on a CPU with AVX512-BF16, bitsandbytes 0.50 repacks the weights for a kernel
    # that has no backward pass, and goes on with it in training: the gradient of all layers before is zero.
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def quantized_bytes(kind: str, model: nn.Module) -> dict[int, int]:
    """id of a weight → its bytes once quantized, scales included; `model`: not quantized, without adapters."""
    if kind == "none":
        return {}
    config: Any = model.config
    part_of = family_of(config).part_of
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "lm_head" not in name and part_of(name) == "language"
    }
    return {id(layer.weight): _bytes(kind, layer.weight) for layer in layers.values()}


def _bytes(kind: str, weight: torch.Tensor) -> int:
    if kind == "8bit":
        return weight.numel() + 4 * weight.shape[0]  # a float32 scale a row
    blocks = math.ceil(weight.numel() / BLOCK)
    return math.ceil(weight.numel() / 2) + blocks + 4 * math.ceil(blocks / SCALE_BLOCK)


def size_of(parameter: nn.Parameter) -> int:
    """Elements of a parameter, whole and unpacked."""
    # 4-bit weights are packed two to a byte; their own shape is in quant_state.
    state = getattr(parameter, "quant_state", None)
    if state is not None:
        return math.prod(state.shape)
    # ZeRO-3 leaves an empty tensor on each rank, with the whole size in ds_numel.
    return getattr(parameter, "ds_numel", parameter.numel())
