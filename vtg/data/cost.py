"""What samples cost before anything is decoded: seconds, frames and tokens, from annotations and video headers."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from tqdm import tqdm
from transformers import ProcessorMixin

from vtg.config.schema import VideoConfig
from vtg.data.inputs import family, patch_factor
from vtg.data.schema import Sample
from vtg.errors import SampleError
from vtg.tasks.span import SpanTask
from vtg.video.container import probe
from vtg.video.sampling import clip_cost

log = logging.getLogger(__name__)

PROBES = 8
"""Files opened at a time: it is mostly waiting for the disk."""

MARGIN = 4
"""Tokens by which neighbouring texts may be cut otherwise alone than together."""


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """Upright size in pixels and frames a second of a video."""

    height: int
    width: int
    fps: float


@dataclass(frozen=True)
class SampleCosts:
    """What each of N samples costs.

    Attributes:
        seconds: (N,) float64, length of the clip.
        frames: (N,) int64, decoded.
        vision_tokens: (N,) int64.
        shared_tokens: (N,) int64, what several rows of one clip have in common: its vision tokens and their stamps.
        tokens: (N,) int64, all of them: never less than `vtg.data.inputs.encode` gives, and rarely a twentieth more.
    """

    seconds: np.ndarray
    frames: np.ndarray
    vision_tokens: np.ndarray
    shared_tokens: np.ndarray
    tokens: np.ndarray


def video_facts(paths: Iterable[str], *, progress: bool = False) -> dict[str, VideoFacts]:
    """Facts from the headers of these files; those that cannot be read are left out (training will name them)."""
    distinct = sorted(set(paths))

    def facts(path: str) -> VideoFacts | None:
        try:
            info = probe(path)
        except SampleError:
            return None
        return VideoFacts(info.height, info.width, info.frames / info.duration_s if info.frames else info.fps)

    with ThreadPoolExecutor(PROBES) as pool:
        found = tqdm(
            pool.map(facts, distinct),
            total=len(distinct),
            desc="reading video headers",
            unit="file",
            disable=not progress or len(distinct) < 100,
            leave=False,
        )
        return {path: fact for path, fact in zip(distinct, found, strict=True) if fact is not None}


def sample_costs(
    samples: Sequence[Sample],
    paths: Sequence[str],
    facts: Mapping[str, VideoFacts],
    *,
    task: SpanTask,
    processor: ProcessorMixin,
    video: VideoConfig,
) -> SampleCosts:
    """The costs of samples with their answers, as training reads them.

    Args:
        paths: the video file of each sample.
        facts: of these files; one that is missing is taken to cost as much as any of its length can.
    """
    factor = patch_factor(processor)
    temporal_patch = processor.video_processor.temporal_patch_size  # type: ignore[attr-defined]
    side = math.isqrt(video.max_pixels)
    largest = VideoFacts(side, side, 30.0)

    @lru_cache(maxsize=100_000)
    def clip(duration_s: float, fact: VideoFacts):
        return clip_cost(
            duration_s,
            height=fact.height,
            width=fact.width,
            config=video,
            factor=factor,
            temporal_patch=temporal_patch,
            rate=fact.fps or 30.0,
        )

    clips = [clip(s.duration_s, facts.get(path, largest)) for s, path in zip(samples, paths, strict=True)]
    seconds = np.array([sample.duration_s for sample in samples])
    frames = np.array([cost.frames for cost in clips], dtype=np.int64)
    vision = np.array([cost.tokens for cost in clips], dtype=np.int64)
    patches = np.array([-(-(cost.frames + cost.pad) // temporal_patch) for cost in clips], dtype=np.int64)
    digits = np.log10(np.maximum(seconds, 1.0)).astype(np.int64) + 1
    stamps = np.array([0, *(_stamp_tokens(processor, number) for number in range(1, int(digits.max()) + 1))])[digits]
    shared = vision + patches * stamps
    return SampleCosts(seconds, frames, vision, shared, shared + _text_tokens(samples, task=task, processor=processor))


def _stamp_tokens(processor: ProcessorMixin, digits: int) -> int:
    """Tokens around one temporal patch where times have so many digits before the point."""
    if family(processor) != "qwen3_vl":
        return 0
    stamp = f"<{'1' * digits}.5 seconds><|vision_start|><|vision_end|>"
    return len(processor.tokenizer(stamp, add_special_tokens=False)["input_ids"])  # type: ignore[attr-defined]


def _text_tokens(samples: Sequence[Sample], *, task: SpanTask, processor: ProcessorMixin) -> np.ndarray:
    """(N,) tokens of the conversations without what stands for the clip, for the longest prompt they may get."""
    tokenizer = processor.tokenizer  # type: ignore[attr-defined]

    def lengths(texts: list[str]) -> np.ndarray:
        return np.array([len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]], dtype=np.int64)

    example = task.conversation("x", duration_s=1.0, spans=[(0.0, 1.0)])
    texts = [part["text"] for message in example for part in message["content"] if part["type"] == "text"]
    whole, *parts = lengths([processor.apply_chat_template(example, tokenize=False), *texts]).tolist()
    frame = whole - sum(parts)
    prompts = int(max(lengths([*task.pool])))
    queries = lengths([sample.query for sample in samples])
    answers = lengths([task.encode(sample.spans, duration_s=sample.duration_s) for sample in samples])
    durations = lengths([f"{sample.duration_s:.1f}" for sample in samples])
    return frame + prompts + queries + answers + durations + MARGIN
