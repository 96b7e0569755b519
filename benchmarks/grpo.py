"""What does a GRPO step cost with the prompt shared? `python benchmarks/grpo.py [--quick] [--group 8,16] [--json FILE]`.

One clip and one question a step, G completions of exactly R tokens each, every weight of the language model trained,
random weights that stay as they are (learning rate 0), and three trainers that take turns in one process:

    vtg           vtg's VideoGRPOTrainer: the prompt and its video once for all of its completions
    naive         the smallest subclass of TRL's GRPOTrainer that sees the video in its loss: all of it for every row
    images        TRL's own GRPOTrainer, unmodified, the frames as images (more tokens: two frames make one of video)
    half images   the same with every other frame: about as many tokens as the video

Figures are medians over the rounds, ratios medians of the ratios within a round. FLOPs are torch's FlopCounterMode's,
which counts an attention in full, whether it is causal or not; the floor is G(P + R) / (P + GR), the tokens that each
runs. TRL's head scores completion tokens alone, as it does on a GPU (on a CPU it would score the prompt too).

    python benchmarks/grpo.py                                  G of 8 and 16, frozen tower; G of 8, trained tower
    python benchmarks/grpo.py --quick                          half a minute: a short clip, G = 4, one round
    python benchmarks/grpo.py --group 8 --tower frozen --ways vtg,naive --json grpo.json
    python benchmarks/grpo.py --model 2b --frames 128 --size 256x448     on a GPU: Qwen3-VL-2B's shape, random weights
"""

import argparse
import contextlib
import copy
import dataclasses
import gc
import importlib.metadata
import json
import logging
import os
import platform
import re
import statistics
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

WAYS = ("vtg", "naive", "images", "half images")
QUERY = "a person opens the door and walks out of the kitchen"
SIZES = {
    "small": dict(
        hidden_size=384, intermediate_size=1152, num_hidden_layers=8, num_attention_heads=4, num_key_value_heads=2,
        head_dim=64, mrope_section=[12, 10, 10],
        vision=dict(depth=3, hidden_size=128, intermediate_size=256, num_heads=4, deepstack_visual_indexes=[0, 1, 2]),
    ),
    "2b": dict(
        hidden_size=2048, intermediate_size=6144, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8,
        head_dim=128, mrope_section=[24, 20, 20],
        vision=dict(depth=24, hidden_size=1024, intermediate_size=4096, num_heads=16,
                    deepstack_visual_indexes=[5, 11, 17]),
    ),
    "4b": dict(
        hidden_size=2560, intermediate_size=9728, num_hidden_layers=36, num_attention_heads=32, num_key_value_heads=8,
        head_dim=128, mrope_section=[24, 20, 20],
        vision=dict(depth=24, hidden_size=1024, intermediate_size=4096, num_heads=16,
                    deepstack_visual_indexes=[5, 11, 17]),
    ),
}  # fmt: skip
"""Shapes of Qwen3-VL; `small` is the prototype's, and the others those of the released models."""

PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "4090": 165.0}
"""Dense bfloat16, of the vendors' data sheets."""


# The model, the clip and the settings, the same for all.


def build_model(size: str, tokenizer: Any, device: str) -> Any:
    """Qwen3-VL of a size with random weights: float32 and the tokenizer's vocabulary, or, on a GPU, as released."""
    import torch
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    from vtg.models.patch_embed import project_patches_by_matmul
    from vtg.models.tiny import _ready, _vision_ids

    shape = dict(SIZES[size])
    vision, sections = dict(shape.pop("vision")), shape.pop("mrope_section")
    text = shape | {
        "vocab_size": len(tokenizer) if size == "small" else 151936,
        "max_position_embeddings": 262144,
        "tie_word_embeddings": True,
        "pad_token_id": tokenizer.pad_token_id,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e6, "mrope_section": sections},
    }
    vision |= {"out_hidden_size": text["hidden_size"], "num_position_embeddings": 2304}
    ids = _vision_ids(tokenizer)
    config = Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen3VLForConditionalGeneration._from_config(
            config, attn_implementation="sdpa", dtype=torch.float32 if size == "small" else torch.bfloat16
        )
    project_patches_by_matmul(model)
    return _ready(model, tokenizer)


def write_clip(path: Path, frames: int, height: int, width: int) -> None:
    """Two frames a second, so that every reader takes the same ones: all."""
    import av
    import numpy as np

    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=2, options={"crf": "23"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(frames):
            coarse = rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(coarse.repeat(16, 0).repeat(16, 1), format="rgb24")))
        container.mux(stream.encode(None))


@dataclasses.dataclass(frozen=True)
class Case:
    """What every trainer is given. `pristine`: the model, of which each has a copy."""

    group: int
    completion: int
    trained_tower: bool
    path: str
    frames: int
    size: tuple[int, int]
    processor: Any
    pristine: Any
    folder: str

    def config(self) -> Any:
        """vtg's settings, from which TRL's follow for all."""
        from vtg.config.schema import LoraConfig, ModelConfig, RewardsConfig, RLConfig, TaskConfig, VideoConfig

        pixels = self.size[0] * self.size[1]
        on_gpu = self.pristine.device.type == "cuda"
        return RLConfig(
            output_dir=self.folder,
            video=VideoConfig(max_frames=self.frames, min_pixels=pixels, max_pixels=pixels, total_pixels=2**40),
            task=TaskConfig(),
            model=ModelConfig(
                attention="sdpa", freeze_vision=not self.trained_tower, freeze_projector=not self.trained_tower
            ),
            lora=LoraConfig(enabled=False),
            rewards=RewardsConfig(terms=[{"name": "temporal_iou", "weight": 1.0}]),
            trainer={
                "learning_rate": 0.0, "weight_decay": 0.0, "per_device_train_batch_size": 1, "use_cpu": not on_gpu,
                "gradient_accumulation_steps": 1, "max_steps": 1, "report_to": "none", "save_strategy": "no",
            },
            rl={
                "num_generations": self.group, "max_completion_length": self.completion, "steps_per_generation": 1,
                "beta": 0.0, "generation_kwargs": {"min_new_tokens": self.completion},
            },
        )  # fmt: skip


# The trainers. Each class has `begin` (what a step begins with), and counts what it decodes.


class Clock:
    """Seconds by label, of methods that are wrapped; a GPU is waited for."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    @contextlib.contextmanager
    def over(self, label: str) -> Iterator[None]:
        start = now()
        yield
        self.seconds[label] += now() - start

    def wrap(self, owner: Any, method: str, label: str) -> None:
        original = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.over(label):
                return original(*args, **kwargs)

        setattr(owner, method, timed)


def now() -> float:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def build_vtg(case: Case) -> tuple[Any, Callable[[], Any]]:
    """vtg's trainer as vtg.training.grpo builds it, one clip a rollout, decoded for each."""
    import numpy as np

    from vtg.data.dataset import GroundingDataset, SkipReport
    from vtg.data.schema import Sample
    from vtg.models.loading import prepare_training
    from vtg.tasks.span import SpanTask
    from vtg.training import rewards
    from vtg.training.curriculum import IoURecord
    from vtg.training.grpo import grpo_arguments
    from vtg.training.grpo_trainer import VideoGRPOTrainer
    from vtg.training.rollouts import RolloutLoader
    from vtg.video.provider import ClipProvider

    config = case.config()
    sample = Sample(case.path, case.frames / 2, ((1.0, 2.0),), QUERY, "1", place="benchmark:1")
    dataset = GroundingDataset(
        [sample],
        task=SpanTask(config.task),
        processor=case.processor,
        provider=ClipProvider(config.video, factor=32, cache_bytes=0),
        video_dir=None,
        max_length=2**20,
        tokens_per_second=2.0,
        training=True,
        answers=False,
    )
    plan = [[np.array([[0]])]]
    loader = RolloutLoader(
        dataset, choose=lambda epoch: [0], plan=lambda chosen, epoch: plan, rank=0, iterations=1, workers=0
    )
    trainer = VideoGRPOTrainer(
        model=prepare_training(copy.deepcopy(case.pristine), config.model, config.lora),
        args=grpo_arguments(config),
        config=config,
        train_dataset=dataset,
        processing_class=case.processor,
        loader=loader,
        costs=np.ones(1),
        terms=rewards.build(config.rewards),
        record=IoURecord.start([sample]),
        report=SkipReport(Path(case.folder) / "skipped.jsonl", max_bad_share=1.0),
    )
    return trainer, lambda: next(iter(loader))


def trl_trainer(case: Case, kind: type) -> Any:
    """A trainer of TRL's with the same settings; completions hold no tokens of pictures, as in vtg."""
    from datasets import Dataset

    from vtg.evaluation.generate import vision_token_ids
    from vtg.models.loading import prepare_training
    from vtg.training.grpo import grpo_arguments

    config = case.config()
    arguments = grpo_arguments(config)
    arguments.generation_kwargs |= {"suppress_tokens": vision_token_ids(case.processor.tokenizer)}  # type: ignore
    return kind(
        model=prepare_training(copy.deepcopy(case.pristine), config.model, config.lora),
        args=arguments,
        reward_funcs=any_reward,
        train_dataset=Dataset.from_dict({"prompt": ["unused"]}),
        processing_class=copy.deepcopy(case.processor),
    )


def any_reward(completions: list[Any], **columns: Any) -> list[float]:
    return [float(at % 2) for at in range(len(completions))]


def question(case: Case) -> list[dict[str, Any]]:
    from vtg.tasks.span import SpanTask

    return SpanTask(case.config().task).conversation(QUERY, duration_s=case.frames / 2, key="1")


def naive_class() -> type:
    """TRL's trainer, to which three things are added: keep the video, hand it on, and show it to the loss."""
    import torch
    from trl import GRPOTrainer

    class NaiveVideoGRPOTrainer(GRPOTrainer):
        def _tokenize_prompts(self, prompts: list) -> Any:
            ids, images, fields = super()._tokenize_prompts(prompts)
            self.video = fields
            return ids, images, fields

        def _generate_and_score_completions(self, inputs: list) -> dict[str, Any]:
            output, fields = super()._generate_and_score_completions(inputs), self.video
            del self.video
            kinds = torch.tensor(fields["mm_token_type_ids"], device=self.args.device)
            completions = output["completion_ids"]
            return output | {
                "pixel_values_videos": fields["pixel_values_videos"].view(len(inputs), -1, self.patch_width),
                "video_grid_thw": fields["video_grid_thw"],
                "mm_token_type_ids": torch.cat([kinds, torch.zeros_like(completions)], dim=1),
            }

        @property
        def patch_width(self) -> int:
            processor = self.processing_class.video_processor
            return 3 * processor.temporal_patch_size * processor.patch_size**2

        def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
            self.video = {key: inputs[key] for key in ("video_grid_thw", "mm_token_type_ids")}
            self.video["pixel_values_videos"] = inputs["pixel_values_videos"].flatten(0, 1)
            loss = super()._compute_loss(model, inputs)
            del self.video
            return loss

        def _get_per_token_logps_and_entropies(
            self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int, **kwargs: Any
        ) -> tuple[Any, Any, None]:
            labels = input_ids.masked_fill(attention_mask == 0, -100)
            labels[:, :-logits_to_keep] = -100
            video = {key: value.to(self.args.device) for key, value in self.video.items()}
            with self.accelerator.autocast():
                out = model(
                    input_ids=input_ids, attention_mask=attention_mask, labels=labels, fused_lm_head=True, **video
                )
            return out.log_probs[:, -logits_to_keep:], out.entropy[:, -logits_to_keep:], None

    return NaiveVideoGRPOTrainer


def build_naive(case: Case) -> tuple[Any, Callable[[], Any]]:
    """Rows that name the file, as TRL's data loader gives them: one for each completion."""
    trainer = trl_trainer(case, naive_class())
    (message,) = question(case)
    content = [part | ({"video": case.path} if part["type"] == "video" else {}) for part in message["content"]]
    rows = [{"prompt": [{"role": "user", "content": content}]} for _ in range(case.group)]
    return trainer, lambda: rows


def build_images(case: Case, every: int) -> tuple[Any, Callable[[], Any]]:
    """Rows with the frames as pictures, decoded beforehand."""
    from PIL import Image
    from trl import GRPOTrainer

    from vtg.video.provider import ClipProvider

    trainer = trl_trainer(case, GRPOTrainer)
    clip = ClipProvider(case.config().video, factor=32).clip(case.path)
    images = [Image.fromarray(frame.transpose(1, 2, 0)) for frame in clip.frames[::every]]
    text = question(case)[0]["content"][1]["text"]
    rows = [{"prompt": [{"role": "user", "content": text}], "images": images} for _ in range(case.group)]
    return trainer, lambda: rows


class Way:
    """One trainer, and what is measured of it."""

    def __init__(self, name: str, case: Case) -> None:
        import torch

        self.name, self.case, self.clock = name, case, Clock()
        builders = {"vtg": build_vtg, "naive": build_naive}
        self.trainer, begin = (
            builders[name](case) if name in builders else build_images(case, every=2 if name == "half images" else 1)
        )
        self.begin = begin
        trainer = self.trainer
        trainer.current_gradient_accumulation_steps = 1
        trainer.model.train()
        trainer.create_optimizer()
        self.phase, self.encodings, self.decodes = "", Counter(), 0
        self.pixels, self.scans, self.prompt_tokens = 0, False, 0
        inner = trainer.model.model
        inner.visual.register_forward_pre_hook(self._count_clips, with_kwargs=True)
        inner.language_model.register_forward_pre_hook(self._scan, with_kwargs=True)
        wrapped = ("_generate_single_turn", "_encoded") if name == "vtg" else ("_generate_single_turn",)
        for method in wrapped:
            self.clock.wrap(trainer, method, "rollout")
        if name != "vtg":
            self.clock.wrap(trainer, "_tokenize_prompts", "prompt")
            self._count_decodes(trainer.processing_class.video_processor)
        self.clip_grids = case.frames // (2 if name == "half images" else 1) if "images" in name else 1
        patch = trainer.processing_class.video_processor
        self.patch_width = 3 * patch.temporal_patch_size * patch.patch_size**2
        self.clip_patches = case.frames // 2 * case.size[0] * case.size[1] // patch.patch_size**2
        self.torch = torch

    # Hooks.

    def _count_clips(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        self.encodings[self.phase] += len(kwargs["grid_thw"])

    def _count_decodes(self, processor: Any) -> None:
        original = processor.fetch_videos

        def counted(video: Any, **kwargs: Any) -> Any:
            self.decodes += isinstance(video, str)
            return original(video, **kwargs)

        processor.fetch_videos = counted

    def _scan(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if self.scans and kwargs["inputs_embeds"].shape[1] > 1:
            self.pixels = max(self.pixels, self.pixel_bytes())

    def pixel_bytes(self) -> int:
        """Of all tensors of patches that are alive: storages, each once."""
        storages = {
            one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
            for one in gc.get_objects()
            if isinstance(one, self.torch.Tensor)
            and one.ndim > 1
            and one.shape[-1] == self.patch_width
            and one.numel() >= self.clip_patches * self.patch_width
            and not one.requires_grad
        }
        return sum(storages.values())

    # What is timed.

    def inputs(self) -> Any:
        """Prompts, completions and advantages: all that comes before the loss."""
        self.phase = "rollout"
        with self.clock.over("prompt"):
            batch = self.begin()
        return self.trainer._prepare_inputs(batch)

    def update(self, inputs: Any) -> Any:
        self.phase = "update"
        loss = self.trainer.compute_loss(self.trainer.model, inputs)
        self.trainer.accelerator.backward(loss)
        return loss

    def clear(self) -> None:
        self.trainer.model.zero_grad(set_to_none=True)

    def forget(self) -> None:
        """Drops the last rollout, which trainers keep until the next is there."""
        self.trainer._buffered_inputs = None
        if self.name == "vtg":
            self.trainer._rolled = self.trainer._sampled = None
            self.trainer._current = []

    def step(self) -> dict[str, float]:
        """Seconds of one whole step by its parts, and of a forward without gradient."""
        self.clock.seconds.clear()
        gc.collect()
        start = now()
        inputs = self.inputs()
        with self.clock.over("update"):
            self.update(inputs)
        self.trainer.optimizer.step()
        seconds = {"step_s": now() - start}
        self.clear()
        assert inputs["completion_mask"].sum() == self.case.group * self.case.completion
        self.phase = "log-probs"
        with self.clock.over("logprobs"), self.torch.no_grad():
            self.trainer.compute_loss(self.trainer.model, inputs)
        return seconds | {f"{label}_s": value for label, value in self.clock.seconds.items()}

    # What is counted, once, untimed.

    def counts(self) -> dict[str, Any]:
        """Decodes, encoder calls, bytes of pixels and FLOPs of one step."""
        from torch.utils.flop_counter import FlopCounterMode

        self.encodings.clear()
        self.decodes, self.pixels, self.scans = 0, 0, True
        if self.name == "vtg":
            self.trainer.counts.clear()
        inputs = self.inputs()
        self.prompt_tokens = prompt_length(self.name, inputs)
        decodes = self.trainer.counts["clips/decoded"] if self.name == "vtg" else self.decodes
        self.update(inputs)
        self.clear()
        self.scans = False
        encodings = {key: count / self.clip_grids for key, count in self.encodings.items()}
        encoded = sum(p.encoded.nbytes for p in inputs["batch"].prompts if p.encoded is not None) if "batch" in inputs else 0  # fmt: skip
        with FlopCounterMode(display=False) as counter:
            self.update(inputs)
        self.clear()
        by_kind: Counter[str] = Counter()
        for operation, flops in counter.get_flop_counts()["Global"].items():
            by_kind["attention" if "attention" in str(operation) else "products"] += flops
        return {
            "prompt_tokens": self.prompt_tokens,
            "decodes_per_clip": decodes,
            "encoder_calls_rollout": encodings.get("rollout", 0.0),
            "encoder_calls_update": encodings.get("update", 0.0),
            "encoder_calls_per_clip_per_forward": max(encodings.values(), default=0.0),
            "encoder_calls_per_policy_version": sum(encodings.values()),
            "pixel_bytes": self.pixels,
            "encoded_bytes": encoded,
            "update_flops": counter.get_total_flops(),
            "update_flops_attention": by_kind["attention"],
            "update_flops_vision": vision_flops(counter),
            "update_peak_bytes": self.peak_bytes(lambda: self.update(inputs)),
            "rollout_peak_bytes": self.peak_bytes(self.inputs),
        }

    def peak_bytes(self, action: Callable[[], Any]) -> int:
        """The most that an action holds of what it allocates: torch's profiler sees every allocation and its end."""
        torch = self.torch
        if torch.cuda.is_available():
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            action()
            self.clear()
            return torch.cuda.max_memory_allocated() - before
        gc.collect()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
            action()
        self.clear()
        held = peak = 0
        events = [one for one in seen.profiler.kineto_results.events() if one.name() == "[memory]"]  # type: ignore
        for one in sorted(events, key=lambda event: event.start_ns()):
            held += one.nbytes()
            peak = max(peak, held)
        return peak


def prompt_length(name: str, inputs: Any) -> int:
    if name == "vtg":
        return len(inputs["batch"].prompts[0].features["input_ids"])
    return inputs["prompt_ids"].shape[1]


def vision_flops(counter: Any) -> int:
    found = [sum(ops.values()) for name, ops in counter.get_flop_counts().items() if re.search(r"\.visual$", name)]
    return max(found, default=0)


def gradient_difference(ways: dict[str, Way]) -> dict[str, float]:
    """Of vtg's and the naive way's loss and gradient on the same completions: ‖a - b‖ / ‖a‖."""
    import torch

    naive = ways["naive"].inputs()
    shared = ways["vtg"].inputs()
    prompts = [naive["prompt_ids"][0].tolist(), shared["batch"].prompts[0].features["input_ids"].tolist()]
    assert prompts[0] == prompts[1], "the two prompts are not the same tokens"
    same = {key: naive[key] for key in ("completion_ids", "completion_mask")}
    same["advantages"] = torch.linspace(-1, 1, len(naive["advantages"]), device=naive["advantages"].device)
    found = []
    for name, inputs in (("naive", naive), ("vtg", shared)):
        loss = ways[name].update(inputs | same)
        parameters = ways[name].trainer.model.named_parameters()
        found.append((loss.item(), {key: p.grad.float().clone() for key, p in parameters if p.grad is not None}))
        ways[name].clear()
    (_, a), (_, b) = found
    assert a.keys() == b.keys()
    apart = sum(float((a[key] - b[key]).square().sum()) for key in a)
    return {"gradient_difference": (apart / sum(float(one.square().sum()) for one in a.values())) ** 0.5}


# One case, and what is printed.

MEASURES = {
    "update_flops": ("update, GFLOPs", 1e-9),
    "update_s": ("update, s", 1),
    "logprobs_s": ("log-probs without gradient, s", 1),
    "rollout_s": ("rollout, s", 1),
    "prompt_s": ("decoding, preprocessing, s", 1),
    "step_s": ("whole step, s", 1),
    "pixel_bytes": ("pixels held, MB", 1e-6),
    "encoded_bytes": ("encoded clip held, MB", 1e-6),
    "update_peak_bytes": ("allocated at most, update, MB", 1e-6),
    "rollout_peak_bytes": ("allocated at most, rollout, MB", 1e-6),
    "encoder_calls_rollout": ("encoder calls a clip, rollout", 1),
    "encoder_calls_update": ("encoder calls a clip, update", 1),
    "decodes_per_clip": ("decodes a clip", 1),
}


def measure(case: Case, names: list[str], rounds: int) -> dict[str, Any]:
    """All figures of one case; each way's, and its ratios to vtg's."""
    ways = {name: Way(name, case) for name in names}
    run: dict[str, Any] = {"G": case.group, "R": case.completion, "tower": "trained" if case.trained_tower else "frozen"}
    if "naive" in ways:
        run |= gradient_difference(ways)
    figures: dict[str, dict[str, Any]] = {}
    for name, way in ways.items():
        for other in ways.values():
            other.forget()
        gc.collect()
        figures[name] = way.counts()
        print(f"G = {case.group}, {run['tower']} tower: {name} counted", file=sys.stderr)
    seconds: dict[str, list[dict[str, float]]] = defaultdict(list)
    for turn in range(-1, rounds):  # one round to warm up
        order = names[turn % len(names) :] + names[: turn % len(names)]
        for name in order:
            found = ways[name].step()
            if turn >= 0:
                seconds[name].append(found)
        print(f"G = {case.group}, {run['tower']} tower: round {turn + 1} of {rounds}", file=sys.stderr)
    for name in names:
        median = {key: statistics.median(one[key] for one in seconds[name]) for key in seconds[name][0]}
        figures[name] |= median
    run |= {"P": figures["vtg"]["prompt_tokens"], "rounds": rounds, "seconds": dict(seconds), "ways": figures}
    run["floor"] = floor(run["P"], case)
    for name in names:
        if name != "vtg":
            run[f"vs_{name.replace(' ', '_')}"] = ratios(figures, seconds, name, case)
    if case.pristine.device.type == "cuda":
        run["gpu"] = {name: rates(figures[name], case) for name in names}
    return run


def floor(prompt: int, case: Case, other: int | None = None) -> float:
    """G(P + R) / (P + GR), of the other's prompt to vtg's."""
    rows = case.group * ((other or prompt) + case.completion)
    return rows / (prompt + case.group * case.completion)


def ratios(figures: Any, seconds: Any, name: str, case: Case) -> dict[str, float]:
    """Theirs to vtg's; of pixels, as they are told, vtg's to theirs."""
    own, other = figures["vtg"], figures[name]
    found = {"floor": floor(own["prompt_tokens"], case, other["prompt_tokens"])}
    found["update_flops_ratio"] = other["update_flops"] / own["update_flops"]
    for key in ("update", "logprobs", "rollout", "prompt", "step"):
        pairs = zip(seconds["vtg"], seconds[name], strict=True)
        found[f"{key}_wall_ratio"] = statistics.median(b[f"{key}_s"] / a[f"{key}_s"] for a, b in pairs)
    found["pixel_memory"] = own["pixel_bytes"] / other["pixel_bytes"]
    found["vision_memory"] = (own["pixel_bytes"] + own["encoded_bytes"]) / other["pixel_bytes"]
    for key in ("update", "rollout"):
        found[f"{key}_peak_memory"] = own[f"{key}_peak_bytes"] / other[f"{key}_peak_bytes"]
    return found


def rates(figures: dict[str, Any], case: Case) -> dict[str, float | None]:
    """Of one way on a GPU. Useful tokens: those of the rows, as if each had its own prompt, so that ways compare."""
    import torch

    kind = torch.cuda.get_device_name()
    peak = next((value for name, value in PEAK_TFLOPS.items() if name in kind), None)
    achieved = figures["update_flops"] / figures["update_s"] / 1e12
    return {
        "row_tokens_per_second_update": case.group * (figures["prompt_tokens"] + case.completion) / figures["update_s"],
        "completion_tokens_per_second_rollout": case.group * case.completion / figures["rollout_s"],
        "update_tflops_per_second": achieved,
        "mfu": achieved / peak if peak else None,
    }


def table(run: dict[str, Any]) -> str:
    """Markdown: a row for each measure, a column for each way, the ratio to vtg's in brackets."""
    names = list(run["ways"])
    title = f"G = {run['G']}, P = {run['P']}, R = {run['R']}, {run['tower']} vision tower"
    if "gradient_difference" in run:
        title += f"; gradients of vtg and naive differ by {run['gradient_difference']:.1e}"
    prompts = [f"{name} (P = {run['ways'][name]['prompt_tokens']})" for name in names]
    lines = [title, "", f"| | {' | '.join(prompts)} |", "|---" * (len(names) + 1) + "|"]
    keys = {"update_flops": "update_flops_ratio", "update_s": "update_wall_ratio", "logprobs_s": "logprobs_wall_ratio",
            "rollout_s": "rollout_wall_ratio", "prompt_s": "prompt_wall_ratio", "step_s": "step_wall_ratio"}  # fmt: skip
    for key, (label, scale) in MEASURES.items():
        cells = []
        for name in names:
            value = run["ways"][name][key]
            text = f"{value * scale:.3g}" if value * scale < 1000 else f"{value * scale:.0f}"
            against = run.get(f"vs_{name.replace(' ', '_')}", {})
            if key in keys and against:
                text += f" ({against[keys[key]]:.2f})"
            elif name != "vtg" and key.endswith("_bytes") and run["ways"]["vtg"][key]:
                text += f" ({value / run['ways']['vtg'][key]:.2f})"
            cells.append(text)
        lines.append(f"| {label} | {' | '.join(cells)} |")
    floors = [run.get(f"vs_{name.replace(' ', '_')}", {}).get("floor", 1.0) for name in names]
    lines.append(f"| floor: tokens run, to vtg's | {' | '.join(f'{one:.2f}' for one in floors)} |")
    for name, found in run.get("gpu", {}).items():
        told = ", ".join(f"{key} {value:.3g}" for key, value in found.items() if value is not None)
        lines.append(f"\n{name}: {told}")
    return "\n".join(lines)


def document(runs: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """What `--json` prints: the first run's main figures, then every run."""
    first = runs[0]
    against = first.get("vs_naive", {})
    main = {
        "encoder_calls_per_clip_per_forward": first["ways"]["vtg"]["encoder_calls_per_clip_per_forward"],
        "speedup_vs_naive": against.get("update_wall_ratio"),
        "pixel_memory_vs_naive": against.get("pixel_memory"),
    }
    main |= {key: value for key, value in against.items() if key.endswith("_ratio")}
    main |= {"floor": first["floor"], "G": first["G"], "P": first["P"], "R": first["R"], "tower": first["tower"]}
    for name in ("images", "half_images"):
        main |= {f"{key}_vs_trl_{name}": value for key, value in first.get(f"vs_{name}", {}).items()}
    return {"benchmark": "grpo", **main, "model": options.model, "machine": machine(), "runs": runs}


def machine() -> dict[str, Any]:
    import torch

    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "trl", "peft", "vtg")}
    cpu = platform.processor()
    with contextlib.suppress(OSError):
        cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]  # type: ignore[index]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    load = round(os.getloadavg()[0], 1)
    threads = torch.get_num_threads()
    return {"cpu": cpu, "cores": os.cpu_count(), "threads": threads, "gpu": gpu, "load": load, "versions": versions}


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", default=None, metavar="G,…", help="completions of a prompt (8,16; quick: 4)")
    parser.add_argument("--tower", choices=("frozen", "trained", "both"), default="both", help="trained: the first G")
    parser.add_argument("--ways", default=None, help=f"of {','.join(WAYS)}; vtg is always there")
    parser.add_argument("--completion", type=int, default=24, metavar="R", help="tokens of each completion")
    parser.add_argument("--frames", type=int, default=None, help="of the clip, at 2 a second (64; quick: 16)")
    parser.add_argument("--size", default="128x128", metavar="HxW", help="of a frame, multiples of 32")
    parser.add_argument("--rounds", type=int, default=None, help="that are timed (5; quick: 1)")
    parser.add_argument("--model", choices=tuple(SIZES), default="small", help="2b, 4b: bfloat16, on a GPU alone")
    parser.add_argument("--quick", action="store_true", help="a short clip, G = 4, one round, frozen tower")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="one JSON document, printed or to a file")
    options = parser.parse_args(arguments)
    quick = options.quick
    options.group = [int(one) for one in (options.group or ("4" if quick else "8,16")).split(",")]
    options.frames = options.frames or (16 if quick else 64)
    options.rounds = options.rounds or (1 if quick else 5)
    options.size = tuple(int(one) for one in options.size.split("x"))
    on_gpu_only = ("vtg", "naive")  # a copy of the model and its optimizer each
    wanted = options.ways.split(",") if options.ways else (WAYS if options.model == "small" else on_gpu_only)
    options.ways = [name for name in WAYS if name in wanted or name == "vtg"]
    if unknown := set(wanted) - set(WAYS):
        parser.error(f"--ways: {', '.join(sorted(unknown))}: there are {', '.join(WAYS)}")
    if len(options.size) != 2 or any(side % 32 for side in options.size) or options.frames % 4:
        parser.error("--size HxW are multiples of 32, and --frames one of 4")
    return options


def quiet() -> None:
    """One thread on a CPU, and no progress bars and advice."""
    import torch
    import transformers
    from trl.trainer import utils

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    utils._use_triton = lambda device: True  # the head on completion tokens alone; the kernel itself asks elsewhere


def main() -> None:
    options = options_of()
    quiet()
    import torch
    from transformers import AutoProcessor

    from vtg.models.tiny import TINY_QWEN3_VL

    on_gpu = torch.cuda.is_available()
    if options.model != "small" and not on_gpu:
        sys.exit(f"--model {options.model} needs a CUDA device, and there is none; --model small runs on a CPU")
    processor = AutoProcessor.from_pretrained(TINY_QWEN3_VL)
    pristine = build_model(options.model, processor.tokenizer, "cuda" if on_gpu else "cpu")
    cases = [(group, False) for group in options.group] if options.tower != "trained" else []
    if options.tower == "trained" or (options.tower == "both" and not options.quick):
        cases.append((options.group[0], True))
    runs = []
    with tempfile.TemporaryDirectory(prefix="vtg-bench-") as folder:
        path = Path(folder) / "clip.mp4"
        write_clip(path, options.frames, *options.size)
        for group, trained in cases:
            case = Case(
                group=group,
                completion=options.completion,
                trained_tower=trained,
                path=str(path),
                frames=options.frames,
                size=options.size,
                processor=processor,
                pristine=pristine,
                folder=folder,
            )
            runs.append(measure(case, options.ways, options.rounds))
            gc.collect()
            if options.json is None:
                print(f"\n{table(runs[-1])}", flush=True)
    if options.json is None:
        return print(f"\n{json.dumps(machine())}")
    text = json.dumps(document(runs, options))
    if options.json == "-":
        print(text)
    else:
        Path(options.json).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
