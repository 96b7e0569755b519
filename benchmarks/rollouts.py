"""How fast are completions written? `python benchmarks/rollouts.py [--prompts 4] [--group 8] [--tokens 32]`.

The shipped tiny model on the CPU, one thread, in float32: `DecodingEngine`, which holds a prompt's keys once for all of
its completions; the same with prompts read one by one instead of packed; and transformers' `generate`, which runs the
prompt for each. The clips are encoded before, as in a rollout of GRPO; every completion has the same length. The ways
take turns, and what is given is the median of the rounds, in CPU seconds: on a shared machine that is what a way takes
alone.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import encode, patch_factor, turn_end_id, vision_token_ids
from vtg.decoding.engine import DecodingEngine
from vtg.decoding.prompt_sequence import Prompt
from vtg.decoding.sampling import sample
from vtg.decoding.shared_prefix import accept_encoded_videos, encode_video
from vtg.decoding.token_choice import Sampling
from vtg.demo.tiny_model import TINY_QWEN3_VL
from vtg.models.attention import attend_in_layouts
from vtg.tasks.span_task import SpanTask
from vtg.video.clip import Clip

FPS = 2.0


def encoded_prompts(model: Any, processor: Any, *, count: int, frames: int, side: int) -> list[Prompt]:
    """Prompts about clips of seeded noise, `side` vision tokens high and wide."""
    task, size, found = SpanTask(TaskConfig()), side * patch_factor(processor), []
    for seed in range(count):
        pictures = np.random.default_rng(seed).integers(0, 256, (frames, 3, size, size), dtype=np.uint8)
        clip = Clip(pictures, np.arange(frames) / FPS, frames / FPS, f"noise {seed}", 0.0, frames / FPS)
        messages = task.conversation("someone sits down, then stands up", duration_s=clip.duration_s)
        features = encode(processor, messages, clip)
        nothing = torch.empty(0)
        found.append(Prompt(features | {"pixel_values_videos": nothing}, encode_video(model, features)))
    return found


def measured(ways: dict[str, Callable[[], Any]], *, rounds: int) -> dict[str, float]:
    """CPU seconds of each, the median of some rounds after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for at in range(rounds + 1):
        for name, way in ways.items():
            start = time.process_time()
            way()
            if at:
                seconds[name].append(time.process_time() - start)
    return {name: statistics.median(one) for name, one in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--group", type=int, default=8, help="completions of each prompt")
    parser.add_argument("--tokens", type=int, default=32, help="of each completion")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--side", type=int, default=4, help="vision tokens that a frame is high and wide")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    processor = AutoProcessor.from_pretrained(TINY_QWEN3_VL)
    model = AutoModelForImageTextToText.from_pretrained(TINY_QWEN3_VL, dtype=torch.float32).eval()
    attend_in_layouts(model, "sdpa")  # as loading does
    accept_encoded_videos(model)
    with torch.no_grad():
        prompts = encoded_prompts(model, processor, count=args.prompts, frames=args.frames, side=args.side)
    config = GenerationConfig(
        max_new_tokens=args.tokens,
        min_new_tokens=args.tokens,
        do_sample=True,
        top_k=0,
        pad_token_id=processor.tokenizer.pad_token_id,
        eos_token_id=turn_end_id(processor),
        suppress_tokens=vision_token_ids(processor),
        disable_compile=True,
    )
    sampling = Sampling.of(config)
    assert sampling is not None
    engine, one_by_one = DecodingEngine(model, sampling), DecodingEngine(model, sampling, prefill_tokens=1)
    ways = {
        "engine": lambda: engine.complete(prompts, n=args.group),
        "one by one": lambda: one_by_one.complete(prompts, n=args.group),
        "generate": lambda: sample(model, prompts, config, n=args.group, pad_token_id=config.pad_token_id),
    }
    seconds = measured(ways, rounds=args.rounds)
    length, ratio = len(prompts[0].features["input_ids"]), seconds["generate"] / seconds["engine"]
    print(json.dumps({**vars(args), "prompt_tokens": length, "seconds": seconds, "key_bytes": engine.peak.bytes}))
    columns = ("prompt tokens", *(f"{name}, CPU s" for name in ways), "generate / engine", "keys held, MB")
    print(f"| {' | '.join(columns)} |\n|{'---:|' * len(columns)}")
    figures = (
        f"{length:,}",
        *(f"{seconds[name]:.3f}" for name in ways),
        f"{ratio:.1f}",
        f"{engine.peak.bytes / 1e6:.1f}",
    )
    print(f"| {' | '.join(figures)} |")


if __name__ == "__main__":
    main()
