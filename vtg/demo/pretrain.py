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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from vtg.config.schema import TaskConfig
from vtg.data.encoding import IGNORE_INDEX, Features, encode
from vtg.data.padding import collate
from vtg.demo.language import plain_sentence, vocabulary
from vtg.demo.tiny_model import TINY_QWEN3_VL, build_qwen3_vl, train_tokenizer
from vtg.demo.world import COLORS, SHAPES, World, make_world, render
from vtg.models.patch_embed import project_patches_by_matmul
from vtg.output import follow_umask, write_json
from vtg.progress_bar import Bar, counted
from vtg.tasks.prompts import TEMPLATES
from vtg.tasks.span_task import SpanTask
from vtg.video.clip import Clip

SIZE = 64
FPS = 2.0
KINDS = (len(COLORS) + 1) * len(SHAPES)
"""Shapes of a colour, white ones too."""

TASK = SpanTask(TaskConfig(name="span", answer="seconds", selection="random"))


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
    project_patches_by_matmul(model)
    model.set_attn_implementation({"text_config": "eager", "vision_config": "sdpa"})  # the faster for short sequences
    model.to(args.device)
    pretrain_vision(model, processor, rng, steps=args.vision_steps, learning_rate=1e-3)
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
    head = torch.nn.Linear(model.config.get_text_config().hidden_size, KINDS).to(device)
    parameters = [*model.model.visual.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
    progress = Bar(steps, title="vision", unit="step", leave=True)
    for step in counted(range(steps), progress):
        _set_rate(optimizer, learning_rate * min(1, (step + 1) / 50))
        pixels, grid, target = _vision_batch(processor, rng, worlds=16, pairs=16)
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
    guide = Guide(model.config.get_text_config().hidden_size, to_id=to_id).to(device)
    parameters = [parameter for parameter in [*model.parameters(), *guide.parameters()] if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    progress = Bar(steps, title="grounding", unit="step", leave=True)
    for step in counted(range(steps), progress):
        share = step / schedule
        decay = 0.5 * (1 + math.cos(math.pi * max(0.0, (share - 0.5) / 0.5)))
        _set_rate(optimizer, learning_rate * min(1, (step + 1) / 100) * (0.02 + 0.98 * decay))
        batch, facts = grounding_batch(processor, rng, share=share, size=batch_size)
        labels = batch.pop("labels")[:, 1:]
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
        aside = guide(outputs, inputs["mm_token_type_ids"] == 2, labels.to(device), facts.to(device))
        _update(loss + max(0.0, 1 - share / 0.7) * sum(aside), parameters, optimizer)
        hits = (logits.argmax(-1).flatten() == target)[target != IGNORE_INDEX].float().mean().item()
        shown = " ".join(f"{value.item():.2f}" for value in aside)
        progress.note({"loss": f"{loss.item():.3f}", "tokens_right": f"{hits:.2f}", "guide": shown})
        if (step + 1) % 500 == 0:
            save(model, processor, out, facts={"steps": step + 1})


@dataclass(frozen=True)
class Facts:
    """What the `Guide` is scored against, for the V vision tokens and the Q questions of a batch, in reading order."""

    seconds: torch.Tensor  # (V,) whole seconds shown before the token
    changes: torch.Tensor  # (V, 2 * shapes of a colour) which have appeared, and which vanished, since the patch before
    colors: torch.Tensor  # (Q,)
    shapes: torch.Tensor  # (Q,)

    def to(self, device: torch.device) -> "Facts":
        return Facts(*(value.to(device) for value in (self.seconds, self.changes, self.colors, self.shapes)))


class Guide(torch.nn.Module):
    """Losses that show the middle layers their parts of the work.

    After layer 2 a vision token shall know its time, after layer 3 what appeared or vanished in it; after layer 3 an
    answer token shall know what is asked; in layer 4 its first head shall look where that appeared, the second where it
    vanished. The linear heads that read this are not part of the model.
    """

    def __init__(self, width: int, *, to_id: int) -> None:
        super().__init__()
        self.to_id = to_id
        self.second = torch.nn.Linear(width, 32)
        self.change = torch.nn.Linear(width, 2 * KINDS)
        self.color = torch.nn.Linear(width, len(COLORS))
        self.shape = torch.nn.Linear(width, len(SHAPES))

    def forward(self, out: Any, is_vision: torch.Tensor, labels: torch.Tensor, facts: Facts) -> list[torch.Tensor]:
        """Losses of time, change, colour, shape and looking. `labels` (B, L-1) are shifted, `is_vision` is (B, L)."""
        functional = torch.nn.functional
        answered = labels != IGNORE_INDEX
        first = answered & ~functional.pad(answered, (1, 0))[:, :-1]
        question = (first.flatten().cumsum(0) - 1).view_as(first)[answered]  # of every answer token, over the batch
        row, position = answered.nonzero(as_tuple=True)
        asked = out.hidden_states[3][row, position].float()
        # The tokens of the end stand behind the answer's " to".
        is_end = (labels[answered] == self.to_id).long().cumsum(0) > question
        kind = facts.colors[question] * len(SHAPES) + facts.shapes[question]
        changes = torch.zeros(*is_vision.shape, 2 * KINDS, device=labels.device)
        changes[is_vision] = facts.changes
        there = changes[row, :, kind + KINDS * is_end]
        looking = out.attentions[3][row, is_end.long(), position].float()
        mass = (looking * there).sum(-1)[there.any(-1)]
        return [
            functional.cross_entropy(self.second(out.hidden_states[2][is_vision].float()), facts.seconds),
            10
            * functional.binary_cross_entropy_with_logits(
                self.change(out.hidden_states[3][is_vision].float()), facts.changes
            ),
            functional.cross_entropy(self.color(asked), facts.colors[question]),
            functional.cross_entropy(self.shape(asked), facts.shapes[question]),
            -(mass + 1e-6).log().mean(),
        ]


def grounding_batch(
    processor: Qwen3VLProcessor, rng: np.random.Generator, *, share: float, size: int
) -> tuple[Features, Facts]:
    """A batch of clips about equally long; `share` (0 to 1) is how far the curriculum is."""
    grown = min(1.0, max(0.0, (share - 0.2) / 0.5))
    longest_s = float(rng.uniform(4.0, 6.0 + 16.0 * grown))
    rows, facts = [], []
    while len(rows) < size:
        duration_s = round(longest_s * float(rng.uniform(0.92, 1.0)), 2)
        world = make_world(rng, duration_s=duration_s, events=int(rng.integers(2, 6)))
        if share < 0.2:  # first, whole seconds: the digits to copy stand in the prompt
            world = _on_whole_seconds(world)
        if world.queries:
            world = replace(world, events=tuple(world.events[at] for at in rng.permutation(len(world.events))))
            clip = make_clip(world, rng)
            rows.append(encode(processor, _conversation(world, rng), clip))
            facts.append(_facts(world, clip.timestamps_s))
    parts = (torch.from_numpy(np.concatenate(part)) for part in zip(*facts, strict=True))
    return collate(rows, pad_token_id=processor.tokenizer.pad_token_id), Facts(*parts)


def make_clip(world: World, rng: np.random.Generator) -> Clip:
    """The world as a Clip of `FPS` frames a second, each at the time of a frame of some source frame rate."""
    rate = float(rng.choice([8, 10, 12.5, 15, 24, 25, 30]))
    grid_s = np.arange(0, world.duration_s, 1 / FPS)
    times_s = np.floor(grid_s[: len(grid_s) // 2 * 2] * rate + 1e-6) / rate
    frames = np.ascontiguousarray(render(world, times_s, size=SIZE).transpose(0, 3, 1, 2))
    return Clip(
        frames=frames,
        timestamps_s=times_s,
        duration_s=world.duration_s,
        path="synthetic",
        start_s=0.0,
        end_s=world.duration_s,
    )


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


def _conversation(world: World, rng: np.random.Generator) -> list[dict]:
    """One clip, all its queries, as turns of one conversation."""
    messages: list[dict] = []
    for event in world.queries:
        user, answer = TASK.conversation(
            plain_sentence(event, rng),
            duration_s=world.duration_s,
            spans=[(event.start_s, event.end_s)],
            key="pretrain",
            seed=int(rng.integers(2**31)),
        )
        user["content"] = user["content"] if not messages else user["content"][1:]
        messages += [user, answer]
    return messages


def _facts(world: World, times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(seconds, changes, colours, shapes) of one clip; four tokens a temporal patch, one for each corner."""
    pairs_s = times_s.reshape(-1, 2)
    stamps = np.array([float(f"{mean_s:.1f}") for mean_s in pairs_s.mean(1)])
    seen = _visible(world, times_s).reshape(len(pairs_s), 2, 4, KINDS).max(1)
    before = np.concatenate([np.zeros_like(seen[:1]), seen[:-1]])
    changes = np.concatenate([seen * (1 - before), before * (1 - seen)], axis=-1)
    colors = np.array([list(COLORS).index(event.color) for event in world.queries])
    shapes = np.array([SHAPES.index(event.shape) for event in world.queries])
    return np.repeat(stamps.astype(np.int64), 4), changes.reshape(-1, 2 * KINDS).astype(np.float32), colors, shapes


def _visible(world: World, times_s: np.ndarray) -> np.ndarray:
    """(T, 4, KINDS) float32: 1 where a shape of a colour stands in a corner at a time."""
    seen = np.zeros((len(times_s), 4, KINDS), np.float32)
    colors = [*COLORS, "white"]
    for event in world.events:
        visible = (times_s >= event.start_s) & (times_s < event.end_s)
        corner = int(event.x > 0.5) + 2 * int(event.y > 0.5)
        seen[visible, corner, colors.index(event.color) * len(SHAPES) + SHAPES.index(event.shape)] = 1
    return seen


def _on_whole_seconds(world: World) -> World:
    events = []
    for event in world.events:
        start_s = float(math.floor(event.start_s))
        events.append(replace(event, start_s=start_s, end_s=max(start_s + 1, float(math.floor(event.end_s)))))
    return replace(world, events=tuple(events))


def _vision_batch(
    processor: Qwen3VLProcessor, rng: np.random.Generator, *, worlds: int, pairs: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    frames, targets = [], []
    for _ in range(worlds):
        world = make_world(rng, duration_s=8.0, events=6, scenery=2)
        first_s = rng.uniform(0, 7.5, pairs)
        times_s = np.stack([first_s, first_s + 0.5], 1).ravel()
        frames.append(render(world, times_s, size=SIZE).transpose(0, 3, 1, 2))
        targets.append(_visible(world, times_s).reshape(pairs, 2, 4, KINDS).mean(1))
    video = torch.from_numpy(np.concatenate(frames))
    out = processor.video_processor(  # type: ignore[operator]
        [video], do_sample_frames=False, do_resize=False, cap_pixels_per_frame=False, return_tensors="pt"
    )
    target = torch.from_numpy(np.concatenate(targets)).flatten(0, 1)
    grid = out["video_grid_thw"].clone()
    patches, grid[0, 0] = int(grid[0, 0]), 1  # each pair of frames is a clip of its own
    return out["pixel_values_videos"], grid.repeat(patches, 1), target


def _texts() -> list[str]:
    stamps = [f"<{second}.{tenth} seconds>" for second in range(25) for tenth in range(10)]
    return [
        *vocabulary() * 5,
        *(t for pool in TEMPLATES.values() for t in pool * 20),
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
