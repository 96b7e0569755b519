"""How the tests of training start a run and read what it leaves."""

import json
import subprocess
from pathlib import Path

import forked

from vtg.config.load import load_config
from vtg.config.schema import SFTConfig
from vtg.entry import conf_dir

ROOT = Path(__file__).parents[2]


def overrides(demo: Path, out: Path, *more: str) -> list[str]:
    """A run of 4 steps over a handful of demo rows."""
    return [
        "data=jsonl",
        f"data.annotation_file={demo / 'train.jsonl'}",
        f"data.val_file={demo / 'val.jsonl'}",
        f"data.test_file={demo / 'test.jsonl'}",
        f"data.video_dir={demo}",
        f"output_dir={out}",
        "trainer.max_steps=4",
        "trainer.per_device_train_batch_size=4",
        "trainer.eval_strategy=steps",
        "trainer.eval_steps=2",
        "trainer.save_strategy=steps",
        "trainer.save_steps=2",
        "trainer.logging_steps=1",
        "evaluation.max_val_samples=2",
        "evaluation.max_new_tokens=12",
        *more,
    ]


def compose(words: list[str]) -> SFTConfig:
    from hydra import compose, initialize_config_dir

    words = [f"++{word}" if word.startswith("trainer.") else word for word in words]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return load_config(compose("sft", overrides=words), SFTConfig)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return forked.run("train_sft.py", *words)


def losses(out: Path) -> dict[int, float]:
    entries = [json.loads(line) for line in (out / "train_log.jsonl").read_text().splitlines()]
    return {entry["step"]: entry["loss"] for entry in entries if "loss" in entry}


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def run_on_two(*words: str) -> subprocess.CompletedProcess[str]:
    """A run of two processes (gloo)."""
    return forked.run("train_sft.py", *words, ranks=2)
