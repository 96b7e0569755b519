"""From the settings of a training to the micro-batches and the setup that `vtg.memory.estimate` takes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from vtg.config.derived import (
    LAYOUT_ATTENTIONS,
    activation_checkpointing,
    answer_tokens,
    autocasts,
    is_packed,
    longest_clip_tokens,
    token_cost_of,
)
from vtg.config.schema import RLConfig, SFTConfig
from vtg.memory.estimate import MemoryEstimate, estimate
from vtg.memory.parameters import ParameterCounts
from vtg.memory.training_load import Batch, TrainingSetup
from vtg.models.attention import choose_attention
from vtg.models.families.token_cost import TokenCost
from vtg.models.fused_kernels import uses_liger

# Many short clips may take more than one long clip (masks, logits), so where only the longest is known, clips of half,
# a quarter … of its tokens are estimated too.
HALVINGS = 5

# Length bucketing leaves rows of a padded batch within this share, and so many tokens, of one another.
NEAR, TEXT_SPREAD = 0.03, 24

# Defaults of conf/rl/grpo.yaml, for `rl` settings that leave them out.
GENERATIONS, COMPLETION_TOKENS = 8, 64


@dataclass(frozen=True)
class ClipSize:
    """The size of one conversation: all its tokens, its vision tokens, and the seconds of its clip."""

    tokens: int
    vision_tokens: int
    seconds: float


@dataclass(frozen=True)
class Workload:
    """What a training with these settings computes at once, as far as memory depends on it.

    `cost`: of clips in tokens; None: as the settings tell it.
    """

    config: SFTConfig
    cost: TokenCost | None = None

    def longest_clips(self) -> list[ClipSize]:
        """The largest conversation that these settings allow, and smaller ones, of which a batch holds more."""
        video = self.config.video
        tokens, vision = self._longest_tokens, self._token_cost.longest_vision(video)
        seconds = video.max_frames / (video.fps or 30.0)
        return [ClipSize(tokens >> by, vision >> by, seconds / 2**by) for by in range(HALVINGS)]

    @property
    def _token_cost(self) -> TokenCost:
        return self.cost or token_cost_of(self.config.model)

    @property
    def _longest_tokens(self) -> int:
        return longest_clip_tokens(self.config.video, self._token_cost)

    def training_setup(self, *, gpu: bool, ranks: int) -> TrainingSetup:
        """Precision, sharding and offload of a training with these settings, on `ranks` devices."""
        config, trainer, deepspeed = self.config, self.config.trainer, self.config.deepspeed
        is_half = bool(trainer.get("bf16", gpu and autocasts(config)) or trainer.get("fp16", False))
        asked = activation_checkpointing(trainer)
        device = torch.device("cuda" if gpu and torch.cuda.is_available() else "cpu")
        return TrainingSetup(
            mixed=is_half and not deepspeed.stage,
            # What `auto` comes to depends on the GPU (`vtg.memory.checkpointing`); this fits wherever anything does.
            gradient_checkpointing=("full" if gpu else "none") if asked == "auto" else asked,
            fused=uses_liger(config.model.kernels, on_gpu=gpu),
            accumulates=int(trainer.get("gradient_accumulation_steps", 1)) > 1,
            attention=self._attention(device),
            stage=deepspeed.stage,
            offload_optimizer=deepspeed.offload_optimizer,
            offload_parameters=deepspeed.offload_parameters,
            ranks=ranks,
            # With LoRA the reference is the model with its adapter off: no second copy.
            reference=isinstance(config, RLConfig) and bool(config.rl.get("beta", 0)) and not config.lora.enabled,
            cuda=gpu,
        )

    def _attention(self, device: torch.device) -> str:
        # GRPO shares prompts by a layout, and where it shares none it is estimated alike.
        own = self.config.model.attention
        return (own if own == "varlen" else "sdpa") if self.is_grpo else choose_attention(own, device)

    def weights_dtype(self, *, gpu: bool) -> torch.dtype:
        """The dtype in which weights are loaded on that device."""
        if self.config.model.dtype == "auto":
            return torch.bfloat16 if gpu else torch.float32
        return getattr(torch, self.config.model.dtype)

    @property
    def is_grpo(self) -> bool:
        """Whether the memory of train_rl.py is asked for: some `rl` setting is given."""
        return isinstance(self.config, RLConfig) and bool(self.config.rl)

    def training_batches(self, clips: Iterable[ClipSize]) -> list[Batch]:
        """For each of these sizes, the fullest micro-batch of such clips that the settings plan."""
        return [self._grpo_batch(clip) if self.is_grpo else self._sft_batch(clip) for clip in clips]

    def generation_batch(self, clips: Sequence[ClipSize]) -> Batch:
        """The largest batch that validation and test generate for."""
        longest, size = max(clips, key=lambda clip: clip.tokens), self.config.evaluation.batch_size
        new = self.config.evaluation.max_new_tokens or answer_tokens(self.config.task)
        return Batch(rows=size, length=longest.tokens + new, vision_tokens=size * longest.vision_tokens)

    def estimate(self, counts: ParameterCounts, clips: Sequence[ClipSize], setup: TrainingSetup) -> MemoryEstimate:
        """The estimate for the most expensive batch of clips of these sizes."""
        generating = self.generation_batch(clips)
        estimates = [estimate(counts, batch, setup, generating=generating) for batch in self.training_batches(clips)]
        return max(estimates, key=lambda memory: (memory.training_bytes, memory.generation_bytes))

    def _sft_batch(self, clip: ClipSize) -> Batch:
        count = self._fitting(clip, clip.tokens, budget=self._longest_tokens)
        if is_packed(self.config.batching):
            tokens, vision = count * clip.tokens, count * clip.vision_tokens
            return Batch(rows=1, length=tokens, vision_tokens=vision, conversations=count, packed=True)
        spread = clip.tokens if self.config.batching.by == "fixed" else round(NEAR * clip.tokens) + TEXT_SPREAD
        vision = count * clip.vision_tokens
        masked = count > 1 and self.config.video.pad  # padding at the end of a row needs no mask
        return Batch(rows=count, length=clip.tokens, vision_tokens=vision, masked=masked, spread=spread)

    def _grpo_batch(self, clip: ClipSize) -> Batch:
        config = self.config
        assert isinstance(config, RLConfig)
        group = int(config.rl.get("num_generations", GENERATIONS))
        new = int(config.rl.get("max_completion_length", COMPLETION_TOKENS))
        shared = config.rollout.share_prompt and config.model.attention in ("auto", *LAYOUT_ATTENTIONS)
        each = (1 if shared else group) * clip.tokens + group * new
        budget = self._longest_tokens + group * new
        count, batching = self._fitting(clip, each, budget=budget), config.batching
        if shared and batching.share_video and batching.by != "fixed":
            # The fullest has one clip with as many questions as fit: a prompt with the completions of them all.
            room = (batching.target_batch_tokens or budget) - clip.tokens
            fits = room // (group * new) if batching.by == "tokens" else batching.max_batch_size or 1
            count, group = 1, group * max(1, min(fits, batching.max_batch_size or fits))
        return Batch(
            rows=count,
            length=clip.tokens,
            vision_tokens=count * clip.vision_tokens,
            generations=group,
            completion=new,
            shared=shared,
            masked=not shared,
        )

    def _fitting(self, clip: ClipSize, tokens: int, *, budget: int) -> int:
        """How many conversations of `tokens` tokens fill a batch."""
        batching = self.config.batching
        if batching.by == "fixed":
            return int(self.config.trainer.get("per_device_train_batch_size", 8))  # the Trainer's own default
        if batching.by == "duration":
            fits = int(batching.target_batch_duration / clip.seconds)
        else:
            fits = (batching.target_batch_tokens or budget) // tokens
        return max(1, min(fits, batching.max_batch_size or fits))
