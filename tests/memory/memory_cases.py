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

import torch
from tiny_models import save_tiny
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROOT = Path(__file__).parents[2]

LARGER = ("video.min_pixels=16384", "video.max_pixels=16384", "video.total_pixels=4194304", "model.max_length=16384")
"""Four times the pixels of a frame of the tiny model."""

HALF = ("trainer.bf16=true", "model.dtype=bfloat16")
CHECKPOINTED = ("trainer.gradient_checkpointing=true",)
FULL = ("lora=none",)
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
    "tiny Qwen2.5-VL, LoRA": ("qwen2_5_vl", 4, ()),
    "Qwen3.5 of 14 M, LoRA": ("larger qwen3_5", 2, ()),
    "Qwen3.5 of 14 M, LoRA, checkpointing": ("larger qwen3_5", 2, CHECKPOINTED),
    "Qwen3.5 of 14 M, LoRA, bf16, checkpointing": ("larger qwen3_5", 2, (*HALF, *CHECKPOINTED)),
    "Qwen3.5 of 14 M, LoRA, packed": ("larger qwen3_5", 4, ("batching.packing=true",)),
    "Qwen3.5 of 14 M, full": ("larger qwen3_5", 2, FULL),
    "Qwen3.5 with experts, larger, LoRA": ("larger qwen3_5_moe", 2, ()),
    "Qwen3.5 with experts, larger, LoRA, bf16, checkpointing": ("larger qwen3_5_moe", 2, (*HALF, *CHECKPOINTED)),
    "Qwen3-VL with experts, larger, LoRA": ("larger qwen3_vl_moe", 2, ()),
    "Qwen3-VL with experts, larger, LoRA, bf16, checkpointing": ("larger qwen3_vl_moe", 2, (*HALF, *CHECKPOINTED)),
    "66 M, QLoRA": ("medium", 2, QLORA),
    "66 M, QLoRA, checkpointing": ("medium", 2, (*QLORA, *CHECKPOINTED)),
    "66 M, 8 bit, LoRA": ("medium", 2, EIGHT_BITS),
    "66 M, 8 bit, LoRA, checkpointing": ("medium", 2, (*EIGHT_BITS, *CHECKPOINTED)),
    "66 M, 8 bit, LoRA, bf16, checkpointing": ("medium", 2, (*EIGHT_BITS, *HALF, *CHECKPOINTED)),
    "Qwen3.5 of 14 M, 8 bit, LoRA, checkpointing": ("larger qwen3_5", 2, (*EIGHT_BITS, *CHECKPOINTED)),
    "66 M, LoRA and a full projector": ("medium", 2, ("parts.projector=full",)),
}
"""Name → model, batch size, overrides. Models: `tiny`, `medium`, types of `tiny_models.BUILDERS`, these made larger."""


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


def build_medium(folder: Path) -> Path:
    """A random Qwen3-VL of 66 million parameters, with the tiny one's processor."""
    from transformers import AutoProcessor, Qwen3VLConfig, Qwen3VLForConditionalGeneration

    from vtg.demo.tiny_model import TINY_QWEN3_VL

    config = Qwen3VLConfig.from_pretrained(TINY_QWEN3_VL).to_dict()
    config["text_config"] |= {
        "vocab_size": 16384,
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_hidden_layers": 10,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [12, 10, 10]},
    }
    config["text_config"].pop("layer_types", None)
    config["vision_config"] |= {
        "depth": 8,
        "hidden_size": 384,
        "intermediate_size": 1536,
        "num_heads": 6,
        "out_hidden_size": 512,
        "num_position_embeddings": 256,
        "deepstack_visual_indexes": [1, 3, 5],
    }
    torch.manual_seed(0)
    Qwen3VLForConditionalGeneration(Qwen3VLConfig.from_dict(config)).save_pretrained(folder)
    AutoProcessor.from_pretrained(TINY_QWEN3_VL).save_pretrained(folder)
    return folder


def build_larger(model_type: str, folder: Path) -> Path:
    """A random model of a family, wider and deeper than its tiny one, so that activations outweigh the rest."""
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    save_tiny(model_type, folder)
    config = AutoConfig.from_pretrained(folder)
    text = config.text_config
    text.hidden_size = config.vision_config.out_hidden_size = 256
    text.num_hidden_layers, text.intermediate_size = 8, 768
    text.num_attention_heads, text.num_key_value_heads, text.head_dim = 8, 2, 32
    if model_type.startswith("qwen3_5"):
        text.layer_types = (["linear_attention"] * 3 + ["full_attention"]) * 2
        text.linear_num_key_heads, text.linear_num_value_heads = 4, 8
        text.linear_key_head_dim = text.linear_value_head_dim = 32
    if "moe" in model_type:
        text.num_experts, text.num_experts_per_tok, text.moe_intermediate_size = 16, 4, 192
        if model_type == "qwen3_5_moe":
            text.shared_expert_intermediate_size = 192
    torch.manual_seed(0)
    AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
    AutoProcessor.from_pretrained(folder).save_pretrained(folder)
    return folder


def build(model: str, folder: Path) -> str:
    """What `model.path` is for a model of `CASES`, built in `folder` where it does not come with the package."""
    if model == "tiny" or folder.is_dir():
        return "tiny" if model == "tiny" else str(folder)
    if model == "medium":
        return str(build_medium(folder))
    if model.startswith("larger "):
        return str(build_larger(model.removeprefix("larger "), folder))
    save_tiny(model, folder)
    return str(folder)


def measure(words: list[str]) -> tuple[int, int, int]:
    """Bytes of a training's peak as measured and as predicted, and those of both that are weights and optimizer."""
    from vtg.memory.estimate import estimate
    from vtg.memory.parameters import count, empty_model
    from vtg.memory.training_load import Batch
    from vtg.memory.workload import Workload
    from vtg.training.run import TrainingRun
    from vtg.training.sft import run_sft as sft

    sys.path.insert(0, str(ROOT / "tests" / "training"))
    import sft_runs

    config = sft_runs.compose(words)
    shapes: list[Batch] = []
    found: list[int] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        rows, length = kwargs["input_ids"].shape
        shapes.append(
            Batch(
                rows=rows,
                length=length,
                vision_tokens=int((kwargs["mm_token_type_ids"] == 2).sum()),
                answers=len(kwargs["logits_to_keep"]),
                masked=rows > 1,
                packed=config.batching.packing,
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
    empty = empty_model(config.model.path, Workload(config).weights_dtype(gpu=False))
    counts = count(empty, config.parts, config.lora, quantization=config.model.quantization)
    setup = replace(Workload(config).training_setup(gpu=False, ranks=1), attention=config.model.attention)
    told = max((estimate(counts, batch, setup) for batch in shapes), key=lambda one: one.training_bytes)
    return found[0], told.training_bytes, told.weights_bytes + told.optimizer_bytes


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
