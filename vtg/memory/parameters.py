"""Parameters of a model, adapters included, counted on PyTorch's meta device."""

from dataclasses import dataclass

import torch
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from vtg.config.model_settings import LoraConfig, PartsConfig
from vtg.memory.published_shapes import published_config
from vtg.memory.shape import Shape
from vtg.models import fit
from vtg.models.adapting import prepare_training
from vtg.models.checkpoint import check_model_type, resolve_base
from vtg.models.families import family_of
from vtg.models.hub import find_model
from vtg.models.loading import Model
from vtg.models.part_table import TIME_TOKENS, grouped_parameters
from vtg.models.quantization import quantized_bytes
from vtg.models.time_tokens import add_rows


@dataclass(frozen=True)
class ParameterCounts:
    """Parameters of a model as training builds it: all, and those that are trained.

    `rank`: of its LoRA adapters, 0 without. `trained_parts`: those of `ModelFamily.part_of` that are trained;
    `merged_experts`: parameters of experts that have adapters, which PEFT adds to their weights in every forward pass.
    `token_rows`: PEFT trains rows of the embeddings and the head alone, and puts them into a copy of the whole table.
    `full_parts`: groups (`vtg.models.part_table.GROUPS`) with weights of the model itself and not adapters alone.
    `quantization`: as `model.quantization`.
    """

    shape: Shape
    parameters: int
    trained_parameters: int
    weights_bytes: int
    trained_bytes: int
    tower_trained_bytes: int
    merged_experts: int
    token_rows: bool
    dtype: torch.dtype
    rank: int
    trained_parts: frozenset[str]
    full_parts: frozenset[str]
    quantization: str = "none"


def empty_model(path: str, dtype: torch.dtype) -> PreTrainedModel:
    """The model of a path without weights, on the meta device; of an adapter, its base model.

    Models that conf/model names are built from the sizes in vtg.memory.published_shapes.

    Raises:
        ConfigError: for a model that is not here and cannot be fetched, or of a type that vtg was not tried with.
    """
    where = resolve_base(path)
    # The hub is asked only for other models, so that an estimate needs no network.
    config = published_config(where)
    if config is None:
        find_model(path)
        check_model_type(path, PretrainedConfig.get_config_dict(where)[0].get("model_type"))
        config = AutoConfig.from_pretrained(where, trust_remote_code=False)
    return fit.empty_model(config, dtype=dtype)


def count(
    model: PreTrainedModel,
    parts: PartsConfig,
    lora: LoraConfig,
    *,
    quantization: str = "none",
    time_tokens: int = 0,
) -> ParameterCounts:
    """Counts the parameters of `model`, to which it adds adapters as training would.

    Args:
        model: not quantized; its bytes are counted as `quantization` (`model.quantization`) makes them.
        time_tokens: how many temporal tokens training adds to it.

    Raises:
        ConfigError: if nothing would be trained.
    """
    added = add_rows(model, time_tokens)
    shape, dtype = Shape.of(model.config), model.dtype
    part_of = family_of(model.config).part_of
    packed = quantized_bytes(quantization, model)
    built: Model = prepare_training(model, parts, lora, time_tokens=added)
    named = list(built.named_parameters())
    trained = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    return ParameterCounts(
        shape=shape,
        parameters=sum(parameter.numel() for _, parameter in named),
        trained_parameters=sum(parameter.numel() for _, parameter in trained),
        # Each by its own dtype: PEFT makes the adapters of a bf16 model in float32.
        weights_bytes=sum(packed.get(id(one), one.numel() * one.element_size()) for _, one in named),
        trained_bytes=sum(parameter.numel() * parameter.element_size() for _, parameter in trained),
        tower_trained_bytes=sum(one.numel() * one.element_size() for name, one in trained if part_of(name) == "vision"),
        merged_experts=_merged_experts(built),
        token_rows=any(TIME_TOKENS in name for name, _ in trained),
        dtype=dtype,
        rank=lora.r if lora.enabled else 0,
        trained_parts=frozenset(part_of(name) for name, _ in trained),
        full_parts=frozenset(
            group
            for group, name, parameter in grouped_parameters(built)
            if parameter.requires_grad and ".lora_" not in name
        ),
        quantization=quantization,
    )


def _merged_experts(model: Model) -> int:
    experts = [(name, one) for group, name, one in grouped_parameters(model) if group == "experts"]
    if not any(".lora_" in name and one.requires_grad for name, one in experts):
        return 0
    return sum(one.numel() for name, one in experts if ".lora_" not in name)
