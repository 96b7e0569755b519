"""Which settings fit into how much memory: a search over models, LoRA, ZeRO and the budget of frames and pixels.

For LoRA, QLoRA and full fine-tuning, the largest model that can see enough of a video (`ENOUGH` vision tokens), with as
large a budget as fits, without DeepSpeed where that goes. A tenth of the memory is left free.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from vtg.config.data_settings import BatchingConfig
from vtg.config.model_settings import DeepspeedConfig, LoraConfig, ModelConfig, PartsConfig
from vtg.config.schema import SFTConfig
from vtg.config.task_settings import EvaluationConfig
from vtg.config.video_settings import VideoConfig
from vtg.memory.estimate import MemoryEstimate
from vtg.memory.parameters import ParameterCounts, count, empty_model
from vtg.memory.workload import Workload

MODELS = {
    "qwen3_5_27b": "Qwen/Qwen3.5-27B",
    "qwen3_5_9b": "Qwen/Qwen3.5-9B",
    "qwen3_5_4b": "Qwen/Qwen3.5-4B",
    "qwen3_5_2b": "Qwen/Qwen3.5-2B",
    "qwen3_5_0_8b": "Qwen/Qwen3.5-0.8B",
}
"""Choices of conf/model, largest first: the largest that fits is proposed."""

# Ways of training that are proposed for, each with its best settings: `lora`, and of it `model.quantization`.
WAYS = ((True, "none"), (True, "4bit"), (False, "none"))

DEEPSPEED = {
    "none": DeepspeedConfig(),
    "zero2": DeepspeedConfig(stage=2),
    "zero3": DeepspeedConfig(stage=3),
    "zero2_offload": DeepspeedConfig(stage=2, offload_optimizer=True),
    "zero3_offload": DeepspeedConfig(stage=3, offload_optimizer=True, offload_parameters=True),
}
"""Choices of conf/deepspeed, the fastest first: offload is proposed only where nothing else fits."""

BUDGETS = (24576, 16384, 12288, 8192, 6144, 4096, 3072, 2048, 1024)
"""Vision tokens of a clip that are tried."""

# Vision tokens (192 frames of 256 x 256 pixels) below which a smaller model that sees more is proposed instead.
ENOUGH = 6144

# Qwen3.5 and Qwen3-VL: two frames a temporal patch, 32 x 32 pixels a token.
PIXELS_PER_TOKEN = 2 * 32**2
# Of a frame of min_pixels, 65536: with more frames than this allows, frames would have to shrink below that.
TOKENS_PER_FRAME = 32

# Their processors' own limit of frames a video.
MAX_FRAMES = 768
# Values of evaluation.batch_size that are tried: generation can take more memory than training does.
EVALUATION_BATCHES = (8, 4, 2, 1)

# Share of a GPU's memory that an estimate may take: the rest is for fragmentation, which is not estimated.
SHARE = 0.9

GB = 10**9


@dataclass(frozen=True)
class Proposal:
    """Settings that fit: choices of config groups, keys, and what they take.

    `host_bytes`: what DeepSpeed keeps in the memory of the host, of all processes together.
    """

    memory_gb: int
    model: str
    lora: bool
    quantization: str
    deepspeed: str
    max_frames: int
    vision_tokens: int
    evaluation_batch_size: int
    peak_bytes: int
    host_bytes: int

    def overrides(self) -> list[str]:
        """The words to start train_sft.py with."""
        return [
            f"model={self.model}",
            *([] if self.lora else ["lora=none"]),
            *([] if self.quantization == "none" else ["lora=qlora"]),
            *(["model.dtype=float32"] if needs_float32(lora=self.lora, deepspeed=self.deepspeed) else []),
            *([] if self.deepspeed == "none" else [f"deepspeed={self.deepspeed}"]),
            f"video.max_frames={self.max_frames}",
            f"video.total_pixels={self.vision_tokens * PIXELS_PER_TOKEN}",
            f"evaluation.batch_size={self.evaluation_batch_size}",
        ]

    def document(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return dict(vars(self)) | {"overrides": " ".join(self.overrides())}


def propose(memory_gb: Sequence[int], *, gpus: int = 1) -> list[Proposal]:
    """For each memory of one GPU, the best settings with LoRA, with QLoRA and in full, where there are any."""
    best = [_best(size, lora=lora, quantization=bits, gpus=gpus) for size in memory_gb for lora, bits in WAYS]
    return [proposal for proposal in best if proposal is not None]


def _best(memory_gb: int, *, lora: bool, quantization: str, gpus: int) -> Proposal | None:
    fallback = None
    for model in MODELS:
        for deepspeed in DEEPSPEED:
            if (deepspeed in ("zero2", "zero3") and gpus == 1) or (lora and deepspeed != "none" and gpus == 1):
                continue  # one rank has nothing to shard; and an adapter's optimizer states are too small to offload
            if quantization != "none" and DEEPSPEED[deepspeed].stage == 3:
                continue  # refused: ZeRO-3 cannot part 4-bit weights
            ways = {"lora": lora, "quantization": quantization, "deepspeed": deepspeed}
            fitting = next(_fitting(memory_gb, model, **ways, gpus=gpus), None)
            if fitting is not None and fitting.vision_tokens >= ENOUGH:
                return fitting
            if fitting is not None and (fallback is None or fitting.vision_tokens > fallback.vision_tokens):
                fallback = fitting
    return fallback


def _fitting(
    memory_gb: int, model: str, *, lora: bool, quantization: str, deepspeed: str, gpus: int
) -> Iterator[Proposal]:
    """Settings of this model that fit, the largest budget first."""
    limit = SHARE * memory_gb * GB
    for tokens in BUDGETS:
        for evaluated in EVALUATION_BATCHES:
            config = settings(
                model, lora=lora, quantization=quantization, deepspeed=deepspeed, tokens=tokens, evaluated=evaluated
            )
            memory = estimated(config, model, gpus=gpus)
            if memory.training_bytes > limit:
                break
            if memory.peak_bytes <= limit:
                yield Proposal(
                    memory_gb=memory_gb,
                    model=model,
                    lora=lora,
                    quantization=quantization,
                    deepspeed=deepspeed,
                    max_frames=config.video.max_frames,
                    vision_tokens=tokens,
                    evaluation_batch_size=evaluated,
                    peak_bytes=memory.peak_bytes,
                    host_bytes=_host_bytes(memory, config.deepspeed),
                )
                break


def settings(
    model: str, *, lora: bool, deepspeed: str, tokens: int, evaluated: int, quantization: str = "none"
) -> SFTConfig:
    """What `Proposal.overrides` compose to, as far as memory depends on it."""
    frames = min(MAX_FRAMES, tokens // TOKENS_PER_FRAME)
    return SFTConfig(
        video=VideoConfig(
            max_frames=frames, min_pixels=65536, max_pixels=262144, total_pixels=tokens * PIXELS_PER_TOKEN
        ),
        model=ModelConfig(
            path=MODELS[model],
            dtype="float32" if needs_float32(lora=lora, deepspeed=deepspeed) else "auto",
            quantization=quantization,
        ),
        lora=LoraConfig(enabled=lora),
        batching=BatchingConfig(by="tokens"),
        evaluation=EvaluationConfig(batch_size=evaluated),
        deepspeed=replace(DEEPSPEED[deepspeed]),
        trainer={"gradient_checkpointing": "full", "gradient_accumulation_steps": 8},
    )


def needs_float32(*, lora: bool, deepspeed: str) -> bool:
    """Whether the weights themselves must be float32 to be trained."""
    # bf16 rounds small updates away. DeepSpeed keeps a float32 master copy, and adapters are float32 themselves.
    return not lora and deepspeed == "none"


def estimated(config: SFTConfig, model: str, *, gpus: int) -> MemoryEstimate:
    """The memory that settings made by `settings` take on a GPU."""
    workload = Workload(config)
    counts = _counted(model, config.lora.enabled, workload.weights_dtype(gpu=True), config.model.quantization)
    return workload.estimate(counts, workload.longest_clips(), workload.training_setup(gpu=True, ranks=gpus))


@cache
def _counted(model: str, lora: bool, dtype: torch.dtype, quantization: str) -> ParameterCounts:
    return count(empty_model(MODELS[model], dtype), PartsConfig(), LoraConfig(enabled=lora), quantization=quantization)


def _host_bytes(memory: MemoryEstimate, deepspeed: DeepspeedConfig) -> int:
    """The master copy, moments and gradients of the trained parameters, and the parameters."""
    # 12 bytes of master copy and moments, 2 of gradients.
    optimizer = 14 * memory.trained_parameters if deepspeed.offload_optimizer else 0
    return optimizer + (2 * memory.parameters if deepspeed.offload_parameters else 0)
