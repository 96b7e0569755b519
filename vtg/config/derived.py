"""What follows from several settings together, asked in more than one place."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vtg.config.data_settings import BatchingConfig
from vtg.config.model_settings import ModelConfig
from vtg.config.rl_settings import RolloutConfig
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.models.families import FAMILIES
from vtg.models.families.token_cost import TokenCost

# Room for prompt and answer: settings are checked before a tokenizer is loaded that could count them.
TEXT_TOKENS = 512

CHECKPOINTING = {
    "none": "all are kept",
    "selective": "half of the layers keep theirs",
    "full": "one layer at a time has its own",
    "auto": "the first of these that fits the GPU's memory, by the estimate",
}
"""Values of `trainer.gradient_checkpointing`; true is full, false none."""


# What attends as a layout of segments and branches says, and so to prompts and clips that are shared.
LAYOUT_ATTENTIONS = ("sdpa", "varlen")


def answer_tokens(task: TaskConfig) -> int:
    """Tokens that an answer of spans gets where nobody says how many: some thinking, a set of some twenty moments, or a
    moment."""
    return 1024 if task.think else 384 if task.moments == "set" else 48


def is_packed(batching: BatchingConfig) -> bool:
    """Whether batches are one sequence of samples end to end."""
    return batching.packing or bool(batching.share_video)


def shares_prompts(rollout: RolloutConfig, model: ModelConfig) -> bool:
    """Whether a prompt runs once for all of its completions, once `model.attention` is no longer `auto`."""
    return rollout.share_prompt and model.attention in LAYOUT_ATTENTIONS


def activation_checkpointing(trainer: Mapping[str, Any]) -> str:
    """What a training recomputes in the backward pass, to hold less: one of CHECKPOINTING."""
    # transformers 5.24 renamed gradient_checkpointing; the older name counts where the newer one is not set.
    newer = trainer.get("activation_checkpointing")
    asked = trainer.get("gradient_checkpointing", False) if newer is None else newer
    return str({True: "full", False: "none"}.get(asked, asked))


def autocasts(config: Any) -> bool:
    """Whether a training on a GPU in bfloat16 needs autocast: something besides plain adapters computes with float32
    weights. Plain ones compute in the type of what they read (`vtg.models.fused_adapters`).
    """
    parts, lora = config.parts, config.lora
    in_float32 = lora.enabled and (lora.use_dora or parts.experts == "lora")
    # DeepSpeed autocasts nothing, but takes its own type of the weights from this setting.
    return config.model.dtype == "float32" or in_float32 or config.deepspeed.is_on


def needs_mask(batching: BatchingConfig, video: VideoConfig) -> bool:
    """Whether batches need an attention mask of their own, which FlashAttention does not take."""
    return bool(batching.share_video) or (batching.packing and video.pad)


def token_cost_of(model: ModelConfig) -> TokenCost:
    """What clips cost in tokens, as far as settings tell: `vtg.data.encoding.token_cost` asks a processor."""
    costs = [family.token_cost for family in FAMILIES.values()]
    # No two families have vision tokens of one size, but Qwen3.5 and Qwen3-VL, which count alike; a size of none is of
    # a model made for tests, and loading refuses a size that is not the model's.
    other = replace(costs[0], factor=model.patch_factor)
    return next((cost for cost in costs if cost.factor == model.patch_factor), other)


def longest_clip_tokens(video: VideoConfig, cost: TokenCost) -> int:
    """The most tokens that a sample can have under these settings, prompt and answer included."""
    return cost.longest_vision(video) + cost.longest_stamps(video) + TEXT_TOKENS
