"""The sections of gpu.py that time rollouts, evaluation, and a step of GRPO beside the naive way."""

import statistics
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gpu_shapes import (
    FPS,
    ArrayClips,
    Bench,
    compared,
    counts_of,
    free,
    median_s,
    now,
    peak_bytes,
    random_clip,
    step_flops,
)
from gpu_training import settings
from transformers.video_utils import VideoMetadata

from vtg.config.schema import SFTConfig
from vtg.data.encoding import vision_token_ids
from vtg.decoding.engine import DecodingEngine
from vtg.decoding.prompt_sequence import Prompt
from vtg.decoding.shared_prefix import encode_video, share_prompts
from vtg.decoding.token_choice import Sampling
from vtg.evaluation.generate import generate
from vtg.memory.estimate import MemoryEstimate, estimate
from vtg.memory.parameters import ParameterCounts
from vtg.memory.shape import Shape
from vtg.memory.training_load import Batch
from vtg.memory.workload import ClipSize, Workload
from vtg.models.adapting import prepare_training
from vtg.models.plain_model import plain_model

GRPO_WAYS = {"vtg": ("vtg", 1), "naive": ("naive", 1), "vtg, 4 questions": ("vtg", 4)}
"""Trainers of `grpo_ways.BUILDERS`, and questions about the clip in a step."""

PROMPTS = (4,)
"""That completions are sampled of at once, beside one alone."""

# One way after the other, where grpo.py lets them take turns: a card's times are steady, and 80 GB do not hold the
# weights, moments and activations of both.
GRPO_ROUNDS = 3


def decode(bench: Bench, found: dict[str, Any]) -> None:
    """Completions of one long prompt as a rollout samples them, and greedy answers as evaluation asks for them."""
    free()
    bench.reaches(found, "one prompt, evaluation")
    config = settings(bench)
    model = bench.model(bench.scale.models[0], fused=True)
    answers(bench, config, model, counts_of(model.config, model.dtype, config), found)


def answers(bench: Bench, config: SFTConfig, model: Any, own: ParameterCounts, found: dict[str, Any]) -> None:
    """Fills `found` with completions of one long prompt and greedy answers of `model`; `own`: what the estimate counts
    of it."""
    scale = bench.scale
    item = bench.dataset([scale.frames], training=False)[0]
    model = prepare_training(model, config.parts, config.lora).eval()
    plain = plain_model(model)
    share_prompts(plain)
    features = {key: value.to(bench.device) for key, value in item.features.items()}
    length, vision = len(features["input_ids"]), int((features["mm_token_type_ids"] == 2).sum())
    setup = Workload(config).training_setup(gpu=bench.on_gpu, ranks=1)
    found |= {"prompt_tokens": length, "completions": scale.group, "new_tokens": scale.new_tokens}

    with torch.autocast(bench.device, dtype=torch.bfloat16, enabled=bench.on_gpu):
        encoded = encode_video(plain, features)
    # A rollout lets the pixels go, once they are encoded.
    prompt = Prompt(features | {"pixel_values_videos": torch.empty(0, device=bench.device)}, encoded)
    del features
    free()
    found |= rollouts(bench, model, [prompt])
    group = Batch(1, length, vision, generations=scale.group, completion=scale.new_tokens)
    expected = estimate(own, group, setup)
    # Nothing is trained here: the estimate's moments are not there.
    found["rollout_memory"] = compared(expected.generation_bytes - expected.optimizer_bytes, expected)

    if bench.reaches(found, "several prompts at once, without graphs"):
        found["prompts_at_once"] = {f"{count} prompts": rollouts(bench, model, [prompt] * count) for count in PROMPTS}
        found["without_graphs"] = rollouts(bench, model, [prompt], graphs=False)
    free()
    rows = Batch(scale.evaluated, length + scale.new_tokens, scale.evaluated * vision)
    expected = estimate(own, Batch(1, length, vision), setup, generating=rows)
    start = now()  # no warm-up: the rollouts were one, and an evaluation is long
    generate(model, bench.processor, [item.features] * scale.evaluated, max_new_tokens=scale.new_tokens)
    seconds = now() - start
    found["evaluation"] = {
        "rows": scale.evaluated,
        "seconds": seconds,
        "seconds_a_sample": seconds / scale.evaluated,
        **compared(expected.generation_bytes - expected.optimizer_bytes, expected),
    }
    for count in (1, *PROMPTS) if "prompts_at_once" in found and bench.on_gpu else ():  # a CPU compiles for long
        name = f"{count}, compiled"
        with bench.case(name):
            found["prompts_at_once"][name] = rollouts(bench, model, [prompt] * count, compiled_after=1)


def rollouts(bench: Bench, model: Any, prompts: list[Prompt], **engine_options: Any) -> dict[str, float]:
    """A group of completions of every prompt, each as long as it may be."""
    scale, seconds = bench.scale, []
    for tokens in (1, scale.new_tokens):
        free()
        sampling = Sampling(
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            ends=(bench.processor.tokenizer.eos_token_id,),
            temperature=1.0,
            suppressed=tuple(vision_token_ids(bench.processor)),
        )
        engine = DecodingEngine(model, sampling, **engine_options)

        def rollout(engine: DecodingEngine = engine, tokens: int = tokens) -> None:
            with torch.autocast(bench.device, dtype=torch.bfloat16, enabled=bench.on_gpu):
                groups = engine.complete(prompts, n=scale.group)
            assert all(len(one.tokens) == tokens for group in groups for one in group)

        seconds.append(median_s(rollout, times=1))
        del engine, rollout
    first_s, whole_s = seconds
    return {
        "rollout_s": whole_s,
        "first_token_s": first_s,
        "ms_a_token": 1000 * (whole_s - first_s) / (scale.new_tokens - 1),
        "completion_tokens_per_s": len(prompts) * scale.group * scale.new_tokens / whole_s,
    }


def grpo(bench: Bench, found: dict[str, Any]) -> None:
    """A step of GRPO by vtg and by the naive subclass of TRL's trainer, all of the language model trained."""
    from grpo import Way, floor, prompt_length
    from grpo_ways import Case

    scale = bench.scale
    clip = random_clip(scale.grpo_frames, scale.grpo_size)
    case = Case(
        group=scale.grpo_group,
        completion=scale.grpo_tokens,
        trained_tower=False,
        path=f"frames-{scale.grpo_frames}",
        frames=scale.grpo_frames,
        size=scale.grpo_size,
        processor=bench.processor,
        pristine=bench.model(scale.models[2]),
        folder=str(bench.folder),
    )
    shape = Shape.of(case.pristine.config)
    for name, (kind, questions) in GRPO_WAYS.items():
        free()
        way = Way(kind, replace(case, questions=questions))
        _hand_over(clip, way)
        inputs = way.inputs()
        found.setdefault("P", prompt_length(kind, inputs))
        del inputs
        way.step()
        rounds = [way.step() for _ in range(GRPO_ROUNDS if bench.on_gpu else 1)]
        keys = ("update_s", "rollout_s", "logprobs_s", "step_s")
        found[name] = {key: statistics.median(one[key] for one in rounds) for key in keys}
        if name == "vtg":
            found[name] |= compared(*_grpo_memory(way.case, way.trainer.prompts[0].features, on_gpu=bench.on_gpu))
        else:
            peak = peak_bytes()
            found[name]["peak_gb"] = peak and peak / 1e9
        del way
    found |= {"G": case.group, "R": case.completion, "floor": floor(found["P"], case)}
    sequences = {
        "vtg": [found["P"] + case.group * case.completion],
        "naive": [found["P"] + case.completion] * case.group,
    }
    for name, lengths in sequences.items():
        flops = step_flops(shape, lengths, trained=True)
        found[name]["update_tflops_per_s"] = flops / found[name]["update_s"] / 1e12
    for key in ("update_s", "rollout_s", "step_s"):
        name = f"naive_to_vtg_{key.removesuffix('_s')}"
        found[name] = found["naive"][key] / found["vtg"][key]
        # The naive way takes each question by itself.
        found[f"{name}_4_questions"] = 4 * found["naive"][key] / found["vtg, 4 questions"][key]


def _grpo_memory(case: Any, features: Any, *, on_gpu: bool) -> tuple[int, MemoryEstimate]:
    """What `look=memory` says of vtg's step about this prompt, beside the model that every way copies."""
    config, model = case.config(), case.pristine
    vision = int((features["mm_token_type_ids"] == 2).sum())
    workload, size = Workload(config), ClipSize(len(features["input_ids"]), vision, case.frames / FPS)
    [batch] = workload.training_batches([size])
    setup = workload.training_setup(gpu=on_gpu, ranks=1)
    expected = estimate(counts_of(model.config, model.dtype, config), batch, setup)
    beside = sum(parameter.nbytes for parameter in model.parameters())
    return beside + max(expected.training_bytes, expected.generation_bytes), expected


def _hand_over(clip: np.ndarray, way: Any) -> None:
    """Lets a way read the frames from memory: a lent machine has no decoder that transformers takes."""
    if way.name == "vtg":
        way.trainer.prompts.provider = ArrayClips(clip)
        return
    frames = clip.transpose(0, 2, 3, 1)  # as transformers' readers give them

    def fetch(video: Any, sample_indices_fn: Any = None) -> Any:
        if isinstance(video, list):
            return list(zip(*[fetch(one, sample_indices_fn) for one in video], strict=True))
        height, width = frames.shape[1:3]
        metadata = VideoMetadata(len(frames), fps=FPS, width=width, height=height, duration=len(frames) / FPS)
        metadata.frames_indices = sample_indices_fn(metadata=metadata)
        return frames[metadata.frames_indices], metadata

    way.trainer.processing_class.video_processor.fetch_videos = fetch
