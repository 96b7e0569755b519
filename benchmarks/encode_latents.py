"""How many frames a second become latents? `python benchmarks/encode_latents.py [--clips N] [--repeats N] [--full]`.

vtg's encoders beside the plain pipelines of transformers (processor, then model) on the same clips: 16 frames of
640x360 pixels, batches of all clips, random weights. DINOv3 is a ViT-S, as published; V-JEPA 2 has the size of a ViT-S
by default, and with `--full` of the published ViT-L. The plain one leaves its predictor out too, as vtg does
(`get_vision_features`).
`from the cache` reads what the first repeat has kept, where the plain pipelines would decode and encode again; clips
are decoded beforehand for all others. Contenders take turns; figures are medians over the repeats, by the CPU seconds
of the process and by the clock. Latents must agree with the plain ones to 1e-3 of their standard deviation.
"""

import argparse
import json
import logging
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import transformers
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoVideoProcessor,
    DINOv3ViTConfig,
    DINOv3ViTImageProcessor,
    DINOv3ViTModel,
    VJEPA2Config,
    VJEPA2Model,
    VJEPA2VideoProcessor,
)

from vtg.config.clip_settings import ClipsConfig
from vtg.config.encoder_settings import EncoderConfig
from vtg.latents.encoders import load_encoder
from vtg.latents.latent_reading import LatentReader
from vtg.video.clip import Clip
from vtg.video.video_window import VideoWindow

FRAMES, HEIGHT, WIDTH = 16, 360, 640

VIT_S: dict[str, Any] = {"hidden_size": 384, "num_attention_heads": 6, "num_hidden_layers": 12}
VIT_L: dict[str, Any] = {"hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 24}

AGREES = 1e-3
"""The largest difference from the plain latents, in standard deviations of these."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2, help="encoded at once")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--full", action="store_true", help="V-JEPA 2 in its published size, ViT-L")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.disable(logging.INFO)
    found = {"machine": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        videos = [write_video(Path(folder) / f"{at}.mp4", seed=at) for at in range(args.clips)]
        for name in ("vjepa2", "dinov3"):
            path = save_model(name, Path(folder) / name, full=args.full)
            found[name] = measure(name, path, videos, args)
    print(json.dumps(found))


def measure(name: str, path: Path, videos: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """Contender → frames a CPU second and a second; prints them as a table."""
    settings = ClipsConfig(n_frames=FRAMES, seconds=8.0)
    encoder = load_encoder(EncoderConfig(name=name, path=str(path), frame_size=None), device=args.device)
    cached = LatentReader(encoder, ClipsConfig(n_frames=FRAMES, seconds=8.0, cache_dir=f"{path}-latents"))
    asked = [(VideoWindow(video), 0.0) for video in videos]
    reader = LatentReader(encoder, settings).clips.reader
    clips = [reader.clip(window) for window, _ in asked]
    plain = plain_pipeline(name, path, args.device)
    contenders: dict[str, Callable[[], torch.Tensor]] = {
        "transformers, a clip at a time": lambda: torch.cat([plain([clip]) for clip in clips]),
        "transformers, all clips at once": lambda: plain(clips),
        "vtg": lambda: tokens_of(encoder.encode(clips).values),
        "vtg, from the cache": lambda: tokens_of(cached.read(asked).values),
    }
    wanted = contenders["transformers, all clips at once"]()
    for run in contenders.values():  # the first run of each counts for nothing; that of the cache fills it
        worst = float((run() - wanted).abs().max() / wanted.std())
        assert worst < AGREES, f"latents differ by {worst:.1e} standard deviations"
    took: dict[str, list[tuple[float, float]]] = {contender: [] for contender in contenders}
    for repeat in range(args.repeats):
        names = list(contenders)
        for contender in names[repeat % len(names) :] + names[: repeat % len(names)]:
            took[contender].append(timed(contenders[contender], args.device))
    frames = FRAMES * len(clips)
    rates = {
        contender: [frames / statistics.median(column) for column in zip(*times, strict=True)]
        for contender, times in took.items()
    }
    print(f"\n| {name} | frames a CPU second | frames a second |\n|---|---:|---:|")
    for contender, (by_cpu, by_clock) in rates.items():
        print(f"| {contender} | {by_cpu:.3g} | {by_clock:.3g} |")
    return {contender: [round(rate, 3) for rate in both] for contender, both in rates.items()}


def timed(run: Callable[[], torch.Tensor], device: str) -> tuple[float, float]:
    """CPU seconds of this process, and seconds."""
    cpu_s, clock_s = time.process_time(), time.perf_counter()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.process_time() - cpu_s, time.perf_counter() - clock_s


def plain_pipeline(name: str, path: Path, device: str) -> Callable[[list[Clip]], torch.Tensor]:
    """Clips → (B, places, D), by transformers alone."""
    model: Any = AutoModel.from_pretrained(path).to(device).eval()
    if name == "vjepa2":
        videos = AutoVideoProcessor.from_pretrained(path)

        def of_clips(clips: list[Clip]) -> torch.Tensor:
            read = videos([torch.from_numpy(clip.frames) for clip in clips], return_tensors="pt").to(device)
            return model.get_vision_features(**read)

        return of_clips
    images: Any = AutoImageProcessor.from_pretrained(path)
    leading = 1 + model.config.num_register_tokens

    def of_frames(clips: list[Clip]) -> torch.Tensor:
        read = images([frame for clip in clips for frame in torch.from_numpy(clip.frames)], return_tensors="pt")
        return model(**read.to(device)).last_hidden_state[:, leading:].unflatten(0, (len(clips), -1)).flatten(1, 2)

    return of_frames


def tokens_of(values: torch.Tensor) -> torch.Tensor:
    """(B, D, T, H, W) → (B, T H W, D)."""
    return values.flatten(2).transpose(1, 2)


def save_model(name: str, folder: Path, *, full: bool) -> Path:
    """A model of random weights, and its processor as published."""
    torch.manual_seed(0)
    parts: list[Any]
    if name == "vjepa2":
        small: dict[str, Any] = {"pred_hidden_size": 48, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
        parts = [VJEPA2Model(VJEPA2Config(**(VIT_L if full else VIT_S), **small)), VJEPA2VideoProcessor()]
    else:
        parts = [DINOv3ViTModel(DINOv3ViTConfig(**VIT_S, num_register_tokens=4)), DINOv3ViTImageProcessor()]
    for part in parts:
        part.save_pretrained(folder)
    return folder


def write_video(path: Path, *, seed: int) -> str:
    """Ten seconds of coarse noise at 10 frames a second."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for at in range(100):
            coarse = rng.integers(0, 256, (HEIGHT // 20, WIDTH // 20, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(np.kron(coarse, np.ones((20, 20, 1), np.uint8)), format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return str(path)


if __name__ == "__main__":
    main()
