"""Trains the tiny Qwen3-VL that ships with vtg, from random weights, on synthetic clips.

    python -m vtg.demo.pretrain --out vtg/demo/tiny_qwen3_vl

First the vision tower learns to tell colours and shapes apart, with a linear head that is thrown away (the tower's
"image pretraining"); then the language model learns to find moments, on clips that grow from 4 to 22 seconds, several
queries a clip. Beside the loss on the answers, linear heads that are thrown away read from the middle layers what an
answer needs (the time of each vision token, what appears and vanishes in it, what is asked), which teaches the way of
the information in minutes rather than days. Both stages draw fresh worlds for every step. CPU or GPU.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from vtg.data.encoding import IGNORE_INDEX
from vtg.demo.auxiliary_heads import AuxiliaryHeads
from vtg.demo.language import vocabulary
from vtg.demo.pretrain_batches import KINDS, grounding_batch, vision_batch
from vtg.demo.tiny_model import TINY_QWEN3_VL, build_qwen3_vl, train_tokenizer
from vtg.models.patch_embed import project_patches_by_matmul
from vtg.progress_bar import ProgressBar, counted
from vtg.storage.atomic import follow_umask
from vtg.storage.json_files import write_json
from vtg.tasks.answer_forms import CODECS


def main(argv: list[str] | None = None) -> None:
    """Parses the command line, trains and saves the tiny model."""
    parser = argparse.ArgumentParser(prog="python -m vtg.demo.pretrain", description=__doc__)
    parser.add_argument("--out", type=Path, default=TINY_QWEN3_VL, help="folder to write (default: the package's own)")
    parser.add_argument("--steps", type=int, default=1500, help="of the language model (default: %(default)s)")
    parser.add_argument("--schedule", type=int, default=2000, help="steps the schedule is for (default: %(default)s)")
    parser.add_argument("--vision-steps", type=int, default=300, help="of the vision tower (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="clips a step (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(argv)

    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    model, processor = build_qwen3_vl(train_tokenizer(_texts()))
    # Several times faster on a CPU, where the tiny model is meant to be trained.
    project_patches_by_matmul(model)
    model.set_attn_implementation({"text_config": "eager", "vision_config": "sdpa"})  # the faster for short sequences
    model.to(args.device)
    pretrain_vision(model, processor, rng, steps=args.vision_steps, learning_rate=1e-3)
    # The tower stays as it is from here: its auxiliary task is all that it needs, and steps get cheaper.
    model.model.visual.requires_grad_(False)
    pretrain_grounding(
        model,
        processor,
        rng,
        steps=args.steps,
        schedule=args.schedule,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        out=args.out,
    )
    facts = {"steps": args.steps, "schedule": args.schedule, "seed": args.seed}
    save(model, processor, args.out, facts=facts)
    print(f"wrote {args.out}")


def pretrain_vision(
    model: Qwen3VLForConditionalGeneration,
    processor: Qwen3VLProcessor,
    rng: np.random.Generator,
    *,
    steps: int,
    learning_rate: float,
) -> None:
    """Teaches the vision tower which shape of which colour stands in each of its tokens."""
    device = model.device
    # Linear, so that the tower itself must tell colours and shapes apart; thrown away afterwards.
    head = torch.nn.Linear(model.config.get_text_config().hidden_size, KINDS).to(device)
    parameters = [*model.model.visual.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
    progress = ProgressBar(steps, title="vision", unit="step", leave=True)
    for step in counted(range(steps), progress):
        _set_rate(optimizer, learning_rate * min(1, (step + 1) / 50))
        pixels, grid, target = vision_batch(processor, rng, worlds=16, pairs=16)
        features = model.model.visual(pixels.to(device), grid.to(device)).pooler_output
        loss = torch.nn.functional.binary_cross_entropy_with_logits(head(features.float()), target.to(device))
        _update(loss, parameters, optimizer)
        progress.note({"loss": f"{loss.item():.4f}"})


def pretrain_grounding(
    model: Qwen3VLForConditionalGeneration,
    processor: Qwen3VLProcessor,
    rng: np.random.Generator,
    *,
    steps: int,
    schedule: int,
    batch_size: int,
    learning_rate: float,
    out: Path,
) -> None:
    """Teaches the language model to answer with times; a usable model is saved every 500 steps."""
    device = model.device
    to_id = processor.tokenizer(" to").input_ids[0]
    heads = AuxiliaryHeads(model.config.get_text_config().hidden_size, to_id=to_id).to(device)
    parameters = [parameter for parameter in [*model.parameters(), *heads.parameters()] if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    progress = ProgressBar(steps, title="grounding", unit="step", leave=True)
    for step in counted(range(steps), progress):
        # The schedule may be longer than the steps that are made, so that a run can stop before the rate is at its end.
        share = step / schedule
        decay = 0.5 * (1 + math.cos(math.pi * max(0.0, (share - 0.5) / 0.5)))
        _set_rate(optimizer, learning_rate * min(1, (step + 1) / 100) * (0.02 + 0.98 * decay))
        batch, facts = grounding_batch(processor, rng, share=share, size=batch_size)
        labels = batch.pop("labels")[:, 1:]
        # Logits of answer positions alone: the vocabulary is the largest dimension of this model.
        keep = (labels != IGNORE_INDEX).any(0).nonzero()[:, 0]
        inputs = {key: value.to(device) for key, value in batch.items()}
        with torch.autocast(device.type, dtype=torch.bfloat16):
            outputs = model(
                **inputs,
                logits_to_keep=keep.to(device),
                use_cache=False,
                output_hidden_states=True,
                output_attentions=True,
            )
        logits, target = outputs.logits, labels[:, keep].flatten().to(device)
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), target)
        auxiliary = heads(outputs, inputs["mm_token_type_ids"] == 2, labels.to(device), facts.to(device))
        # Auxiliary losses fade out, so that the last steps train for answers alone.
        _update(loss + max(0.0, 1 - share / 0.7) * sum(auxiliary), parameters, optimizer)
        hits = (logits.argmax(-1).flatten() == target)[target != IGNORE_INDEX].float().mean().item()
        shown = " ".join(f"{value.item():.2f}" for value in auxiliary)
        progress.note({"loss": f"{loss.item():.3f}", "tokens_right": f"{hits:.2f}", "guide": shown})
        if (step + 1) % 500 == 0:
            save(model, processor, out, facts={"steps": step + 1})


def save(
    model: Qwen3VLForConditionalGeneration, processor: Qwen3VLProcessor, out: Path, *, facts: dict[str, float]
) -> None:
    """Writes model (bfloat16) and processor as `from_pretrained` reads them, and `pretrain.json` with `facts`."""
    out.mkdir(parents=True, exist_ok=True)
    half = {name: value.detach().to("cpu", torch.bfloat16) for name, value in model.state_dict().items()}
    model.save_pretrained(out, state_dict=half)
    processor.save_pretrained(out)
    follow_umask(out)
    write_json(out / "pretrain.json", facts)


def _texts() -> list[str]:
    stamps = [f"<{second}.{tenth} seconds>" for second in range(25) for tenth in range(10)]
    return [
        *vocabulary() * 5,
        *(t for codec in CODECS.values() for t in codec.templates * 20),
        *stamps,
        *["user\nassistant\n"] * 50,
    ]


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _update(loss: torch.Tensor, parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


if __name__ == "__main__":
    main()
