"""Measures what training takes, in bytes of live tensors, beside what is predicted.

    PYTHONPATH=tests python tests/memory/memory_cases.py [words in the name of cases]

As a program every case runs in a process of its own, and the growth of its resident memory stands beside: more than
live tensors, for the allocator keeps what it freed.
"""

import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from memory_models import build
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROOT = Path(__file__).parents[2]

LARGER = ("video.min_pixels=16384", "video.max_pixels=16384", "video.total_pixels=4194304", "model.max_length=16384")
"""Four times the pixels of a frame of the tiny model."""

HALF = ("trainer.bf16=true", "model.dtype=bfloat16")
BFLOAT16 = ("model.dtype=bfloat16",)
CHECKPOINTED = ("trainer.gradient_checkpointing=full",)
SELECTIVE = ("trainer.gradient_checkpointing=selective",)
FULL = ("lora=none",)
EXPERTS = ("parts.experts=lora",)
QLORA = ("lora=qlora",)
EIGHT_BITS = ("model.quantization=8bit",)

CASES: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "tiny, LoRA": ("tiny", 8, ()),
    "tiny, full": ("tiny", 8, FULL),
    "tiny, LoRA, checkpointing": ("tiny", 16, CHECKPOINTED),
    "66 M, LoRA": ("medium", 2, ()),
    "66 M, LoRA, batch of 6": ("medium", 6, ()),
    "66 M, LoRA, checkpointing": ("medium", 2, CHECKPOINTED),
    "66 M, full": ("medium", 2, FULL),
    "66 M, full, checkpointing": ("medium", 2, (*FULL, *CHECKPOINTED)),
    "66 M, full, 2 micro-batches": ("medium", 2, (*FULL, "trainer.gradient_accumulation_steps=2")),
    "66 M, LoRA, selective checkpointing": ("medium", 2, SELECTIVE),
    "66 M, LoRA, bf16 without autocast": ("medium", 2, BFLOAT16),
    "66 M, LoRA, bf16 without autocast, selective checkpointing": ("medium", 2, (*BFLOAT16, *SELECTIVE)),
    "66 M, LoRA, bf16": ("medium", 2, HALF),
    "66 M, LoRA, bf16, checkpointing": ("medium", 2, (*HALF, *CHECKPOINTED)),
    "66 M, full, bf16": ("medium", 2, (*HALF, *FULL)),
    "66 M, full, bf16 with float32 weights": ("medium", 2, ("trainer.bf16=true", "model.dtype=float32", *FULL)),
    "66 M, LoRA on the tower too": ("medium", 2, ("parts.vision=lora", "parts.projector=lora")),
    "66 M, LoRA, packed": ("medium", 4, ("batching.packing=true",)),
    "66 M, LoRA, eager attention": ("medium", 2, ("model.attention=eager",)),
    "tiny Qwen3.5, LoRA": ("qwen3_5", 4, ()),
    "tiny Qwen3.5, full": ("qwen3_5", 4, FULL),
    "tiny Qwen3.5, LoRA, checkpointing": ("qwen3_5", 4, CHECKPOINTED),
    "tiny Qwen3.5 with experts, LoRA": ("qwen3_5_moe", 4, ()),
    "tiny Qwen3.5 with experts, LoRA, checkpointing": ("qwen3_5_moe", 4, CHECKPOINTED),
    "tiny Qwen3-VL with experts, LoRA": ("qwen3_vl_moe", 4, ()),
    "tiny Qwen3-VL with experts, full": ("qwen3_vl_moe", 4, FULL),
    "Qwen2.5-VL, larger, LoRA": ("larger qwen2_5_vl", 4, ("model.patch_factor=28",)),
    "Qwen2.5-VL, larger, full, checkpointing": (
        *("larger qwen2_5_vl", 4),
        ("model.patch_factor=28", *FULL, *CHECKPOINTED),
    ),
    "Qwen3.5 of 14 M, LoRA": ("larger qwen3_5", 2, ()),
    "Qwen3.5 of 14 M, LoRA, checkpointing": ("larger qwen3_5", 2, CHECKPOINTED),
    "Qwen3.5 of 14 M, LoRA, bf16, checkpointing": ("larger qwen3_5", 2, (*HALF, *CHECKPOINTED)),
    "Qwen3.5 of 14 M, LoRA, packed": ("larger qwen3_5", 4, ("batching.packing=true",)),
    "Qwen3.5 of 14 M, full": ("larger qwen3_5", 2, FULL),
    "Qwen3.5 with experts, larger, LoRA": ("larger qwen3_5_moe", 2, ()),
    "Qwen3.5 with experts, larger, LoRA, bf16, checkpointing": ("larger qwen3_5_moe", 2, (*HALF, *CHECKPOINTED)),
    "Qwen3-VL with experts, larger, LoRA": ("larger qwen3_vl_moe", 2, ()),
    "Qwen3-VL with experts, larger, LoRA, bf16, checkpointing": ("larger qwen3_vl_moe", 2, (*HALF, *CHECKPOINTED)),
    "Molmo2 of 8 M, LoRA": ("larger molmo2", 2, ()),
    "Molmo2 of 8 M, LoRA, one row": ("larger molmo2", 1, ()),
    "Molmo2 of 8 M, LoRA, checkpointing": ("larger molmo2", 2, CHECKPOINTED),
    "Molmo2 of 8 M, LoRA, bf16, checkpointing": ("larger molmo2", 2, (*HALF, *CHECKPOINTED)),
    "Molmo2 of 8 M, full": ("larger molmo2", 2, FULL),
    "Molmo2 of 8 M, full, checkpointing": ("larger molmo2", 2, (*FULL, *CHECKPOINTED)),
    "Molmo2 of 8 M, LoRA, packed": ("larger molmo2", 4, ("batching.packing=true",)),
    "Molmo2 of 8 M, LoRA on the tower too": ("larger molmo2", 2, ("parts.vision=lora", "parts.projector=lora")),
    "Molmo2 with a wide tower, LoRA, checkpointing": ("molmo2 with a wide tower", 2, CHECKPOINTED),
    "Molmo2 with a wide tower, LoRA, bf16, checkpointing": ("molmo2 with a wide tower", 2, (*HALF, *CHECKPOINTED)),
    "Molmo2 with a wide tower, full projector": ("molmo2 with a wide tower", 2, ("parts.projector=full",)),
    "Molmo2 with a wide tower, full, tower too": ("molmo2 with a wide tower", 2, (*FULL, "parts.vision=full")),
    "Molmo2 with a wide tower, full, tower too, checkpointing": (
        *("molmo2 with a wide tower", 2),
        (*FULL, *CHECKPOINTED, "parts.vision=full"),
    ),
    "Qwen3.5 with experts, larger, LoRA on experts": ("larger qwen3_5_moe", 2, EXPERTS),
    "Qwen3.5 with experts, larger, LoRA on experts, checkpointing": (
        *("larger qwen3_5_moe", 2),
        (*EXPERTS, *CHECKPOINTED),
    ),
    "Qwen3.5 with experts, larger, LoRA and full experts": ("larger qwen3_5_moe", 2, ("parts.experts=full",)),
    "Qwen3-VL with experts, larger, LoRA on experts": ("larger qwen3_vl_moe", 2, EXPERTS),
    "Qwen3-VL with experts, larger, LoRA on experts, bf16": ("larger qwen3_vl_moe", 2, (*EXPERTS, *HALF)),
    "Qwen3-VL with experts, larger, LoRA and full experts, checkpointing": (
        *("larger qwen3_vl_moe", 2),
        ("parts.experts=full", *CHECKPOINTED),
    ),
    "66 M, LoRA and temporal tokens": ("medium", 2, ("task.answer=tokens",)),
    "66 M, LoRA and full embeddings": ("medium", 2, ("parts.embedding=full",)),
    "66 M, LoRA and full embeddings, checkpointing": ("medium", 2, ("parts.embedding=full", *CHECKPOINTED)),
    "Qwen3.5 with experts, larger, LoRA, full embeddings and head": (
        *("larger qwen3_5_moe", 2),
        ("parts.embedding=full", "parts.head=full"),
    ),
    "66 M, QLoRA": ("medium", 2, QLORA),
    "66 M, QLoRA, checkpointing": ("medium", 2, (*QLORA, *CHECKPOINTED)),
    "66 M, 8 bit, LoRA": ("medium", 2, EIGHT_BITS),
    "66 M, 8 bit, LoRA, checkpointing": ("medium", 2, (*EIGHT_BITS, *CHECKPOINTED)),
    "66 M, 8 bit, LoRA, bf16, checkpointing": ("medium", 2, (*EIGHT_BITS, *HALF, *CHECKPOINTED)),
    "Qwen3.5 of 14 M, 8 bit, LoRA, checkpointing": ("larger qwen3_5", 2, (*EIGHT_BITS, *CHECKPOINTED)),
    "66 M, LoRA and a full projector": ("medium", 2, ("parts.projector=full",)),
}
"""Name → model, batch size, overrides. Models: see `memory_models.build`."""


GENERATION: dict[str, tuple[str, int, str]] = {
    "Qwen3.5": ("larger qwen3_5", 2, "float32"),
    "Qwen3.5, bf16": ("larger qwen3_5", 1, "bfloat16"),
    "Qwen3.5 with experts": ("larger qwen3_5_moe", 2, "float32"),
    "Qwen3-VL": ("medium", 2, "float32"),
    "Molmo2": ("larger molmo2", 2, "float32"),
}
"""Name → model, prompts, dtype of what answers."""

# Of a clip, and of its answer.
FRAMES, NEW = 48, 6


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the storages that operations make, until they are freed; `peak` is the most at a time."""

    def __init__(self, known: list[torch.Tensor]) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.seen = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata not in self.seen:
                storage = leaf.untyped_storage()
                self.seen.add(storage._cdata)
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        return out

    def _freed(self, key: int, size: int) -> None:
        self.live -= size
        self.seen.discard(key)


def _patches(pixels: torch.Tensor) -> int:
    """Patches in what a processor makes of frames: (patches, numbers), or of Molmo2 (frames, patches, numbers)."""
    return pixels.shape[:-1].numel()


def measure(words: list[str]) -> tuple[int, int, int]:
    """Bytes of a training's peak as measured and as predicted, and those of both that are weights and optimizer."""
    from vtg.memory.estimate import estimate
    from vtg.memory.parameters import count, empty_model
    from vtg.memory.training_load import Batch
    from vtg.memory.workload import Workload
    from vtg.tasks.span_task import SpanTask
    from vtg.training.run import TrainingRun
    from vtg.training.sft import run_sft as sft

    sys.path.insert(0, str(ROOT / "tests" / "training"))
    import sft_runs

    config = sft_runs.compose(words)
    empty = empty_model(config.model.path, Workload(config).weights_dtype(gpu=False))
    added = len(SpanTask(config.task).tokens())
    counts = count(empty, config.parts, config.lora, quantization=config.model.quantization, time_tokens=added)
    shapes: list[Batch] = []
    found: list[int] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        rows, length = kwargs["input_ids"].shape
        layout, mask = kwargs.get("layout"), kwargs.get("attention_mask")
        shapes.append(
            Batch(
                rows=rows,
                length=length,
                vision_tokens=_patches(kwargs["pixel_values_videos"]) // counts.shape.patches_per_token,
                answers=len(kwargs["logits_to_keep"]),
                masked=rows > 1 and mask is not None and bool((mask == 0).any()),
                packed=config.batching.packing,
                conversations=None if layout is None else len(layout.segments),
            )
        )

    class Measured(TrainingRun):
        def train_and_test(self, trainer: Any, **kwargs: Any) -> None:
            plain = trainer.model.get_base_model() if config.lora.enabled else trainer.model
            plain.register_forward_pre_hook(note, with_kwargs=True)
            known = [*trainer.model.parameters(), *trainer.model.buffers()]
            gc.collect()
            with LiveBytes(known) as mode:
                trainer.train()
            found.append(mode.peak + sum(one.nbytes for one in trainer.model.parameters()))

    before, sft.TrainingRun = sft.TrainingRun, Measured
    try:
        sft.train(config)
    finally:
        sft.TrainingRun = before
    setup = replace(Workload(config).training_setup(gpu=False, ranks=1), attention=config.model.attention)
    told = [estimate(counts, batch, setup) for batch in shapes]
    # The optimizer makes its moments at the end of the first step.
    held = [one.weights_bytes + bool(at) * one.optimizer_bytes for at, one in enumerate(told)]
    predicted = [one.training_bytes - (not at) * one.optimizer_bytes for at, one in enumerate(told)]
    return found[0], *max(zip(predicted, held, strict=True))


def measure_generation(path: str, rows: int, *, dtype: str) -> tuple[int, int, int]:
    """Bytes of the peak of answering `rows` prompts, measured and predicted, and those of both that are weights."""
    from vtg.config.model_settings import LoraConfig, ModelConfig, PartsConfig
    from vtg.config.task_settings import TaskConfig
    from vtg.data.encoding import encode
    from vtg.evaluation.generate import generate
    from vtg.memory.estimate import estimate
    from vtg.memory.parameters import count, empty_model
    from vtg.memory.training_load import Batch, TrainingSetup
    from vtg.models.loading import load_model
    from vtg.tasks.span_task import SpanTask
    from vtg.video.clip import Clip

    model, processor = load_model(ModelConfig(path=path, dtype=dtype), device="cpu")
    counts = count(empty_model(path, getattr(torch, dtype)), PartsConfig(), LoraConfig(enabled=False))
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES, 3, 64, 64), dtype=np.uint8)
    seconds = FRAMES / 2
    clip = Clip(frames, np.arange(FRAMES) / 2, duration_s=seconds, path="noise", start_s=0.0, end_s=seconds)
    prompt = encode(processor, SpanTask(TaskConfig()).conversation("a dog", duration_s=seconds), clip)
    # A clip each: what questions about one clip share takes less.
    prompts = [prompt | {"pixel_values_videos": prompt["pixel_values_videos"].clone()} for _ in range(rows)]
    known = [*model.parameters(), *model.buffers(), *(one for each in prompts for one in each.values())]
    gc.collect()
    with LiveBytes(known) as mode:
        generate(model.eval(), processor, prompts, max_new_tokens=NEW)
    weights = sum(one.nbytes for one in model.parameters())
    vision = rows * _patches(prompt["pixel_values_videos"]) // counts.shape.patches_per_token
    batch = Batch(rows=rows, length=len(prompt["input_ids"]) + NEW, vision_tokens=vision)
    told = estimate(counts, batch, TrainingSetup(), generating=batch)
    return mode.peak + weights, told.weights_bytes + told.answering_bytes, weights


def overrides(model: str, batch: int, more: tuple[str, ...], data: Path, out: Path) -> list[str]:
    """A run of 2 steps that measures and saves nothing."""
    return [
        "data=jsonl",
        f"data.annotation_file={data / 'train.jsonl'}",
        f"data.video_dir={data}",
        f"output_dir={out}",
        f"model.path={model}",
        "batching=fixed",
        f"trainer.per_device_train_batch_size={batch}",
        "trainer.max_steps=2",
        "trainer.save_strategy=no",
        "trainer.report_to=none",
        "trainer.use_cpu=true",
        *(LARGER if "medium" in Path(model).name else ()),
        *more,
    ]


def main() -> None:
    """One case, by its overrides, as JSON; or a table of all, or of those whose names hold a word."""
    if len(sys.argv) > 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = measure(sys.argv[1:])
        print(json.dumps([*found, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024]))
        return
    from vtg.config.data_settings import DemoConfig
    from vtg.demo.demo_dataset import ensure_demo

    with tempfile.TemporaryDirectory() as folder:
        data = ensure_demo(Path(folder) / "data", DemoConfig(train_videos=6, val_videos=1, test_videos=1, seed=3))
        print(
            "| case | measured MB | predicted MB | error | of activations and gradients | resident MB |\n"
            + "|---" * 6
            + "|"
        )
        for at, (name, (model, batch, more)) in enumerate(CASES.items()):
            if sys.argv[1:] and sys.argv[1] not in name:
                continue
            path = build(model, Path(folder) / model.replace(" ", "_"))
            words = overrides(path, batch, more, data, Path(folder) / f"run{at}")
            command = [sys.executable, __file__, *words]
            done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=True, cwd=ROOT)
            measured, predicted, held, resident = json.loads(done.stdout.splitlines()[-1])
            error, work = predicted / measured - 1, (predicted - held) / (measured - held) - 1
            sizes = f"{measured / 1e6:.0f} | {predicted / 1e6:.0f} | {error:+.1%} | {work:+.1%}"
            print(f"| {name} | {sizes} | {resident / 1e6:.0f} |", flush=True)


if __name__ == "__main__":
    main()
