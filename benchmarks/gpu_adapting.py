"""The sections of gpu.py about today's 4B models: ways of adapting one that is saved to disk and loaded as a run does.

Qwen3.5's recurrent layers run in flash-linear-attention where it is installed, else in PyTorch's own code.
"""

import inspect
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from gpu_answers import answers
from gpu_equality import compare_ways, unequal_ways
from gpu_shapes import Bench, free
from gpu_training import settings, timed_steps
from transformers import AutoModelForImageTextToText, PretrainedConfig, Qwen3_5Config, Qwen3VLConfig
from transformers.models.qwen3_5 import modeling_qwen3_5

from vtg.config.model_settings import ModelConfig
from vtg.demo.tiny_model import ready, vision_ids
from vtg.memory.parameters import count, empty_model
from vtg.memory.published_shapes import published_config
from vtg.models.loading import load_model
from vtg.models.recurrence import RULE, kernels_can_train, part_sequences

WAYS = {
    "LoRA": ("none", True),
    "QLoRA, 4 bits": ("4bit", True),
    "full": ("none", False),
    "QLoRA, 8 bits": ("8bit", True),
}
"""`model.quantization`, and whether there are adapters."""

# Triton multiplies float32 matrices in TF32, of 10 bits.
TF32_APART = 1e-2

VISION = {"depth": 2, "hidden_size": 96, "intermediate_size": 192, "num_heads": 3, "out_hidden_size": 128}
TEXT = {
    "vocab_size": 1100, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64,
}  # fmt: skip
SMALL = {
    "small Qwen3-VL": (Qwen3VLConfig, {}, {"deepstack_visual_indexes": [0, 1]}),
    # The width of a head is the real one: kernels are made for it.
    "small Qwen3.5": (
        Qwen3_5Config,
        {
            "linear_num_key_heads": 1,
            "linear_num_value_heads": 2,
            "linear_key_head_dim": 128,
            "linear_value_head_dim": 128,
        },
        {},
    ),
}
"""For a run without a GPU, and for gradients in float32: config class, and what it has of its own."""


def qwen3_vl(bench: Bench, found: dict[str, Any]) -> None:
    """Every way of adapting Qwen3-VL-4B's shape, beside the memory estimate."""
    _adapting(bench, bench.scale.adapted[0], found)


def qwen3_5(bench: Bench, found: dict[str, Any]) -> None:
    """Every way of adapting Qwen3.5-4B's shape, beside the memory estimate."""
    found["flash-linear-attention"] = _has_kernels()
    _adapting(bench, bench.scale.adapted[1], found)


def _adapting(bench: Bench, name: str, found: dict[str, Any]) -> None:
    """Steps of one long clip by LoRA, QLoRA and full fine-tuning, and rollouts; memory beside the estimate."""
    folder = _saved(bench, name)
    for way, (quantization, lora) in WAYS.items():
        if bench.reaches(found, way):
            with bench.case(way):
                found[way] = _case(bench, folder, quantization=quantization, lora=lora)
    if bench.reaches(found, "rollout, evaluation"):
        found["rollout"] = told = {}
        with bench.case("rollout, evaluation"):
            _answers(bench, folder, told)
        told |= told.pop("rollout_memory", {})
        found["evaluation"] = told.pop("evaluation", {})
    free()
    shutil.rmtree(folder)


def _answers(bench: Bench, folder: Path, found: dict[str, Any]) -> None:
    """Rollouts and an evaluation by a model that is loaded from `folder`."""
    free()
    config = settings(bench)
    model = _loaded(bench, folder, config.model)
    own = count(empty_model(str(folder), model.dtype), config.parts, config.lora)
    answers(bench, config, model, own, found)


def recurrence(bench: Bench, found: dict[str, Any]) -> None:
    """Packed beside padded and shared beside repeated, of a small Qwen3.5 with random weights."""
    found["flash-linear-attention"] = has_kernels = _has_kernels()
    model = _random(bench, _small("small Qwen3.5"), device="cpu", dtype=torch.float32)
    part_sequences(model)
    compare_ways(bench, {"Qwen3.5": model}, found, reference=_reference_rule)
    # Kernels alone differ from PyTorch's own code: elsewhere the ways agree as those of other models do.
    wrong = unequal_ways(found, **({"float32_apart": TF32_APART} if has_kernels and bench.on_gpu else {}))
    assert not wrong, "; ".join(wrong)


@contextmanager
def _reference_rule() -> Iterator[None]:
    """PyTorch's own delta rule while on the CPU, where kernels do not run."""
    kept = getattr(modeling_qwen3_5, RULE)
    setattr(modeling_qwen3_5, RULE, inspect.unwrap(kept))
    try:
        yield
    finally:
        setattr(modeling_qwen3_5, RULE, kept)


def _has_kernels() -> bool:
    return torch.cuda.is_available() and kernels_can_train()


def _case(bench: Bench, folder: Path, *, quantization: str, lora: bool) -> dict[str, Any]:
    """Some steps of one long clip by a model that is loaded from `folder`."""
    free()
    config = settings(bench, lora=lora, steps=1 + bench.scale.steps)
    config.model.quantization = quantization
    model = _loaded(bench, folder, config.model)
    dtype = torch.bfloat16 if bench.on_gpu else torch.float32
    own = count(empty_model(str(folder), dtype), config.parts, config.lora, quantization=quantization)
    found = timed_steps(bench, config, model, own, [bench.scale.frames])
    return {key: value for key, value in found.items() if key not in ("lengths", "slots")}


def _loaded(bench: Bench, folder: Path, config: ModelConfig) -> Any:
    config.path = str(folder)
    return load_model(config, bench.processor, device=bench.device)[0]


def _saved(bench: Bench, name: str) -> Path:
    """A model of that shape with random weights, written as a folder."""
    config = _small(name) if name in SMALL else published_config(name)
    assert config is not None, name
    dtype = torch.bfloat16 if bench.on_gpu else torch.float32
    model = _random(bench, config, device=bench.device, dtype=dtype)
    folder = bench.folder / name.rpartition("/")[2].replace(" ", "_")
    model.save_pretrained(folder)
    bench.processor.save_pretrained(folder)
    return folder


def _small(name: str) -> PretrainedConfig:
    cls, text, vision = SMALL[name]
    return cls(text_config=TEXT | text, vision_config=VISION | vision, tie_word_embeddings=True)


def _random(bench: Bench, config: PretrainedConfig, *, device: str, dtype: torch.dtype) -> Any:
    for key, value in vision_ids(bench.processor.tokenizer).items():
        setattr(config, key, value)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype, attn_implementation="sdpa")
    return ready(model, bench.processor.tokenizer)
