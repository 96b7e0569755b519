"""From settings to what a micro-batch holds and how it is trained: what `vtg.memory.estimate` estimates for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from vtg.config.rules import checkpoints_activations, is_packed, longest_clip_tokens
from vtg.config.schema import RLConfig, SFTConfig
from vtg.memory.estimate import MemoryEstimate, estimate
from vtg.memory.parameters import Counted
from vtg.memory.training_load import Batch, Way
from vtg.models.loading import choose_attention

HALVINGS = 5
"""Where only the longest clip is known, clips of half, a quarter … of its tokens are looked at too."""

NEAR, TEXT_SPREAD = 0.03, 24
"""Conversations that are planned into a padded batch have nearly the same length: this share and so many tokens."""

GENERATIONS, COMPLETION_TOKENS = 8, 64
"""Of conf/rl/grpo.yaml, where `rl` says nothing else."""


@dataclass(frozen=True)
class ClipSize:
    """What one conversation takes: tokens in all, those of its vision, and the seconds of its clip."""

    tokens: int
    vision_tokens: int
    seconds: float


def longest_clips(config: SFTConfig) -> list[ClipSize]:
    """The largest conversation that these settings allow, and smaller ones: more of them are in a batch."""
    video, tokens = config.video, longest_clip_tokens(config.video, config.model)
    vision = min(video.total_pixels, video.max_frames * video.max_pixels) // (2 * config.model.patch_factor**2)
    seconds = video.max_frames / (video.fps or 30.0)
    return [ClipSize(tokens >> by, vision >> by, seconds / 2**by) for by in range(HALVINGS)]


def way_of(config: SFTConfig, *, gpu: bool, ranks: int) -> Way:
    """How these settings train on a device."""
    trainer, deepspeed = config.trainer, config.deepspeed
    is_half = bool(trainer.get("bf16", gpu) or trainer.get("fp16", False))
    device = torch.device("cuda" if gpu and torch.cuda.is_available() else "cpu")
    return Way(
        mixed=is_half and not deepspeed.stage,
        gradient_checkpointing=checkpoints_activations(trainer),
        accumulates=int(trainer.get("gradient_accumulation_steps", 1)) > 1,
        attention="sdpa" if is_grpo(config) else choose_attention(config.model.attention, device),
        stage=deepspeed.stage,
        offload_optimizer=deepspeed.offload_optimizer,
        offload_parameters=deepspeed.offload_parameters,
        ranks=ranks,
        reference=isinstance(config, RLConfig) and bool(config.rl.get("beta", 0)) and not config.lora.enabled,
        cuda=gpu,
    )


def weights_dtype(config: SFTConfig, *, gpu: bool) -> torch.dtype:
    """The type in which weights are loaded there."""
    if config.model.dtype == "auto":
        return torch.bfloat16 if gpu else torch.float32
    return getattr(torch, config.model.dtype)


def is_grpo(config: SFTConfig) -> bool:
    """Whether it is train_rl.py whose memory is asked for: `rl` says something."""
    return isinstance(config, RLConfig) and bool(config.rl)


def training_batches(config: SFTConfig, clips: Iterable[ClipSize]) -> list[Batch]:
    """The fullest micro-batch of clips of each of these sizes: as batching, or GRPO's, plans them."""
    return [_grpo_batch(config, clip) if is_grpo(config) else _sft_batch(config, clip) for clip in clips]


def answering_batch(config: SFTConfig, clips: Sequence[ClipSize]) -> Batch:
    """The largest batch of validation and test."""
    longest, size = max(clips, key=lambda clip: clip.tokens), config.evaluation.batch_size
    new = config.evaluation.max_new_tokens
    return Batch(rows=size, length=longest.tokens + new, vision_tokens=size * longest.vision_tokens)


def estimate_settings(config: SFTConfig, counted: Counted, clips: Sequence[ClipSize], way: Way) -> MemoryEstimate:
    """The estimate of the batch that takes most, of clips of these sizes."""
    answering = answering_batch(config, clips)
    found = [estimate(counted, batch, way, answering=answering) for batch in training_batches(config, clips)]
    return max(found, key=lambda one: (one.training_bytes, one.generation_bytes))


def _sft_batch(config: SFTConfig, clip: ClipSize) -> Batch:
    count = _fitting(config, clip, clip.tokens, budget=longest_clip_tokens(config.video, config.model))
    if is_packed(config.batching):
        masked = config.model.attention != "flash_attention_2"
        tokens, vision = count * clip.tokens, count * clip.vision_tokens
        return Batch(rows=1, length=tokens, vision_tokens=vision, conversations=count, packed=masked)
    spread = clip.tokens if config.batching.by == "fixed" else round(NEAR * clip.tokens) + TEXT_SPREAD
    vision = count * clip.vision_tokens
    return Batch(rows=count, length=clip.tokens, vision_tokens=vision, masked=count > 1, spread=spread)


def _grpo_batch(config: SFTConfig, clip: ClipSize) -> Batch:
    assert isinstance(config, RLConfig)
    group = int(config.rl.get("num_generations", GENERATIONS))
    new = int(config.rl.get("max_completion_length", COMPLETION_TOKENS))
    shared = config.rollout.share_prompt and config.model.attention in ("auto", "sdpa")
    each = (1 if shared else group) * clip.tokens + group * new
    budget = longest_clip_tokens(config.video, config.model) + group * new
    count = _fitting(config, clip, each, budget=budget)
    return Batch(
        rows=count,
        length=clip.tokens,
        vision_tokens=count * clip.vision_tokens,
        generations=group,
        completion=new,
        shared=shared,
        masked=not shared,
    )


def _fitting(config: SFTConfig, clip: ClipSize, tokens: int, *, budget: int) -> int:
    """How many conversations like this, of so many tokens each, make a full batch."""
    batching = config.batching
    if batching.by == "fixed":
        return int(config.trainer.get("per_device_train_batch_size", 8))
    if batching.by == "duration":
        fits = int(batching.target_batch_duration / clip.seconds)
    else:
        fits = (batching.target_batch_tokens or budget) // tokens
    return max(1, min(fits, batching.max_batch_size or fits))
