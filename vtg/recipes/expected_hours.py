"""Hours that a recipe takes at most, from its settings and what benchmarks/gpu.py measured on one H200."""

from vtg.config.derived import longest_clip_tokens, token_cost_of
from vtg.config.schema import RLConfig, SFTConfig

GPUS = 8
TOKENS_PER_S_AT_4B = 7000.0
"""benchmarks/README.md: LoRA on one clip of Qwen3-VL-4B's shape 6,930 tokens/s, full training 7,795."""
S_PER_COMPLETION_TOKEN = 0.085
"""Likewise: a rollout of 8 completions of one prompt, a token of all eight."""
PROMPT_PASSES = 2.0
"""In GRPO a prompt runs through the model for the rollout (forward) and for the update (forward and backward)."""

BILLIONS = {"2B": 2.1, "3B": 3.8, "4B": 4.4, "7B": 8.3, "8B": 8.8}
"""Name of a model's size → billions of weights (vision tower included), from the models' pages on the hub."""


def estimated_hours(config: SFTConfig, *, rows: int) -> float:
    """Hours on `GPUS` H200, were every clip as long as the settings allow and every completion as long as it may be.

    Args:
        config: of the recipe, composed for one GPU.
        rows: of the training file.
    """
    size = next(billions for name, billions in BILLIONS.items() if f"-{name}" in config.model.path)
    tokens_per_s = TOKENS_PER_S_AT_4B * BILLIONS["4B"] / size
    prompt_s = longest_clip_tokens(config.video, token_cost_of(config.model)) / tokens_per_s
    if isinstance(config, RLConfig):
        prompt_s = PROMPT_PASSES * prompt_s + config.rl["max_completion_length"] * S_PER_COMPLETION_TOKEN
    steps = config.trainer["max_steps"]
    a_step = config.trainer["per_device_train_batch_size"] * config.trainer["gradient_accumulation_steps"]
    samples = steps * a_step if steps > 0 else rows * config.trainer["num_train_epochs"]
    return samples * prompt_s / GPUS / 3600
