"""Rollouts that cannot be, alone or with other settings: found before any model loads."""

from vtg.config.derived import LAYOUT_ATTENTIONS
from vtg.config.programs import reinforces
from vtg.config.rl_settings import RolloutConfig
from vtg.config.schema import RLConfig, SFTConfig
from vtg.errors import ConfigError


def check_decoding(rollout: RolloutConfig) -> None:
    """Raises ConfigError for a budget of keys or a number of steps that is none, or that the engine does not read."""
    if rollout.key_gib is not None and not rollout.key_gib > 0:
        raise ConfigError(f"rollout.key_gib = {rollout.key_gib}: must be more than 0, or null")
    if rollout.key_gib is not None and rollout.engine == "vllm":
        raise ConfigError(
            f"rollout.key_gib = {rollout.key_gib}: vLLM has a budget of its own; set rollout.key_gib=null and "
            "rl.vllm_gpu_memory_utilization"
        )
    if rollout.compiled_after is not None and rollout.compiled_after < 1:
        raise ConfigError(f"rollout.compiled_after = {rollout.compiled_after}: must be at least 1, or null")
    if rollout.compiled_after is not None and rollout.engine == "vllm":
        raise ConfigError(
            f"rollout.compiled_after = {rollout.compiled_after}: vLLM compiles by itself; set "
            "rollout.compiled_after=null"
        )


def settle_shared_clips(config: SFTConfig) -> None:
    """Says whether clips are shared where `batching.share_video` is null: in reinforcement learning, unless another
    setting keeps prompts from it."""
    if config.batching.share_video is not None:
        return
    own_clips = config.augmentation.crop or config.augmentation.shift  # of each row by itself
    config.batching.share_video = reinforces(config) and not own_clips
    try:
        check_shared_clips(config)
    except ConfigError:
        config.batching.share_video = False


def check_shared_clips(config: SFTConfig) -> None:
    """Raises ConfigError for prompts that shall share their clips, and cannot."""
    batching = config.batching
    if not batching.share_video or not isinstance(config, RLConfig) or not reinforces(config):
        return
    if not config.rollout.share_prompt:
        raise ConfigError(
            "batching.share_video = true with rollout.share_prompt = false: a clip that its prompts share is shared by "
            "their completions too; set rollout.share_prompt=true, or batching.share_video=false"
        )
    if config.model.attention not in ("auto", *LAYOUT_ATTENTIONS):
        raise ConfigError(
            f"batching.share_video = true with model.attention = {config.model.attention!r}, which cannot share "
            "prompts; set model.attention=sdpa, or batching.share_video=false"
        )
    if config.video.pad:
        raise ConfigError(
            "batching.share_video = true with video.pad = true: prompts with padding frames do not share their clips; "
            "set video.pad=false, or batching.share_video=false"
        )
    # A question costs no seconds, and all of its completions' tokens.
    if batching.by == "duration" and not batching.max_batch_size:
        raise ConfigError(
            "batching.share_video = true with batching.by = 'duration' and no batching.max_batch_size: prompts about "
            "one clip cost its seconds once, however many they are; set batching.max_batch_size, or batching=tokens"
        )
    # Prompts that are drawn again are of other clips, which a micro-batch under a budget has no room for.
    if batching.by != "fixed" and config.curriculum.zero_variance == "resample":
        raise ConfigError(
            "curriculum.zero_variance = 'resample' with batching.share_video = true and batching.by = "
            f"{batching.by!r}: prompts drawn in place of others bring clips that the budget has no room for; "
            "set curriculum.zero_variance=drop, batching.by=fixed, or batching.share_video=false"
        )
