"""The sections of gpu.py that time SFT steps, through vtg's own trainer, and the vision tower."""

import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from gpu_shapes import PUBLISHED, Bench, compared, counts_of, free, median_s, now, peak_bytes, step_flops, tower_flops
from transformers import TrainerCallback, TrainingArguments
from transformers.utils.import_utils import is_flash_attn_2_available

from vtg.batching.cost import SampleCosts
from vtg.config.data_settings import BatchingConfig
from vtg.config.model_settings import LoraConfig, ModelConfig
from vtg.config.schema import SFTConfig
from vtg.data.encoding import IGNORE_INDEX
from vtg.data.grounding_dataset import GroundingDataset
from vtg.data.layout import ATTENTIONS
from vtg.data.skip_report import SkipReport
from vtg.data.training_collator import TrainingCollator
from vtg.decoding.shared_prefix import encode_video
from vtg.errors import RunError
from vtg.memory.estimate import estimate
from vtg.memory.parameters import ParameterCounts
from vtg.memory.shape import Shape
from vtg.memory.training_load import Batch
from vtg.memory.workload import Workload
from vtg.models.adapting import prepare_training
from vtg.models.attention import attend_in_layouts
from vtg.models.compiled_layers import compile_layers
from vtg.models.fused_adapters import unfuse_adapters
from vtg.models.plain_model import plain_model
from vtg.training.hf_arguments import training_arguments
from vtg.training.progress import Progress
from vtg.training.sft.batches import PlannedBatches
from vtg.training.sft.planner import make_planner
from vtg.training.sft.sft_trainer import SFTTrainer
from vtg.training.trainer_parts import TrainerParts


class StepClock(TrainerCallback):
    """Seconds of each optimizer step, its batch being there."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.began = 0.0

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.began = now()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds.append(now() - self.began)


def settings(
    bench: Bench,
    *,
    rows: int = 1,
    lora: bool = True,
    packing: bool = False,
    checkpointing: str = "full",
    kernels: str = "auto",
    autocast: bool | None = None,
    steps: int = 1,
    dtype: torch.dtype | None = None,
    on_gpu: bool | None = None,
    attention: str = "sdpa",
) -> SFTConfig:
    """SFT on fixed batches of `rows`; elsewise the defaults.

    `dtype`: of the arithmetic; None: what the machine's default is. `autocast`: to bf16; None: what the default is.
    """
    on_gpu = bench.on_gpu if on_gpu is None else on_gpu
    half = on_gpu if dtype is None else dtype == torch.bfloat16
    bf16 = autocast if autocast is not None or half else False
    return SFTConfig(
        output_dir=str(bench.folder),
        model=ModelConfig(
            attention=attention, max_length=2**20, dtype="bfloat16" if half else "float32", kernels=kernels
        ),
        lora=LoraConfig(enabled=lora),
        batching=BatchingConfig(packing=packing),
        trainer={
            "per_device_train_batch_size": rows, "gradient_accumulation_steps": 1, "max_steps": steps,
            "gradient_checkpointing": checkpointing, "learning_rate": 1e-5, "report_to": "none", "save_strategy": "no",
            "use_cpu": not on_gpu, **({} if bf16 is None else {"bf16": bf16}),
        },
    )  # fmt: skip


def sft_trainer(bench: Bench, config: SFTConfig, dataset: GroundingDataset, model: Any) -> SFTTrainer:
    """The trainer of `vtg.training.sft.run_sft`, every batch of which holds the whole data set."""
    arguments: TrainingArguments = training_arguments(config)
    ones = np.ones(len(dataset))
    whole = ones.astype(np.int64)
    planner = make_planner(
        config.batching,
        dataset.samples,
        # Batches are fixed, so what a sample costs does not matter.
        SampleCosts(ones, whole, whole, whole, whole),
        budget=float(len(dataset)),
        batch_size=len(dataset),
        accumulation=1,
        seed=0,
    )
    if config.model.attention in ATTENTIONS:
        attend_in_layouts(model, config.model.attention)
    else:  # a package's, as loading gives it to the model
        model.set_attn_implementation(config.model.attention)
    trainer = SFTTrainer(
        model=prepare_training(model, config.parts, config.lora),
        args=arguments,
        train_dataset=dataset,
        data_collator=TrainingCollator(bench.processor.tokenizer.pad_token_id, config.batching),
        processing_class=bench.processor,
        parts=TrainerParts.of(config, report=SkipReport(bench.folder / "skipped.jsonl", max_bad_share=1.0)),
        attention=config.model.attention,
        batches=PlannedBatches(planner, rank=0, ranks=1, dataset=dataset),
    )
    trainer.remove_callback(Progress)  # its bar would stand between the tables
    return trainer


def sft(bench: Bench, found: dict[str, Any]) -> None:
    """Steps of LoRA and of full fine-tuning, alone, padded and packed, beside what `look=memory` says of them."""
    large, second, _ = bench.scale.models
    frames, mixed = bench.scale.frames, bench.scale.mixed
    cases: dict[str, dict[str, Any]] = {
        "one clip, LoRA": {},  # by Liger's kernels, where they are installed
        "mixed lengths, LoRA, padded": {"counts": mixed},
        **{
            f"mixed lengths, LoRA, packed, {kernel}": {"counts": mixed, "packing": True, "attention": kernel}
            for kernel in ATTENTIONS
        },
        "one clip, full": {"lora": False},
        "one clip, LoRA, as PEFT and autocast have it": {"ours": False},
        "one clip, LoRA, adapters in the compute type": {"kernels": "torch"},
        "one clip, LoRA, compiled": {"compiled": True},
        "one clip, LoRA, selective checkpointing": {"checkpointing": "selective"},
        "one clip, LoRA, all activations kept": {"checkpointing": "none"},
        "one clip, LoRA, compiled, all activations kept": {"checkpointing": "none", "compiled": True},
        "half a clip, LoRA, all activations kept": {"counts": [frames // 2], "checkpointing": "none"},
    }
    if bench.on_gpu and is_flash_attn_2_available():
        flash = {"attention": "flash_attention_2"}
        cases["one clip, LoRA, FlashAttention 2"] = flash
        cases["mixed lengths, LoRA, packed, FlashAttention 2"] = {"counts": mixed, "packing": True, **flash}
    for name, case in cases.items():
        if bench.reaches(found, name):
            with bench.case(name):
                found[name] = _case(bench, large, **({"counts": [frames]} | case))
    if "skipped" in found.get("one clip, full", {}) and bench.scale.models[1] != large:
        name = f"one clip, full, {second}"
        with bench.case(name):
            found[name] = _case(bench, second, counts=[frames], lora=False)


def _case(
    bench: Bench,
    size: str,
    *,
    counts: Sequence[int],
    lora: bool = True,
    packing: bool = False,
    attention: str = "sdpa",
    checkpointing: str = "full",
    kernels: str = "auto",
    compiled: bool = False,
    ours: bool = True,
) -> dict[str, Any]:
    """Clips of these many frames as one batch, trained for some steps by a model of `grpo_ways.SIZES`.

    `ours`: False: adapters read float32 copies under autocast, as PEFT makes them, and kernels are the model's own.
    """
    free()
    config = settings(
        bench,
        rows=len(counts),
        lora=lora,
        packing=packing,
        checkpointing=checkpointing,
        attention=attention,
        kernels=kernels if ours else "torch",
        autocast=None if ours else bench.on_gpu,
        steps=1 + bench.scale.steps,
    )
    config.trainer["torch_compile"] = compiled
    model = bench.model(size, fused=config.model.kernels != "torch")
    own, flops = counts_of(model.config, model.dtype, config), partial(step_flops, Shape.of(model.config))
    found = timed_steps(bench, config, model, own, counts, ours=ours)
    if "step_ms" in found:
        lengths = found.pop("lengths")
        found["model_tflops_per_s"] = flops(lengths, trained=not lora) / found["step_ms"] * 1000 / 1e12
    return {"model": PUBLISHED.get(size, size)} | {key: value for key, value in found.items() if key != "lengths"}


def timed_steps(
    bench: Bench, config: SFTConfig, model: Any, own: ParameterCounts, counts: Sequence[int], *, ours: bool = True
) -> dict[str, Any]:
    """Clips of these many frames as one batch, trained by `model` for some steps; `own`: what is counted of it."""
    dataset = bench.dataset(counts, training=True)
    packing = config.batching.packing
    trainer = sft_trainer(bench, config, dataset, model)
    if config.trainer.get("torch_compile"):
        # Inductor takes minutes on a CPU, where its figures would mean nothing.
        compile_layers(trainer.model, backend="inductor" if bench.on_gpu else "eager")
    if not ours:
        unfuse_adapters(trainer.model)
    batch = _as_batch(trainer, packing=packing)
    expected = estimate(own, batch, Workload(config).training_setup(gpu=bench.on_gpu, ranks=1))
    lengths = [len(dataset[at].features["input_ids"]) for at in range(len(counts))]
    result: dict[str, Any] = {
        "lengths": lengths,
        "tokens": sum(lengths),
        "slots": batch.rows * batch.length,
    }
    result["predicted_gb"] = (expected.training_bytes - expected.cuda_bytes) / 1e9
    if bench.on_gpu and expected.training_bytes > torch.cuda.get_device_properties(0).total_memory:
        return result | {"skipped": "does not fit, by the estimate"}
    clock = StepClock()
    trainer.add_callback(clock)
    free()
    try:
        trainer.train()
    except RunError as error:  # memory ran out: a finding, and the cases after it still run
        return result | {"skipped": str(error).splitlines()[0]}
    step_s = statistics.median(clock.seconds[1:])
    return result | {
        "step_ms": 1000 * step_s,
        "tokens_per_s": sum(lengths) / step_s,
        **compared(expected.training_bytes, expected),
        "reserved_gb": torch.cuda.max_memory_reserved() / 1e9 if bench.on_gpu else None,
    }


def _as_batch(trainer: SFTTrainer, *, packing: bool) -> Batch:
    """The trainer's batch as the memory estimate takes it."""
    read = next(iter(trainer.get_train_dataloader()))
    rows, length = read["input_ids"].shape
    return Batch(
        rows=rows,
        length=length,
        vision_tokens=int((read["mm_token_type_ids"] == 2).sum()),
        # The positions that any row answers at, as the loss keeps them.
        answers=int((read["labels"][:, 1:] != IGNORE_INDEX).any(0).sum()),
        conversations=int(read["segments"].max()) + 1 if packing else None,
        packed=packing,
    )


def tower(bench: Bench, found: dict[str, Any]) -> None:
    """The vision tower and its projections over the long clip, as a rollout of plain adapters encodes it."""
    free()
    model = bench.model(bench.scale.models[0])
    plain = plain_model(model)
    item = bench.dataset([bench.scale.frames], training=False)[0]
    features = {key: value.to(bench.device) for key, value in item.features.items()}

    def encoded() -> torch.Tensor:
        return encode_video(plain, features)

    seconds = median_s(encoded, times=bench.scale.steps + 1)
    grid, peak = features["video_grid_thw"][0].tolist(), peak_bytes()
    found |= {"frames": bench.scale.frames, "grid": grid, "seconds": seconds, "peak_gb": peak and peak / 1e9}
    found["tflops_per_s"] = tower_flops(Shape.of(model.config), grid) / seconds / 1e12
    if bench.on_gpu:
        found |= _launches(encoded)


def _launches(action: Any) -> dict[str, int]:
    """Kernels that an action starts, and those of attention: many short ones leave the card waiting."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        action()
        torch.cuda.synchronize()
    names = [event.name.lower() for event in seen.events() or () if event.device_type.name == "CUDA"]
    attention = [name for name in names if any(part in name for part in ("flash", "fmha", "attention"))]
    return {"kernels": len(names), "attention_kernels": len(attention)}
