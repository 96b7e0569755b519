"""How tests start a training of latents and read what it leaves."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from vtg.annotations.sample import Sample, read_samples
from vtg.config.latents_schema import LatentsConfig
from vtg.config.load import load_config
from vtg.entry import conf_dir

SPLITS = {"annotation": "train", "val": "val", "test": "test"}

SMALL = (
    "clips.n_frames=6",
    "clips.seconds=3",
    "future.context_s=1.5",
    "predictor.width=16",
    "predictor.heads=2",
    "predictor.depth=1",
    "predictor.steps=2",
    "predictor.samples=2",
)


def overrides(demo: Path, out: Path, *more: str) -> list[str]:
    """A run of 4 steps of 2 clips over three demo videos: the last step of an epoch has one."""
    return [
        "data=jsonl",
        *(f"data.{name}_file={demo / f'{split}.jsonl'}" for name, split in SPLITS.items()),
        f"data.video_dir={demo}",
        f"output_dir={out}",
        *SMALL,
        "trainer.max_steps=4",
        "trainer.per_device_train_batch_size=2",
        "trainer.eval_strategy=steps",
        "trainer.eval_steps=2",
        "trainer.save_strategy=steps",
        "trainer.save_steps=2",
        "trainer.logging_steps=1",
        "trainer.use_cpu=true",
        *more,
    ]


def compose(words: list[str]) -> LatentsConfig:
    from hydra import compose, initialize_config_dir

    words = [f"++{word}" if word.startswith("trainer.") else word for word in words]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return load_config(compose("latents", overrides=words), LatentsConfig)


def train(words: list[str]) -> None:
    from vtg.training.latents.run_latents import train

    train(compose(words))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def losses(out: Path) -> list[float]:
    lines = map(json.loads, (out / "train_log.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def samples(demo: Path) -> list[Sample]:
    """The training rows."""
    return [row for row in read_samples(demo / "train.jsonl") if isinstance(row, Sample)]
