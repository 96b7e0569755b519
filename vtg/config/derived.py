"""What follows from several settings together, asked in more than one place."""

from collections.abc import Mapping
from typing import Any

from vtg.config.data_settings import BatchingConfig
from vtg.config.model_settings import ModelConfig
from vtg.config.rl_settings import RolloutConfig
from vtg.config.video_settings import VideoConfig

# Room for prompt and answer: settings are checked before a tokenizer is loaded that could count them.
TEXT_TOKENS = 512

# At most so many text tokens stand around one temporal patch: `<123.4 seconds>`, start and end of vision.
STAMP_TOKENS = 12


def is_packed(batching: BatchingConfig) -> bool:
    """Whether batches are one sequence of samples end to end."""
    return batching.packing or batching.share_video


def shares_prompts(rollout: RolloutConfig, model: ModelConfig) -> bool:
    """Whether a prompt runs once for all of its completions, once `model.attention` is no longer `auto`."""
    return rollout.share_prompt and model.attention == "sdpa"


def checkpoints_activations(trainer: Mapping[str, Any]) -> bool:
    """Whether a training recomputes activations in the backward pass, to hold fewer."""
    # transformers 5.24 renamed gradient_checkpointing; the older name counts where the newer one is not set.
    newer = trainer.get("activation_checkpointing")
    return bool(trainer.get("gradient_checkpointing", False) if newer is None else newer)


def needs_mask(batching: BatchingConfig, video: VideoConfig) -> bool:
    """Whether batches need an attention mask of their own, which FlashAttention does not take."""
    return batching.share_video or (batching.packing and video.pad)


def longest_clip_tokens(video: VideoConfig, model: ModelConfig) -> int:
    """The most tokens that a sample can have under these settings, prompt and answer included."""
    vision = min(video.total_pixels, video.max_frames * video.max_pixels) // (2 * model.patch_factor**2)
    return vision + STAMP_TOKENS * -(-video.max_frames // 2) + TEXT_TOKENS
