"""How much memory a training will need, estimated from the model's config: no weights are read.

The model is built on PyTorch's meta device, with its adapters, so that parameters are counted, not guessed. Activations
are a rough formula, right within a factor of two or so:

- Saved for the backward pass, per token and decoder layer: 4 H + 3 Q + 3 K + 4 I numbers (H hidden size, Q and K the
  widths of queries and of keys, I the feed-forward width), attention scores never being stored (SDPA, FlashAttention).
  With gradient checkpointing: H per layer, and all of the above for the one layer in work.
- The vision tower the same way, over four patches a vision token; frozen, only its layer in work counts.
- Logits are computed for the answer tokens alone and are left out, as are the CUDA context and fragmentation (1 GB).
- Optimizer: gradients and AdamW's two moments, in the type of the trained parameters, on one device (no ZeRO).
- Generation: weights, and the key-value cache of one batch of prompts.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel

from vtg.config.schema import LoraConfig, ModelConfig
from vtg.models.checkpoint import adapter_base, resolve_checkpoint
from vtg.models.loading import Model, prepare_training

PATCHES_PER_TOKEN = 4
PIXEL_BYTES = 4
"""The processor hands pixels over in float32."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on one device, and what they were estimated for."""

    parameters: int
    trained_parameters: int
    dtype: str
    batch_size: int
    tokens: int
    gradient_checkpointing: bool
    weights_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    cache_bytes: int

    @property
    def training_bytes(self) -> int:
        return self.weights_bytes + self.optimizer_bytes + self.activations_bytes

    @property
    def generation_bytes(self) -> int:
        """While answers are generated, with the optimizer still in memory."""
        return self.weights_bytes + self.optimizer_bytes + self.cache_bytes

    @property
    def peak_bytes(self) -> int:
        return max(self.training_bytes, self.generation_bytes)

    def document(self) -> dict[str, Any]:
        """All of it as JSON values."""
        sums = {"training_bytes": self.training_bytes, "generation_bytes": self.generation_bytes}
        return asdict(self) | sums


def empty_model(path: str, dtype: torch.dtype) -> PreTrainedModel:
    """The architecture of a model path, on the meta device; of an adapter, its base model's."""
    where = resolve_checkpoint(path)
    if (Path(where) / "adapter_config.json").is_file():
        where = resolve_checkpoint(adapter_base(where))
    config = AutoConfig.from_pretrained(where)
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config, dtype=dtype)


def estimate_memory(
    model: PreTrainedModel,
    *,
    model_config: ModelConfig,
    lora: LoraConfig,
    tokens: int,
    vision_tokens: int,
    batch_size: int,
    generation_batch_size: int,
    gradient_checkpointing: bool,
) -> MemoryEstimate:
    """The memory of training on conversations of `tokens` tokens each. Adds adapters to `model`, as training would.

    Raises:
        ConfigError: if nothing would be trained.
    """
    element = model.dtype.itemsize
    text, vision = model.config.text_config, model.config.vision_config
    pixels = 3 * vision.temporal_patch_size * vision.patch_size**2
    trained = prepare_training(model, model_config, lora)
    key_width = text.num_key_value_heads * _head_dim(text)
    query_width = text.num_attention_heads * _head_dim(text)
    layer = 4 * text.hidden_size + 3 * query_width + 3 * key_width + 4 * text.intermediate_size
    saved = text.num_hidden_layers * (text.hidden_size if gradient_checkpointing else layer)
    language = tokens * (saved + layer * gradient_checkpointing) * element
    patches = vision_tokens * PATCHES_PER_TOKEN
    vision_layer = 4 * vision.hidden_size + 6 * vision.hidden_size + 4 * vision.intermediate_size
    stored_layers = 1 if model_config.freeze_vision or gradient_checkpointing else vision.depth
    seeing = patches * (vision_layer * stored_layers * element + pixels * PIXEL_BYTES)
    return MemoryEstimate(
        parameters=_count(trained),
        trained_parameters=_count(trained, trained=True),
        dtype=str(model.dtype).removeprefix("torch."),
        batch_size=batch_size,
        tokens=tokens,
        gradient_checkpointing=gradient_checkpointing,
        weights_bytes=sum(one.numel() * one.element_size() for one in trained.parameters()),
        optimizer_bytes=sum(3 * one.numel() * one.element_size() for one in trained.parameters() if one.requires_grad),
        activations_bytes=batch_size * (language + seeing),
        cache_bytes=generation_batch_size * tokens * text.num_hidden_layers * 2 * key_width * element,
    )


def _count(model: Model, *, trained: bool = False) -> int:
    return sum(one.numel() for one in model.parameters() if one.requires_grad or not trained)


def _head_dim(text: Any) -> int:
    return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
