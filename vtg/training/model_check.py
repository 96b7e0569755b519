"""What is chosen to be trained, and an adapter that is trained on, tried on a model without weights: before any are
read."""

import logging
from typing import Any

import torch

from vtg.config.part_rules import zero_stage
from vtg.config.schema import RLConfig, SFTConfig
from vtg.errors import ConfigError
from vtg.memory.parameters import empty_model
from vtg.memory.workload import COMPLETION_TOKENS
from vtg.models.adapting import prepare_training
from vtg.models.checkpoint import is_adapter, resolve_base, resolve_checkpoint
from vtg.models.fit import check_adapter_shapes
from vtg.models.loading import load_processor
from vtg.models.part_table import grouped_parameters
from vtg.models.time_tokens import add_rows
from vtg.tasks.span_task import SpanTask
from vtg.tasks.time_vocabulary import add_time_tokens

log = logging.getLogger(__name__)


def check_model(config: SFTConfig) -> None:
    """Raises ConfigError for settings that the model's layers do not allow, and for an adapter of another model, before
    weights are read.

    To be called before the Trainer's arguments are made: from then on ZeRO-3 would part the model's parameters.
    """
    model = empty_model(config.model.path, torch.float32)
    has_experts = any(group == "experts" for group, _, _ in grouped_parameters(model))
    if has_experts and isinstance(config, RLConfig) and config.rollout.engine == "vllm":
        raise ConfigError(
            f"rollout.engine = 'vllm': {config.model.path} is a mixture of experts, with which vLLM was not tried; set "
            "rollout.engine=transformers"
        )
    if has_experts and config.model.quantization != "none":
        kept = sum(one.numel() for group, _, one in grouped_parameters(model) if group == "experts")
        share = 100 * kept / sum(one.numel() for one in model.parameters())
        log.warning(
            "model.quantization = %s: bitsandbytes leaves experts as they are, %.0f %% of this model's parameters",
            *(config.model.quantization, share),
        )
    task = SpanTask(config.task)
    task.check_room(config.evaluation.max_new_tokens or task.room, key="evaluation.max_new_tokens")
    if isinstance(config, RLConfig):
        task.check_room(int(config.rl.get("max_completion_length", COMPLETION_TOKENS)), key="rl.max_completion_length")
    tokens = task.tokens()
    if tokens and config.lora.enabled and zero_stage(config.deepspeed) == 3:
        # PEFT 0.21 reads and copies the whole table, of which a rank has its part alone.
        raise ConfigError(
            "task.answer = 'tokens': with LoRA, the rows of temporal tokens were not tried under ZeRO-3; set "
            "deepspeed=zero2, lora=none, or task=bins"
        )
    if tokens:  # found here: from the adapter's base, weights would load first
        processor: Any = load_processor(config.model.path)
        if add_time_tokens(processor.tokenizer, config.task, path=config.model.path):
            _check_reference(config)
    where = resolve_checkpoint(config.model.path)
    if is_adapter(where):
        check_adapter_shapes(where, model, base=resolve_base(config.model.path))
    else:
        prepare_training(model, config.parts, config.lora, time_tokens=add_rows(model, len(tokens)))


def _check_reference(config: SFTConfig) -> None:
    """Raises ConfigError where TRL would load a model without the new tokens as the reference, and share it out."""
    if not isinstance(config, RLConfig) or config.lora.enabled:
        return
    if zero_stage(config.deepspeed) and config.rl.get("beta"):
        raise ConfigError(
            f"task.answer = 'tokens': {config.model.path} has no temporal tokens yet, and under DeepSpeed the "
            "reference of rl.beta cannot be given any; train it with train_sft.py first, or set rl.beta=0 or "
            "deepspeed=none"
        )
