"""A tiny model with random weights of every family that vtg was tried with, by its `model_type`."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tiny_molmo2 import build_molmo2
from tiny_qwen3_5 import build_qwen3_5
from tiny_qwen3_vl_moe import build_qwen3_vl_moe
from transformers import AutoProcessor, GenerationConfig

from vtg.data.encoding import turn_end_id, vision_token_ids
from vtg.demo.tiny_model import TINY_QWEN3_VL, build_qwen2_5_vl

EXPERTS = 8

BUILDERS: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "qwen2_5_vl": build_qwen2_5_vl,
    "qwen3_vl_moe": build_qwen3_vl_moe,
    "qwen3_5": build_qwen3_5,
    "qwen3_5_moe": partial(build_qwen3_5, experts=EXPERTS),
    "molmo2": build_molmo2,
}
"""What builds the model and its processor from a tokenizer. The tiny Qwen3-VL ships with the package."""


def save_tiny(model_type: str, folder: Path) -> None:
    """Saves the tiny model of a type and its processor, as `from_pretrained` reads them."""
    torch.manual_seed(0)
    tokenizer = AutoProcessor.from_pretrained(TINY_QWEN3_VL).tokenizer
    for part in BUILDERS[model_type](copy.deepcopy(tokenizer)):
        part.save_pretrained(folder)


def greedy_config(processor: Any, *, max_new_tokens: int) -> GenerationConfig:
    """What `generate` is asked for greedy answers, to which those of vtg's decoding engine are compared."""
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=processor.tokenizer.pad_token_id,
        eos_token_id=turn_end_id(processor),
        suppress_tokens=vision_token_ids(processor),
        disable_compile=True,
    )
