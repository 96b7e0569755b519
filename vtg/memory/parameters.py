"""A model counted on PyTorch's meta device, adapters included: its parameters, and the numbers of its config."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, PretrainedConfig, PreTrainedModel

from vtg.config.schema import LoraConfig, ModelConfig
from vtg.memory.published_shapes import known_config
from vtg.models.checkpoint import check_model_type, resolve_base
from vtg.models.hub import find_model
from vtg.models.loading import Model, part_of, prepare_training


@dataclass(frozen=True)
class Shape:
    """Numbers of a model's config; widths are those of the language model, `tower_` those of the vision tower."""

    hidden: int
    queries: int
    keys: int
    heads: int
    mlp: int
    layers: int
    vocabulary: int
    norms_queries: bool
    tied: bool
    tower: int
    tower_mlp: int
    tower_layers: int
    patch_numbers: int
    projections: int

    @classmethod
    def of(cls, config: Any) -> "Shape":
        text, vision = config.text_config, config.vision_config
        head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        is_qwen3 = config.model_type.startswith("qwen3")
        return cls(
            hidden=text.hidden_size,
            queries=text.num_attention_heads * head,
            keys=text.num_key_value_heads * head,
            heads=text.num_attention_heads,
            mlp=text.intermediate_size,
            layers=text.num_hidden_layers,
            vocabulary=text.vocab_size,
            norms_queries=is_qwen3,
            tied=bool(config.tie_word_embeddings),
            tower=vision.hidden_size,
            tower_mlp=vision.intermediate_size * (1 if is_qwen3 else 2),  # Qwen2.5-VL's is gated
            tower_layers=vision.depth,
            patch_numbers=3 * vision.temporal_patch_size * vision.patch_size**2,
            projections=1 + len(getattr(vision, "deepstack_visual_indexes", None) or ()),
        )


@dataclass(frozen=True)
class Counted:
    """A model as training builds it: its shape, and its parameters by what becomes of them.

    `rank`: of its adapters, 0 without. `trained_parts`: of `vtg.models.loading.PARTS`, those that learn.
    """

    shape: Shape
    parameters: int
    trained_parameters: int
    weights_bytes: int
    trained_bytes: int
    dtype: torch.dtype
    rank: int
    trained_parts: frozenset[str]


def empty_model(path: str, dtype: torch.dtype) -> PreTrainedModel:
    """The architecture of a model path, on the meta device; of an adapter, its base model's.

    Models that conf/model names are built from numbers that are written down (vtg.memory.published_shapes).

    Raises:
        ConfigError: for a model that is not here and cannot be fetched, or of a type that vtg was not tried with.
    """
    where = resolve_base(path)
    config = known_config(where)
    if config is None:
        find_model(path)
        check_model_type(path, PretrainedConfig.get_config_dict(where)[0].get("model_type"))
        config = AutoConfig.from_pretrained(where, trust_remote_code=False)
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config, dtype=dtype, trust_remote_code=False)


def count(model: PreTrainedModel, model_config: ModelConfig, lora: LoraConfig) -> Counted:
    """What there is of a model. Adds adapters to `model`, as training would.

    Raises:
        ConfigError: if nothing would be trained.
    """
    shape, dtype = Shape.of(model.config), model.dtype
    built: Model = prepare_training(model, model_config, lora)
    named = list(built.named_parameters())
    trained = [(name, one) for name, one in named if one.requires_grad]
    return Counted(
        shape=shape,
        parameters=sum(one.numel() for _, one in named),
        trained_parameters=sum(one.numel() for _, one in trained),
        weights_bytes=sum(one.numel() * one.element_size() for _, one in named),
        trained_bytes=sum(one.numel() * one.element_size() for _, one in trained),
        dtype=dtype,
        rank=lora.r if lora.enabled else 0,
        trained_parts=frozenset(part_of(name) for name, _ in trained),
    )
