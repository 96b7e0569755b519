"""What the sections of gpu.py share: how large they are, clips in memory, random models, estimates, and clocks."""

import copy
import dataclasses
import gc
import math
import statistics
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from grpo_ways import QUERY, build_model
from transformers import AutoModelForImageTextToText, AutoProcessor

from vtg.annotations.sample import Sample
from vtg.annotations.target import Spans
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.data.grounding_dataset import GroundingDataset, GroundingItem
from vtg.demo.tiny_model import TINY_QWEN3_VL
from vtg.memory.estimate import MemoryEstimate
from vtg.memory.parameters import ParameterCounts, count
from vtg.memory.published_shapes import published_config
from vtg.memory.shape import Shape
from vtg.models.attention import attend_in_layouts
from vtg.models.fused_kernels import fuse, unfuse, uses_liger
from vtg.tasks.span_task import SpanTask
from vtg.video.clip import Clip
from vtg.video.video_window import VideoWindow

FPS = 2.0

TRACEBACK_LINES = 8

PUBLISHED = {"2b": "Qwen/Qwen3-VL-2B-Instruct", "4b": "Qwen/Qwen3-VL-4B-Instruct"}
"""Keys of `grpo_ways.SIZES` whose shapes the memory estimate knows by a hub name."""


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large the sections are.

    Attributes:
        models: of SFT and answers; of a full fine-tuning that the first is too large for; of GRPO (`grpo_ways.SIZES`).
        adapted: models of every way of adapting: hub names, or those of `gpu_adapting.SMALL`.
        frames, size: of the long clip, and height and width of a frame, in pixels.
        mixed: frames of the clips of a mixed batch.
        steps: that are timed, after one that is not.
        grpo_frames, grpo_size: of GRPO's clip.
        demo: overrides of the demo's runs; demo_steps: of its SFT.
    """

    models: tuple[str, str, str]
    adapted: tuple[str, str]
    frames: int
    size: tuple[int, int]
    mixed: tuple[int, ...]
    steps: int
    new_tokens: int
    group: int
    evaluated: int
    grpo_frames: int
    grpo_size: tuple[int, int]
    grpo_group: int
    grpo_tokens: int
    matrix: int
    demo: tuple[str, ...]
    demo_steps: int


DEMO = ("trainer.report_to=none", "evaluation.shuffled_video_control=false")

# 256 frames of 88 tokens in pairs, and their stamps: about 12,500 tokens, the longest clip of the default settings.
# GRPO's 64 frames of 224x224 make a prompt of 1,909 tokens, the one that was measured before.
FULL = Scale(
    models=("4b", "2b", "2b"),
    adapted=("Qwen/Qwen3-VL-4B-Instruct", "Qwen/Qwen3.5-4B"),
    frames=256,
    size=(256, 352),
    mixed=(32, 64, 96, 160),
    steps=2,
    new_tokens=48,
    group=8,
    evaluated=8,
    grpo_frames=64,
    grpo_size=(224, 224),
    grpo_group=8,
    grpo_tokens=24,
    matrix=8192,
    demo=(*DEMO, "data.demo.train_videos=48", "data.demo.val_videos=2", "data.demo.test_videos=8"),
    demo_steps=12,
)
# Small enough for two busy cores, and every line of every section still runs.
REDUCED = Scale(
    models=("small", "small", "small"),
    adapted=("small Qwen3-VL", "small Qwen3.5"),
    frames=16,
    size=(64, 64),
    mixed=(4, 8),
    steps=1,
    new_tokens=4,
    group=2,
    evaluated=2,
    grpo_frames=8,
    grpo_size=(64, 64),
    grpo_group=2,
    grpo_tokens=4,
    matrix=512,
    demo=(*DEMO, "data.demo.train_videos=4", "data.demo.val_videos=1", "data.demo.test_videos=2"),
    demo_steps=2,
)


class ArrayClips:
    """A `ClipProvider` of frames that are in memory, so that no decoder is timed: `frames-N` is the first N of them."""

    def __init__(self, frames: np.ndarray) -> None:
        self.frames, self.config = frames, VideoConfig(fps=FPS)
        self._clips: dict[str, Clip] = {}

    def clip(self, window: VideoWindow, *, seed: int = 0) -> Clip:
        if window.path not in self._clips:
            frames = self.frames[: int(window.path.rpartition("-")[2])]
            seconds = len(frames) / FPS
            times_s = np.arange(len(frames)) / FPS
            self._clips[window.path] = Clip(frames, times_s, seconds, window.path, 0.0, seconds)
        return self._clips[window.path]

    def take_counts(self) -> Counter[str]:
        return Counter()


class KeptItems(GroundingDataset):
    """Encodes each sample once, since reading is not what is timed."""

    def __getitem__(self, index: int) -> GroundingItem:
        # Kept in the instance: the data sets of a script are few, and go with their section.
        kept = self.__dict__.setdefault("kept", {})
        if index not in kept:
            kept[index] = super().__getitem__(index)
        return kept[index]


@dataclasses.dataclass
class Bench:
    """What a section is given.

    Attributes:
        clip: (T, 3, H, W) uint8, T at least `scale.frames`.
        seconds_left: until the script's time is out.
        section_left: until the time of the section is out, after which it begins no other case (`reaches`).
        reached: cases of the section that began.
    """

    scale: Scale
    clip: np.ndarray
    folder: Path
    seconds_left: Callable[[], float]
    on_gpu: bool
    section_left: Callable[[], float] = lambda: math.inf
    reached: int = 0
    failed: list[str] = dataclasses.field(default_factory=list)
    processor: Any = dataclasses.field(default_factory=lambda: AutoProcessor.from_pretrained(TINY_QWEN3_VL))

    def reaches(self, found: dict[str, Any], case: str) -> bool:
        """Whether there is time for a case of the section, as there always is for its first; else `found` names it."""
        if self.reached and min(self.seconds_left(), self.section_left()) <= 0:
            found["not reached"] = "; ".join(filter(None, (found.get("not reached"), case)))
            return False
        self.reached += 1
        return True

    @contextmanager
    def case(self, name: str) -> Iterator[None]:
        """A case of the section: what fails in it is kept, and the section's other cases go on."""
        try:
            yield
        except Exception as error:  # whatever it is: the other cases' figures must not be lost with it
            self.failed += [f"{name}:", *last_lines(error)]
            free()

    @property
    def device(self) -> str:
        return "cuda" if self.on_gpu else "cpu"

    def model(self, size: str, *, fused: bool = False) -> Any:
        """Random weights, made on the device; of a released size, its published shape is checked.

        `fused`: by Liger's kernels where they are installed, as loading does it.
        """
        model = build_model(size, self.processor.tokenizer, self.device)
        attend_in_layouts(model, "sdpa")  # as loading does
        # unfuse: the rotation, which an earlier section may have replaced for all models of the class.
        (fuse if fused and uses_liger("auto", on_gpu=self.on_gpu) else unfuse)(model)
        if size in PUBLISHED:
            assert Shape.of(model.config) == Shape.of(published_config(PUBLISHED[size])), size
        return model

    def dataset(self, counts: Sequence[int], *, training: bool, clip: np.ndarray | None = None) -> GroundingDataset:
        """One sample for each number of frames."""
        samples = [
            Sample(f"frames-{count}", count / FPS, Spans(((1.0, 1.5),)), QUERY, str(at), place=f"gpu:{at}")
            for at, count in enumerate(counts)
        ]
        return KeptItems(
            samples,
            task=SpanTask(TaskConfig()),
            processor=self.processor,
            provider=ArrayClips(self.clip if clip is None else clip),  # type: ignore[arg-type]
            video_dir=None,
            max_length=2**20,
            tokens_per_second=2.0,
            training=training,
        )


def last_lines(error: Exception) -> list[str]:
    """The end of its traceback."""
    return "".join(traceback.format_exception(error)).splitlines()[-TRACEBACK_LINES:]


def random_clip(frames: int, size: tuple[int, int]) -> np.ndarray:
    """(T, 3, H, W) uint8 of seeded squares of 16 pixels, another picture in every frame."""
    coarse = np.random.default_rng(0).integers(0, 256, (frames, 3, size[0] // 16, size[1] // 16), dtype=np.uint8)
    return coarse.repeat(16, axis=2).repeat(16, axis=3)


def counts_of(model_config: Any, dtype: torch.dtype, config: Any) -> ParameterCounts:
    """What `vtg.memory` counts of a model of this config, trained by these settings."""
    with torch.device("meta"):
        empty = AutoModelForImageTextToText.from_config(copy.deepcopy(model_config), dtype=dtype)
    return count(empty, config.parts, config.lora)


def free() -> None:
    """Gives back what a section has dropped."""
    gc.collect()  # a trainer and its callbacks point at each other
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_bytes() -> int | None:
    """The most that tensors took since `free`; None without a GPU."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def compared(predicted_bytes: int, estimate: MemoryEstimate) -> dict[str, float | None]:
    """Peak memory as seen beside as predicted, in GB. What CUDA takes itself, PyTorch's counters do not see."""
    predicted, peak = predicted_bytes - estimate.cuda_bytes, peak_bytes()
    ratio = predicted / peak if peak else None
    return {"peak_gb": peak and peak / 1e9, "predicted_gb": predicted / 1e9, "predicted_to_peak": ratio}


def now() -> float:
    """Seconds; what a GPU was given before is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def median_s(action: Callable[[], Any], *, times: int) -> float:
    """Seconds of an action, after one that is not timed: kernels are chosen and memory is asked for at the first."""
    action()
    seconds = []
    for _ in range(times):
        start = now()
        action()
        seconds.append(now() - start)
    return statistics.median(seconds)


def step_flops(shape: Shape, lengths: Sequence[int], *, trained: bool) -> float:
    """Model FLOPs of the language model's forward and backward over sequences of these lengths.

    Recomputation is not counted, causal attention by half, and gradients of weights only where they are `trained`.
    torch's counter is not asked: that of 2.11 fails where queries have more heads than keys.
    """
    weights = shape.layers * shape.hidden * (2 * shape.queries + 2 * shape.keys + 3 * shape.mlp)
    products = 2 * weights * sum(lengths) * (3 if trained else 2)
    return products + 3 * shape.layers * sum(2 * length**2 * shape.queries for length in lengths)


def tower_flops(shape: Shape, grid: Sequence[int]) -> float:
    """FLOPs of the vision tower's layers, forward, on a clip of (temporal, rows, columns) patches."""
    frames, patches = grid[0], grid[1] * grid[2]
    weights = 4 * shape.tower**2 + 2 * shape.tower * shape.tower_mlp
    # Patches attend within their own pair of frames.
    return shape.tower_layers * frames * (2 * weights * patches + 4 * patches**2 * shape.tower)
