"""Batches that the tiny model is pretrained on: synthetic clips, drawn afresh, and the targets of `AuxiliaryHeads`."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from transformers import Qwen3VLProcessor

from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import Features, encode
from vtg.data.padding import collate
from vtg.demo.language import plain_sentence
from vtg.demo.world import COLORS, SHAPES, World, make_world, render
from vtg.tasks.span_task import SpanTask
from vtg.video.clip import Clip

# Pixels a side: 2 x 2 vision tokens a frame, one for each corner of the world.
SIZE = 64
FPS = 2.0

KINDS = (len(COLORS) + 1) * len(SHAPES)
"""Pairs of colour and shape, white scenery included."""

TASK = SpanTask(TaskConfig(name="span", answer="seconds", selection="random"))


@dataclass(frozen=True)
class AuxiliaryTargets:
    """Targets of `AuxiliaryHeads`, for the V vision tokens and the Q questions of a batch, in reading order."""

    seconds: torch.Tensor  # (V,) whole seconds shown before the token
    changes: torch.Tensor  # (V, 2 * shapes of a colour) which have appeared, and which vanished, since the patch before
    colors: torch.Tensor  # (Q,)
    shapes: torch.Tensor  # (Q,)

    def to(self, device: torch.device) -> "AuxiliaryTargets":
        return AuxiliaryTargets(*(value.to(device) for value in (self.seconds, self.changes, self.colors, self.shapes)))


def grounding_batch(
    processor: Qwen3VLProcessor, rng: np.random.Generator, *, share: float, size: int
) -> tuple[Features, AuxiliaryTargets]:
    """A batch of clips about equally long; `share` (0 to 1) is how far the curriculum is."""
    grown = min(1.0, max(0.0, (share - 0.2) / 0.5))
    longest_s = float(rng.uniform(4.0, 6.0 + 16.0 * grown))
    rows, targets = [], []
    while len(rows) < size:
        duration_s = round(longest_s * float(rng.uniform(0.92, 1.0)), 2)
        world = make_world(rng, duration_s=duration_s, events=int(rng.integers(2, 6)))
        if share < 0.2:  # first, whole seconds: the digits to copy stand in the prompt
            world = _on_whole_seconds(world)
        if world.queries:
            world = replace(world, events=tuple(world.events[at] for at in rng.permutation(len(world.events))))
            clip = make_clip(world, rng)
            rows.append(encode(processor, _conversation(world, rng), clip))
            targets.append(_auxiliary_targets(world, clip.timestamps_s))
    parts = (torch.from_numpy(np.concatenate(part)) for part in zip(*targets, strict=True))
    return collate(rows, pad_token_id=processor.tokenizer.pad_token_id), AuxiliaryTargets(*parts)


def make_clip(world: World, rng: np.random.Generator) -> Clip:
    """The world as a Clip of `FPS` frames a second, each at the time of a frame of some source frame rate."""
    # True times of real files are no multiples of 0.5 s: stamps must be read, not counted.
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


def vision_batch(
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


def _auxiliary_targets(world: World, times_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
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
