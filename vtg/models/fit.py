"""Whether what lies in a checkpoint folder belongs together, by headers and configs alone: before weights load."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForImageTextToText, PretrainedConfig, PreTrainedModel, ProcessorMixin

from vtg.errors import ConfigError
from vtg.models.checkpoint import ADAPTER_FILE
from vtg.models.part_table import TIME_TOKENS

# What PEFT writes before a base model's names, and after the name of a layer that it adapts.
PREFIX, SIDES = "base_model.model.", (".lora_A.weight", ".lora_B.weight")

# How the names of whole embeddings and heads end that are trained beside LoRA.
TABLES = (".embed_tokens.weight", ".lm_head.weight")


def check_tokens(path: str, processor: ProcessorMixin, config: Any, *, rows: int = 0) -> None:
    """Raises ConfigError where a tokenizer has tokens beyond the model's embeddings.

    Args:
        path: as the user named the checkpoint.
        config: of the whole model, the base of an adapter.
        rows: that the embeddings will be grown to.
    """
    text = config.text_config
    # Molmo2 keeps its own tokens in a second table
    rows = max(rows, text.vocab_size + getattr(text, "additional_vocab_size", 0))
    tokenizer: Any = processor.tokenizer  # type: ignore[attr-defined]
    token, number = max(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    if number >= rows:
        raise ConfigError(
            f"model {path!r}: its tokenizer has the token {token!r} (id {number}), but the model has {rows} "
            "embeddings; give the tokenizer of the model, or resize the model's embeddings to it and train them"
        )


def adapter_tokens(adapter: str) -> list[int]:
    """The ids of the tokens whose rows an adapter holds, whether those alone or with all others; empty without."""
    config = json.loads((Path(adapter) / ADAPTER_FILE).read_text(encoding="utf-8"))
    chosen = config.get("trainable_token_indices") or {}
    layers = list(chosen.values()) if isinstance(chosen, dict) else [chosen]  # PEFT takes one list too
    ids = {number for layer in layers for number in layer}
    file = Path(adapter) / "adapter_model.safetensors"
    try:
        with safe_open(file, framework="pt") as tensors:
            shapes = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        return sorted(ids)  # loading says which file is broken
    for name, shape in shapes.items():
        if TIME_TOKENS in name and shape[0] not in map(len, layers):
            raise ConfigError(
                f"{adapter}: {file.name} has {shape[0]} rows of temporal tokens, {ADAPTER_FILE} names others; copy "
                "both from the checkpoint again"
            )
        if name.endswith(TABLES):
            ids |= set(range(shape[0]))
    return sorted(ids)


def empty_model(config: PretrainedConfig, *, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """The model of a config without weights, on the meta device."""
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config, dtype=dtype, trust_remote_code=False)


def check_adapter_shapes(adapter: str, model: PreTrainedModel, *, base: str) -> None:
    """Raises ConfigError for an adapter of which a layer is of another size in the base model.

    Layers that are not there at all are told once the weights are loaded, by what did not reach the model.

    Args:
        adapter: its folder.
        model: what it is loaded on, with or without weights; `base`: that one's folder or hub name.
    """
    file = Path(adapter) / "adapter_model.safetensors"
    layers: dict[str, Any] = {
        name: module.weight.shape for name, module in model.named_modules() if hasattr(module, "weight")
    }
    try:
        with safe_open(file, framework="pt") as tensors:
            shapes = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        return  # loading says which file is broken
    for name, (rows, columns) in ((name, shape) for name, shape in shapes.items() if name.endswith(SIDES)):
        side = next(side for side in SIDES if name.endswith(side))
        layer = name.removeprefix(PREFIX).removesuffix(side)
        if layer.endswith(".experts") or ".base_layer" in layer:
            continue  # of fused parameters, which are no layers
        found = layers.get(layer)
        if found is None:
            continue
        own, theirs = (columns, found[1]) if side == SIDES[0] else (rows, found[0])
        if own != theirs:
            what = "inputs" if side == SIDES[0] else "outputs"
            raise ConfigError(
                f"{adapter}: the adapter does not fit its base model {base}: its {layer} has {own} {what}, that of the "
                f"model {theirs}; it was trained on another one: name that as model.path in vtg.json, or train anew"
            )
