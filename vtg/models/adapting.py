"""Choosing what of a model is trained: LoRA adapters and whole layers, part by part."""

import logging
import re
from collections.abc import Iterable
from typing import Any

from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from vtg.config.model_settings import LoraConfig, PartsConfig
from vtg.config.part_rules import methods
from vtg.errors import ConfigError
from vtg.models.families import family_of
from vtg.models.loading import Model
from vtg.models.part_table import GROUPS, grouped_parameters, rates, weight_decays
from vtg.models.quantization import size_of

log = logging.getLogger(__name__)

# Where the parts with a rate of their own are switched on, by group.
HOW_TO_TRAIN = {
    "vision": "set parts.vision=lora or full",
    "projector": "set parts.projector=lora or full",
    "embedding": "set lora=none",
    "head": "it trains with lora=none where it is not tied to the embeddings",
}


def prepare_training(model: Model, parts: PartsConfig, lora: LoraConfig) -> Model:
    """Sets what is trained: new LoRA adapters, whole parts, or both.

    An adapter that was loaded with the model is trained further as it is, except in groups whose rate is 0.

    Raises:
        ConfigError: if nothing would be trained, or nothing of a group that has a rate or weight decay of its own.
    """
    if isinstance(model, PeftModel):
        log.info("the adapter that was loaded is trained on; lora.* and what parts.* train do not apply")
    elif lora.enabled:
        model = _with_adapters(model, parts, lora)
    else:
        how, outside = methods(parts, lora), _outside_last_blocks(model, parts)
        part_of = family_of(model.config).part_of
        for name, parameter in model.named_parameters():
            in_full = how[part_of(name)] == "full" and name.rpartition(".")[0] not in outside
            parameter.requires_grad_(in_full and parameter.is_floating_point())
    for group, _, parameter in grouped_parameters(model):
        if rates(parts)[group] == 0:
            parameter.requires_grad_(False)
    trained = sum(size_of(parameter) for parameter in model.parameters() if parameter.requires_grad)
    total = sum(size_of(parameter) for parameter in model.parameters())
    if not trained:
        raise ConfigError("nothing would be trained: every part is frozen; set one of parts.* to lora or full")
    _check_groups(model, parts)
    log.info("training %s of %s parameters (%.1f %%)", f"{trained:,}", f"{total:,}", 100 * trained / total)
    return model


def _with_adapters(model: PreTrainedModel, parts: PartsConfig, lora: LoraConfig) -> PeftModel:
    """The model with new adapters in the parts with LoRA, and copies that are trained of the layers trained in full."""
    how, outside = methods(parts, lora), _outside_last_blocks(model, parts)
    wanted = {part for part, method in how.items() if method == "lora"}
    targets = _lora_targets(model, lora.target_modules, wanted, outside) if wanted else []
    in_full = {part for part, method in how.items() if method == "full"}
    if not targets:
        raise ConfigError("nothing would be trained: every part is frozen; set one of parts.* to lora or full")
    peft_config = PeftLoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        # Saved with the adapter. PEFT keeps the layers as they were too, which the reference and the base model need.
        modules_to_save=_whole_layers(model, in_full, outside, parts) or None,
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        ensure_weight_tying="language" in in_full and bool(model.config.tie_word_embeddings),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, peft_config)  # type: ignore[arg-type,return-value]


def _whole_layers(model: PreTrainedModel, in_full: set[str], outside: set[str], parts: PartsConfig) -> list[str]:
    """Names of the modules with parameters of their own in these parts; none lies in another."""
    part_of, found = family_of(model.config).part_of, list[str]()
    frozen = {name for group, name, _ in grouped_parameters(model) if rates(parts)[group] == 0}
    for name, module in model.named_modules():
        own = {f"{name}.{key}" for key, _ in module.named_parameters(recurse=False)}
        if not own or name in outside or part_of(name) not in in_full or own <= frozen:
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
    return outside


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


def _lora_targets(model: PreTrainedModel, wanted: Any, parts: set[str], outside: set[str]) -> list[str]:
    """Names of the linear layers that get an adapter.

    `wanted`: "all-linear", a list of name endings (both within `parts`), or a regular expression; `outside`: modules
    that get none in any case.
    """
    # PEFT's own matching would also reach the vision tower, which in Qwen2.5-VL shares layer names with the LM.
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "lm_head" not in name and name not in outside
    ]
    part_of = family_of(model.config).part_of
    free = [name for name in linear if part_of(name) in parts]
    ways = f"use all-linear, a list of names such as {_examples(linear)}, or a regular expression over names"
    if isinstance(wanted, list):
        ends = {end: [name for name in free if f".{name}".endswith(f".{end}")] for end in wanted}
        unmatched = [end for end, names in ends.items() if not names]
        if unmatched or not wanted:
            raise ConfigError(
                f"lora.target_modules = {wanted!r}: {unmatched} match no linear layer that is not frozen; {ways}"
            )
        return [name for name in free if any(name in names for names in ends.values())]
    chosen = free if wanted == "all-linear" else [name for name in linear if re.search(wanted, name)]
    if not chosen:
        raise ConfigError(f"lora.target_modules = {wanted!r}: matches no linear layer; {ways}")
    return chosen


def _examples(names: Iterable[str]) -> str:
    last = sorted({name.rpartition(".")[2] for name in names})
    return ", ".join(last)
