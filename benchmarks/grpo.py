"""What does a GRPO step cost with the prompt shared? `python benchmarks/grpo.py [--quick] [--group 8,16] [--json]`.

One clip and one question a step (or Q of them, --questions), G completions of exactly R tokens each, every weight of
the language model trained, random weights that stay as they are (learning rate 0), and four trainers that take turns in
one process:

    vtg           vtg's VideoGRPOTrainer: the prompt and its video once for all of its completions
    naive         the smallest subclass of TRL's GRPOTrainer that sees the video in its loss: all of it for every row
    images        TRL's own GRPOTrainer, unmodified, the frames as images (more tokens: two frames make one of video)
    half images   the same with every other frame: about as many tokens as the video

Figures are medians over the rounds, ratios medians of the ratios within a round; where cores are shared, seconds of CPU
are the steadier ones. FLOPs are torch's FlopCounterMode's, which counts an attention in full, whether it is causal or
not, and TRL's head; the floor is QG(P + R) / (C + Q(P - C + GR)), the tokens that each runs, C of them common to all
questions (0 of one). The head scores completion tokens
alone, as TRL's does on a GPU (on a CPU it would score the prompt too). Pixels held: tensors of patches that are alive
when the language model is called, of one rollout. Allocated at most: beyond what was there, by torch's profiler.

    python benchmarks/grpo.py                          G = 8 and 16, frozen tower; G = 8, trained tower: half an hour
    python benchmarks/grpo.py --quick                  half a minute: a short clip, G = 4, one round
    python benchmarks/grpo.py --group 8 --tower frozen --ways vtg,naive --json grpo.json
    python benchmarks/grpo.py --model 2b --size 224x224          on a GPU: Qwen3-VL-2B's shape, random weights
"""

import argparse
import contextlib
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

from grpo_ways import BUILDERS, SIZES, Case, build_model, write_clip

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("KINETO_LOG_LEVEL", "5")

PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "4090": 165.0}
"""Dense bfloat16, of the vendors' data sheets."""


class Clock:
    """Seconds and seconds of CPU by label, of methods that are wrapped; a GPU is waited for."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    @contextlib.contextmanager
    def over(self, label: str) -> Iterator[None]:
        start, cpu = now(), time.process_time()
        yield
        self.seconds[f"{label}_s"] += now() - start
        self.seconds[f"{label}_cpu_s"] += time.process_time() - cpu

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


class Way:
    """One trainer, and what is measured of it."""

    def __init__(self, name: str, case: Case) -> None:
        import torch

        self.name, self.case, self.clock = name, case, Clock()
        self.trainer, self.begin = BUILDERS[name](case)
        trainer = self.trainer
        trainer.current_gradient_accumulation_steps = 1
        trainer.model.train()
        trainer.create_optimizer()
        self.phase, self.encodings, self.decodes = "", Counter(), 0
        self.pixels, self.scans, self.prompt_tokens = 0, False, 0
        inner = trainer.model.model
        inner.visual.register_forward_pre_hook(self._count_clips, with_kwargs=True)
        inner.language_model.register_forward_pre_hook(self._scan, with_kwargs=True)
        self.clock.wrap(trainer, "_generate_single_turn", "rollout")
        if name == "vtg":
            self.clock.wrap(trainer.policy, "prompts", "rollout")
        else:
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
            self.trainer.loader.resume(self.trainer.loader.state, ranks=1)

    def step(self) -> dict[str, float]:
        """Seconds of one whole step by its parts, and of a forward without gradient."""
        self.clock.seconds.clear()
        gc.collect()
        with self.clock.over("step"):
            inputs = self.inputs()
            with self.clock.over("update"):
                self.update(inputs)
            self.trainer.optimizer.step()
        self.clear()
        assert inputs["completion_mask"].sum() == self.case.questions * self.case.group * self.case.completion
        self.phase = "log-probs"
        with self.clock.over("logprobs"), self.torch.no_grad():
            self.trainer.compute_loss(self.trainer.model, inputs)
        return dict(self.clock.seconds)

    # What is counted, once, untimed.

    def counts(self) -> dict[str, Any]:
        """Decodes, encoder calls, bytes of pixels and FLOPs of one step."""
        from torch.utils.flop_counter import FlopCounterMode

        self.encodings.clear()
        self.decodes, self.pixels, self.scans = 0, 0, True
        if self.name == "vtg":
            self.trainer.policy.counts.clear()
        before = self.pixel_bytes()
        inputs = self.inputs()
        self.prompt_tokens = prompt_length(self.name, inputs)
        decodes = self.trainer.policy.counts["clips/decoded"] if self.name == "vtg" else self.decodes
        self.update(inputs)
        self.clear()
        self.scans = False
        encodings = {key: count / self.clip_grids for key, count in self.encodings.items()}
        prompts = inputs["batch"].prompts if self.name == "vtg" else []
        encoded = sum(prompt.encoded.nbytes for prompt in prompts if prompt.encoded is not None)
        in_place = {self.torch.ops.aten.addmm_: product_flops}  # half of TRL's head, which torch would leave out
        with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
            self.update(inputs)
        self.clear()
        by_kind: Counter[str] = Counter()
        for operation, flops in counter.get_flop_counts()["Global"].items():
            by_kind["attention" if "attention" in str(operation) else "products"] += flops
        return {
            "prompt_tokens": self.prompt_tokens,
            "common_tokens": prompts[0].common if prompts else 0,
            "decodes_per_clip": decodes,
            "encoder_calls_rollout": encodings.get("rollout", 0.0),
            "encoder_calls_update": encodings.get("update", 0.0),
            "encoder_calls_per_clip_per_forward": max(encodings.values(), default=0.0),
            "encoder_calls_per_policy_version": sum(encodings.values()),
            "pixel_bytes": self.pixels - before,
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


def product_flops(total: Any, left: Any, right: Any, **kwargs: Any) -> int:
    """Of total += left @ right, from their shapes."""
    return 2 * left[0] * left[1] * right[1]


def vision_flops(counter: Any) -> int:
    found = [sum(ops.values()) for name, ops in counter.get_flop_counts().items() if re.search(r"\.visual$", name)]
    return max(found, default=0)


def gradient_difference(ways: dict[str, Way]) -> dict[str, float]:
    """Of vtg's and the naive way's loss and gradient on the same completions: ‖a - b‖ / ‖a‖."""
    import torch

    naive = ways["naive"].inputs()
    shared = ways["vtg"].inputs()
    prompts = [prompt.features["input_ids"].tolist() for prompt in shared["batch"].prompts]
    asked = [prompts.index(ids) for ids in naive["prompt_ids"].tolist()]  # TRL shuffles rows; all have the same tokens
    order = torch.tensor(asked, device=naive["prompt_ids"].device).argsort(stable=True)
    same = {key: naive[key] for key in ("completion_ids", "completion_mask")}
    same["advantages"] = torch.linspace(-1, 1, len(naive["advantages"]), device=naive["advantages"].device)
    given = {"naive": naive | same, "vtg": shared | {key: value[order] for key, value in same.items()}}
    found = []
    for name, inputs in given.items():
        loss = ways[name].update(inputs)
        parameters = ways[name].trainer.model.named_parameters()
        found.append((loss.item(), {key: p.grad.float().clone() for key, p in parameters if p.grad is not None}))
        ways[name].clear()
    (_, a), (_, b) = found
    assert a.keys() == b.keys()
    apart = sum(float((a[key] - b[key]).square().sum()) for key in a)
    return {"gradient_difference": (apart / sum(float(one.square().sum()) for one in a.values())) ** 0.5}


# One case, and what is printed.

MEASURES = {
    "update_flops": ("update, GFLOPs", 1e-9, True),
    "update_flops_attention": ("of them attention", 1e-9, False),
    "update_flops_vision": ("of them the vision tower", 1e-9, False),
    "update_s": ("update, s", 1, True),
    "update_cpu_s": ("update, s of CPU", 1, True),
    "logprobs_cpu_s": ("log-probs without gradient, s of CPU", 1, True),
    "rollout_s": ("rollout, s", 1, True),
    "rollout_cpu_s": ("rollout, s of CPU", 1, True),
    "prompt_cpu_s": ("decoding, preprocessing, s of CPU", 1, False),
    "step_s": ("whole step, s", 1, True),
    "step_cpu_s": ("whole step, s of CPU", 1, True),
    "pixel_bytes": ("pixels held, MB", 1e-6, False),
    "encoded_bytes": ("encoded clip held, MB", 1e-6, False),
    "update_peak_bytes": ("allocated at most, update, MB", 1e-6, False),
    "rollout_peak_bytes": ("allocated at most, rollout, MB", 1e-6, False),
    "encoder_calls_rollout": ("encoder calls a clip, rollout", 1, False),
    "encoder_calls_update": ("encoder calls a clip, update", 1, False),
    "decodes_per_clip": ("decodes a clip", 1, False),
}
"""Label, scale, and whether the floor stands beside the ratio."""


def measure(case: Case, names: list[str], rounds: int) -> dict[str, Any]:
    """All figures of one case; each way's, and its ratios to vtg's."""
    ways = {name: Way(name, case) for name in names}
    run: dict[str, Any] = {
        "G": case.group,
        "R": case.completion,
        "Q": case.questions,
        "tower": "trained" if case.trained_tower else "frozen",
    }
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
    for turn in range(rounds):  # what was counted has warmed up
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            seconds[name].append(ways[name].step())
        print(f"G = {case.group}, {run['tower']} tower: round {turn + 1} of {rounds}", file=sys.stderr)
    for name in names:
        median = {key: statistics.median(one[key] for one in seconds[name]) for key in seconds[name][0]}
        figures[name] |= median
    run |= {"P": figures["vtg"]["prompt_tokens"], "rounds": rounds, "seconds": dict(seconds), "ways": figures}
    run["floor"] = floor(run["P"], case, common=figures["vtg"]["common_tokens"])
    for name in names:
        if name != "vtg":
            run[f"vs_{name.replace(' ', '_')}"] = ratios(figures, seconds, name, case)
    if case.pristine.device.type == "cuda":
        run["gpu"] = {name: rates(figures[name], case) for name in names}
    for way in ways.values():
        way.forget()
    return run


def floor(prompt: int, case: Case, other: int | None = None, *, common: int = 0) -> float:
    """QG(P + R) / (C + Q(P - C + GR)), of the other's prompt to vtg's."""
    rows = case.questions * case.group * ((other or prompt) + case.completion)
    return rows / (common + case.questions * (prompt - common + case.group * case.completion))


def ratios(figures: Any, seconds: Any, name: str, case: Case) -> dict[str, float]:
    """Theirs to vtg's; of pixels, as they are told, vtg's to theirs."""
    own, other = figures["vtg"], figures[name]
    found = {"floor": floor(own["prompt_tokens"], case, other["prompt_tokens"], common=own["common_tokens"])}
    found["update_flops_ratio"] = other["update_flops"] / own["update_flops"]
    for key in ("update", "logprobs", "rollout", "prompt", "step"):
        pairs = list(zip(seconds["vtg"], seconds[name], strict=True))
        for clock, unit in (("wall", "s"), ("cpu", "cpu_s")):
            each = [b[f"{key}_{unit}"] / a[f"{key}_{unit}"] for a, b in pairs]
            found[f"{key}_{clock}_ratio"] = statistics.median(each)
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
    rows = case.questions * case.group
    return {
        "row_tokens_per_second_update": rows * (figures["prompt_tokens"] + case.completion) / figures["update_s"],
        "completion_tokens_per_second_rollout": rows * case.completion / figures["rollout_s"],
        "update_tflops_per_second": achieved,
        "mfu": achieved / peak if peak else None,
    }


def table(run: dict[str, Any]) -> str:
    """Markdown: a row for each measure, a column for each way, the ratio to vtg's in brackets."""
    names = list(run["ways"])
    title = f"G = {run['G']}, P = {run['P']}, R = {run['R']}, {run['tower']} vision tower"
    title += f", {run['Q']} questions" if run["Q"] > 1 else ""
    if "gradient_difference" in run:
        title += f"; gradients of vtg and naive differ by {run['gradient_difference']:.1e}"
    prompts = [f"{name} (P = {run['ways'][name]['prompt_tokens']})" for name in names]
    lines = [title, "", f"| | {' | '.join(prompts)} |", "|---" * (len(names) + 1) + "|"]
    for key, (label, scale, has_floor) in MEASURES.items():
        own, cells = run["ways"]["vtg"][key], []
        for name in names:
            value = run["ways"][name][key]
            text = f"{value * scale:.3g}" if value * scale < 1000 else f"{value * scale:.0f}"
            against = run.get(f"vs_{name.replace(' ', '_')}")
            if against and own:
                ratio = against.get(key.removesuffix("_s") + "_wall_ratio", value / own)
                ratio = against.get(key.removesuffix("_cpu_s") + "_cpu_ratio", ratio) if "_cpu_" in key else ratio
                text += f" ({ratio:.2f}, floor {against['floor']:.2f})" if has_floor else f" ({ratio:.2f})"
            cells.append(text)
        lines.append(f"| {label} | {' | '.join(cells)} |")
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
    parser.add_argument("--ways", default=None, help=f"of {','.join(BUILDERS)}; vtg is always there")
    parser.add_argument("--completion", type=int, default=24, metavar="R", help="tokens of each completion")
    parser.add_argument("--questions", type=int, default=1, metavar="Q", help="about the clip, in one micro-batch (1)")
    parser.add_argument("--frames", type=int, default=None, help="of the clip, at 2 a second (64; quick: 16)")
    parser.add_argument("--size", default="128x128", metavar="HxW", help="of a frame, multiples of 32")
    parser.add_argument("--rounds", type=int, default=None, help="that are timed (3; quick: 1)")
    parser.add_argument("--model", choices=tuple(SIZES), default="small", help="2b, 4b: bfloat16, on a GPU alone")
    parser.add_argument("--quick", action="store_true", help="a short clip, G = 4, one round, frozen tower")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="one JSON document, printed or to a file")
    options = parser.parse_args(arguments)
    quick = options.quick
    options.group = [int(one) for one in (options.group or ("4" if quick else "8,16")).split(",")]
    options.frames = options.frames or (16 if quick else 64)
    options.rounds = options.rounds or (1 if quick else 3)
    options.size = tuple(int(one) for one in options.size.split("x"))
    on_gpu_only = ("vtg", "naive")  # a copy of the model and its optimizer each
    wanted = options.ways.split(",") if options.ways else (BUILDERS if options.model == "small" else on_gpu_only)
    options.ways = [name for name in BUILDERS if name in wanted or name == "vtg"]
    if unknown := set(wanted) - set(BUILDERS):
        parser.error(f"--ways: {', '.join(sorted(unknown))}: there are {', '.join(BUILDERS)}")
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

    from vtg.demo.tiny_model import TINY_QWEN3_VL

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
                questions=options.questions,
            )
            runs.append(measure(case, options.ways, options.rounds))
            gc.collect()
            if options.json != "-":
                print(f"\n{table(runs[-1])}", flush=True)
    found = document(runs, options)
    if options.json not in (None, "-"):
        Path(options.json).write_text(json.dumps(found) + "\n", encoding="utf-8")
    print(json.dumps(found) if options.json == "-" else f"\n{json.dumps(found['machine'])}")


if __name__ == "__main__":
    main()
