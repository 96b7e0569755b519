"""Do the faster ways of an SFT step learn as the plain one? `python benchmarks/step_losses.py`.

The shipped tiny model in bfloat16 with LoRA, fifty steps on four clips of noise: as PEFT and autocast have it, with
adapters in the compute type and no autocast, so with selective checkpointing and with compiled layers; and all of it in
float32. Where the losses of a way stand as near to those of float32 as the plain way's do, it loses nothing.
"""

import copy
from typing import Any

import numpy as np
import torch

from vtg.config.model_settings import LoraConfig, ModelConfig, PartsConfig
from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import encode
from vtg.data.padding import collate
from vtg.models.activation_checkpointing import keep_last_half
from vtg.models.adapting import prepare_training
from vtg.models.compiled_layers import compile_layers
from vtg.models.fused_adapters import unfuse_adapters
from vtg.models.loading import load_model
from vtg.tasks.span_task import SpanTask
from vtg.video.clip import Clip

STEPS = 50
PLAIN, EXACT = "as PEFT and autocast have it", "float32"


def ways() -> tuple[dict[str, Any], list[dict[str, torch.Tensor]]]:
    """Models that start alike, by how their steps are computed; batches of one conversation each."""
    halved, processor = load_model(ModelConfig(path="tiny", dtype="bfloat16"))
    task, batches = SpanTask(TaskConfig()), []
    for at in range(4):
        pictures = np.random.default_rng(at).integers(0, 256, (3, 3, 32, 64), dtype=np.uint8)
        clip = Clip(pictures, np.array([0.0, 0.6, 1.0 + at / 2]), 4.0, f"noise {at}", 0.0, 4.0)
        words = task.conversation(f"a dog {at}", duration_s=4.0, spans=[(0.5 * at, 0.5 * at + 1.0)])
        batch = collate([encode(processor, words, clip)], pad_token_id=processor.tokenizer.pad_token_id)
        batches.append(batch | {"labels": batch.get("labels", batch["input_ids"])})
    torch.manual_seed(0)
    ours = prepare_training(halved, PartsConfig(), LoraConfig(r=4)).train()
    plain, selective, compiled = (copy.deepcopy(ours) for _ in range(3))
    unfuse_adapters(plain)
    exact = copy.deepcopy(ours).float()
    enable = getattr(selective, "activation_checkpointing_enable", None) or selective.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    assert keep_last_half(selective)
    # Traced as for a GPU; Inductor's kernels for a CPU are not what runs there.
    compile_layers(compiled, backend="eager")
    name = "adapters in the compute type"
    found = {PLAIN: plain, name: ours, f"{name}, selective checkpointing": selective, f"{name}, compiled": compiled}
    return found | {EXACT: exact}, batches


def losses(model: Any, batches: list[dict[str, torch.Tensor]], *, autocast: bool) -> torch.Tensor:
    """(STEPS,) of AdamW's steps."""
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-3)
    found = []
    for step in range(STEPS):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = model(**batches[step % len(batches)]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.detach().float())
    return torch.stack(found)


def main() -> None:
    models, batches = ways()
    found = {name: losses(model, batches, autocast=name == PLAIN) for name, model in models.items()}
    print(f"| {STEPS} steps | first 8 | last 8 | from float32, mean | at most |\n|---|---:|---:|---:|---:|")
    for name, one in found.items():
        apart = (one - found[EXACT]).abs()
        print(f"| {name} | {one[:8].mean():.3f} | {one[-8:].mean():.3f} | {apart.mean():.4f} | {apart.max():.4f} |")


if __name__ == "__main__":
    main()
