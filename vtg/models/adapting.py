"""Choosing what of a model is trained: LoRA adapters and whole layers, part by part."""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from vtg.config.model_settings import LoraConfig, PartsConfig
from vtg.config.part_rules import methods
from vtg.errors import ConfigError
from vtg.models.families import family_of
from vtg.models.fused_adapters import fuse_adapters
from vtg.models.loading import Model
from vtg.models.part_table import GROUPS, grouped_parameters, rates, weight_decays
from vtg.models.time_tokens import give_heads_a_bias, vectors

log = logging.getLogger(__name__)

NOTHING = "nothing would be trained: every part is frozen; set one of parts.* to lora or full"

# Where the parts with a rate of their own are switched on, by group.
HOW_TO_TRAIN = {
    "vision": "set parts.vision=lora or full",
    "projector": "set parts.projector=lora or full",
    "experts": "set parts.experts=lora or full",
    "router": "set parts.router=full",
    "embedding": "set parts.embedding=full",
    "head": "set parts.head=full where it is not tied to the embeddings",
    "time_tokens": "they are with task=tokens and LoRA; trained in full, they learn as parts.embedding and head do",
}


def prepare_training(model: Model, parts: PartsConfig, lora: LoraConfig, *, time_tokens: Sequence[int] = ()) -> Model:
    """Sets what is trained: new LoRA adapters, whole parts, or both.

    An adapter that was loaded with the model is trained further as it is, except in groups whose rate is 0.

    Args:
        time_tokens: ids of the temporal tokens, whose rows in embeddings and head are trained whatever else is.

    Raises:
        ConfigError: if nothing would be trained, or the rows of temporal tokens would not be, or nothing of a group
            that is chosen or has a rate or weight decay of its own; for parts that the model has not, and layers of
            LoRA that it has not or that are not to have it.
    """
    _check_mixture(model, parts)
    if isinstance(model, PeftModel):
        log.info("the adapter that was loaded is trained on; lora.* and what parts.* train do not apply")
        for group, _, parameter in grouped_parameters(model):
            if rates(parts)[group] == 0:
                parameter.requires_grad_(False)
    else:
        _check_head(model, parts, lora)
        if lora.enabled:
            model = _with_adapters(model, parts, lora, time_tokens)
        else:
            how, outside = methods(parts, lora), _outside_last_blocks(model, parts)
            for group, name, parameter in grouped_parameters(model):
                in_full = how[group] == "full" and name.rpartition(".")[0] not in outside
                parameter.requires_grad_(in_full and parameter.is_floating_point())
            _check_time_tokens(model, time_tokens)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(NOTHING)
    _check_groups(model, parts)
    return model


def warn_of_rounding(model: Model, *, keeps_float32: bool) -> None:
    """Says which weights are trained in a half-precision type, where small updates are rounded away.

    `keeps_float32`: the optimizer has float32 copies of all weights, as DeepSpeed's has.

    Raises:
        ConfigError: they are float16, whose gradients the Trainer's scaler does not take.
    """
    trained = [(name, one.dtype) for name, one in model.named_parameters() if one.requires_grad]
    half = [(name, dtype) for name, dtype in trained if dtype in (torch.bfloat16, torch.float16)]
    if not half or keeps_float32:
        return
    way_out = (
        "set model.dtype=float32 (a GPU computes in bfloat16 all the same), or deepspeed=zero2, which keeps copies"
    )
    which = f"{len(half)} weights are trained in {str(half[0][1]).removeprefix('torch.')}, {half[0][0]} first"
    if any(dtype == torch.float16 for _, dtype in half):
        raise ConfigError(f"model.dtype = 'float16': {which}, whose gradients cannot be scaled; {way_out}")
    log.warning("%s: updates below some thousandth of a weight are rounded away; %s", which, way_out)


def _with_adapters(
    model: PreTrainedModel, parts: PartsConfig, lora: LoraConfig, time_tokens: Sequence[int]
) -> PeftModel:
    """The model with new adapters in the parts with LoRA, and copies that are trained of the layers trained in full."""
    how, outside = methods(parts, lora), _outside_last_blocks(model, parts)
    groups = {name: group for group, name, _ in grouped_parameters(model)}
    targets = _lora_targets(model, lora.target_modules, groups, how, outside)
    # transformers 5 has all experts of a layer in one parameter each of three axes, which are no linear layers.
    experts = [
        name
        for name, group in groups.items()
        if group == "experts" and how[group] == "lora" and name.rpartition(".")[0] not in outside
    ]
    whole = _whole_layers(model, groups, how, outside)
    if not targets and not experts:
        raise ConfigError(NOTHING)
    embeds = any(groups[f"{name}.{key}"] == "embedding" for name in whole for key in _own(model.get_submodule(name)))
    peft_config = PeftLoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        target_parameters=experts or None,
        # Saved with the adapter. PEFT keeps the layers as they were too, which the reference and the base model need.
        modules_to_save=whole or None,
        trainable_token_indices=_token_rows(model, whole, time_tokens) or None,
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        ensure_weight_tying=embeds and _is_tied(model),
        task_type="CAUSAL_LM",
    )
    built: Any = get_peft_model(model, peft_config)  # type: ignore[arg-type]
    give_heads_a_bias(built)
    fuse_adapters(built)
    return built


def _token_rows(model: PreTrainedModel, whole: list[str], time_tokens: Sequence[int]) -> dict[str, list[int]]:
    """Name of a layer → the rows of it that are trained; none of those that are `whole`."""
    if not time_tokens:
        return {}
    layers: list[Any] = [model.get_input_embeddings()]
    if not _is_tied(model):  # PEFT ties the rows of a tied head by itself
        layers.append(model.get_output_embeddings())
    names = [name for name, module in model.named_modules() if any(module is layer for layer in layers)]
    return {name: list(time_tokens) for name in names if name not in whole}


def _check_time_tokens(model: PreTrainedModel, time_tokens: Sequence[int]) -> None:
    """Raises ConfigError where the rows of temporal tokens are not trained, without LoRA."""
    if not time_tokens:
        return
    for part, weight in zip(("embedding", "head"), vectors(model), strict=False):
        if not weight.requires_grad:
            raise ConfigError(
                f"task.answer = 'tokens': parts.{part} is frozen, so that the {len(time_tokens)} temporal tokens would "
                f"never be learned; set parts.{part}=full, or train with LoRA (lora=default), which trains their rows"
            )


def _own(module: nn.Module) -> list[str]:
    """Names of the parameters that a module has itself."""
    return [key for key, _ in module.named_parameters(recurse=False)]


def _is_tied(model: PreTrainedModel) -> bool:
    return bool(model.config.tie_word_embeddings)


def _whole_layers(model: PreTrainedModel, groups: dict[str, str], how: dict[str, str], outside: set[str]) -> list[str]:
    """Names of the modules with parameters of their own in the parts trained in full; none lies in another."""
    found = list[str]()
    for name, module in model.named_modules():
        # A tied head has the embeddings' parameters, which are named there alone: PEFT ties it again by itself.
        own = {groups.get(f"{name}.{key}") for key in _own(module)} - {None}
        if not any(how[group] == "full" for group in own if group) or name in outside:
            continue
        if not any(name.startswith(f"{outer}.") for outer in found):
            found.append(name)
    return found


def _outside_last_blocks(model: PreTrainedModel, parts: PartsConfig) -> set[str]:
    """Names of the modules that `parts.vision_blocks` and `language_blocks` leave out.

    Raises:
        ConfigError: for more blocks than there are.
    """
    part_of, outside = family_of(model.config).part_of, set[str]()
    owners = [name for name, module in model.named_modules() if module._parameters]
    for part, last in (("vision", parts.vision_blocks), ("language", parts.language_blocks)):
        if last is None:
            continue
        names = [name for name in owners if part_of(name) == part]
        # The first number in a name is the block's: of experts and the like the numbers come after it.
        blocks = [int(found.group(1)) if (found := re.search(r"\.(\d+)\.", f"{name}.")) else None for name in names]
        count = 1 + max(block for block in blocks if block is not None)
        if last > count:
            raise ConfigError(f"parts.{part}_blocks = {last}: there are {count}; set at most {count}, or null for all")
        first = blocks.index(0)  # names come in the order of the layers: embeddings first, the last norm and head last
        for at, (name, block) in enumerate(zip(names, blocks, strict=True)):
            if at < first or (block is not None and block < count - last):
                outside.add(name)
    if parts.embedding == "full":  # asked for by name, wherever it stands
        outside -= {name for name, module in model.named_modules() if module is model.get_input_embeddings()}
    return outside


def _check_mixture(model: Model, parts: PartsConfig) -> None:
    """Raises ConfigError where a dense model is told how to train experts or routers."""
    if any(group in ("experts", "router") for group, _, _ in grouped_parameters(model)):
        return
    for key, value in asdict(parts).items():
        if key.startswith(("experts", "router")) and value not in (None, 0, "auto", "frozen"):
            shown = repr(value) if isinstance(value, str) else value
            raise ConfigError(f"parts.{key} = {shown}: the model is dense, it has no experts and routers; remove it")


def _check_head(model: PreTrainedModel, parts: PartsConfig, lora: LoraConfig) -> None:
    """Raises ConfigError where a head that is tied to the embeddings is to be trained otherwise than they are."""
    how = methods(parts, lora)
    if parts.head == "auto" or how["head"] == how["embedding"]:
        return
    if not any(group == "head" for group, _, _ in grouped_parameters(model)):
        raise ConfigError(
            f"parts.head = {parts.head!r}: the head of this model is tied to the embeddings, which are "
            f"{how['embedding']}; set parts.embedding={parts.head} for both, and remove parts.head"
        )


def _check_groups(model: Model, parts: PartsConfig) -> None:
    """Raises ConfigError where a group has a rate or a weight decay of its own, and no parameter that is trained."""
    trained = {group for group, _, parameter in grouped_parameters(model) if parameter.requires_grad}
    for group in GROUPS:
        own = {f"{group}_lr": rates(parts)[group], f"{group}_weight_decay": weight_decays(parts)[group]}
        for key, value in own.items():
            if value is None or group in trained or (key.endswith("_lr") and value == 0):
                continue
            raise ConfigError(
                f"parts.{key} = {value}: no parameter of the {group} group is trained; {HOW_TO_TRAIN[group]}, or "
                f"set parts.{key}=null"
            )


def _lora_targets(
    model: PreTrainedModel, wanted: Any, groups: dict[str, str], how: dict[str, str], outside: set[str]
) -> list[str]:
    """Names of the linear layers that get an adapter; none of those in `outside`.

    `wanted`: "all-linear" or a list of name endings, both within the parts with LoRA, or a regular expression, which
    must match none of another part. `groups`: of parameters by name; `how` each is trained.

    Raises:
        ConfigError: for what matches no layer, or a layer that is not to have LoRA.
    """
    # PEFT's own matching would also reach the vision tower, which in Qwen2.5-VL shares layer names with the LM.
    linear = {
        name: group
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and name not in outside
        and (group := groups.get(f"{name}.weight", "head")) != "head"
    }
    free = [name for name, group in linear.items() if how[group] == "lora"]
    ways = f"use all-linear, a list of names such as {_examples(linear)}, or a regular expression over names"
    if "experts" in groups.values():
        ways += "; experts are chosen by parts.experts=lora"
    if isinstance(wanted, list):
        ends = {end: [name for name in free if f".{name}".endswith(f".{end}")] for end in wanted}
        unmatched = [end for end, names in ends.items() if not names]
        if unmatched or not wanted:
            raise ConfigError(
                f"lora.target_modules = {wanted!r}: {unmatched} match no linear layer that is not frozen; {ways}"
            )
        return [name for name in free if any(name in names for names in ends.values())]
    if wanted == "all-linear":
        return free
    chosen = [name for name in linear if re.search(wanted, name)]
    if not chosen:
        raise ConfigError(f"lora.target_modules = {wanted!r}: matches no linear layer; {ways}")
    for name in chosen:
        group = linear[name]
        if how[group] != "lora":
            count = sum(linear[other] == group for other in chosen)
            raise ConfigError(
                f"lora.target_modules = {wanted!r}: matches {count} layers such as {name}, but parts.{group} is "
                f"{how[group]}; set parts.{group}=lora, or narrow the expression"
            )
    return chosen


def _examples(names: Iterable[str]) -> str:
    last = sorted({name.rpartition(".")[2] for name in names})
    return ", ".join(last)
