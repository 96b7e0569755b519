"""SIGKILL at any moment: the same command goes on, and all that it leaves is what it leaves undisturbed."""

import json
import shutil
from pathlib import Path

import forked
import latent_runs
import pytest
import rl_runs
import sft_runs
import torch
from safetensors.torch import load_file
from sft_runs import read

from vtg.config.data_settings import DemoConfig
from vtg.demo.demo_dataset import ensure_demo
from vtg.models.checkpoint import resolve_checkpoint
from vtg.training.checkpoint_saving import STAGING
from vtg.training.sft.run_sft import train

EVERY_STEP = (
    "trainer.eval_strategy=steps",
    "trainer.eval_steps=1",
    "trainer.save_strategy=steps",
    "trainer.save_steps=1",
    "trainer.save_total_limit=2",
    "trainer.warmup_steps=0",
    "trainer.max_steps=4",
    "trainer.logging_steps=1",
    "trainer.per_device_train_batch_size=2",
    "trainer.use_cpu=true",
    "evaluation.max_new_tokens=12",
    "evaluation.max_val_samples=2",
)
TWO_ON_A_ROLLOUT = (
    "rl.num_iterations=2",
    "rl.num_generations=4",
    "rl.max_completion_length=12",
    "rl.beta=0.04",
    "rl.temperature=1.3",
    "curriculum=dapo",
)
TIMED = (
    "time",
    "batch/tokens_per_second",
    "train_runtime",
    "train_samples_per_second",
    "train_steps_per_second",
    "train_loss",
)
READ = ("clips/", "vision/", "step_time", "num_tokens")
"""Entries of the log that count what was read and how long it took, which a run that goes on does anew."""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> list[str]:
    small = DemoConfig(train_videos=4, val_videos=1, test_videos=1, seed=1)
    demo = ensure_demo(tmp_path_factory.mktemp("data") / "demo", small)
    return [f"data.{name}_file={demo / name}.jsonl" for name in ("val", "test")] + [
        word for word in rl_runs.overrides(demo, Path("unused")) if word.startswith("data")
    ]


def learned(out: Path) -> list[dict]:
    """The log of a run without what depends on the clock."""
    return [
        {key: value for key, value in line.items() if key not in TIMED and not key.startswith(READ)}
        for line in read(out / "train_log.jsonl")
    ]


def left(out: Path, *, answers: str) -> dict[str, str]:
    """The files that tell of a run, but for the log."""
    told = [out / name for name in (answers, "metrics.json", "skipped.jsonl")]
    told += sorted((out / "completions").glob("*"))
    return {str(path.relative_to(out)): path.read_text() for path in told}


@pytest.mark.slow
@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.soak)])
@pytest.mark.parametrize("kind", ["sft", "rl", "latents"])
def test_a_run_killed_at_random_moments_leaves_what_it_leaves_undisturbed(kind, kills, data, tmp_path):
    more = list(EVERY_STEP)
    more += [*TWO_ON_A_ROLLOUT] if kind == "rl" else []
    answers, weights = "predictions.jsonl", "adapter_model.safetensors"
    if kind == "latents":
        more = [*latent_runs.SMALL, "predictor=flow", *(word for word in more if not word.startswith("evaluation."))]
        answers, weights = "futures.jsonl", "model.safetensors"
    words = (kind, str(kills), "0", str(tmp_path), *data, *more)
    done = forked.run(Path(__file__).with_name("kills.py"), *words, timeout_s=600 + 120 * kills)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["code"] == 0 and len(told["kills"]) == kills, (told, (tmp_path / "output.txt").read_text()[-3000:])
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert learned(killed) == learned(whole), told
    assert left(killed, answers=answers) == left(whole, answers=answers), told
    checkpoints = sorted(folder.name for folder in whole.glob("checkpoint-*"))
    assert sorted(folder.name for folder in killed.glob("checkpoint-*")) == checkpoints
    for folder in (*checkpoints, "best"):
        found, wanted = (load_file(out / folder / weights) for out in (killed, whole))
        assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted), told
    assert not (killed / ".saving").exists()


def test_half_a_checkpoint_is_never_gone_on_from(demo_dir, tmp_path):
    out = tmp_path / "run"
    more = ("data.val_file=null", "data.test_file=null", "trainer.save_steps=1", "trainer.save_total_limit=9")
    words = sft_runs.overrides(demo_dir, out, *more)
    train(sft_runs.compose(words))
    assert not (out / STAGING).exists()
    wanted = (out / "best" / "adapter_model.safetensors").read_bytes()
    half = out / STAGING / "checkpoint-4"  # all but one file
    shutil.rmtree(out / "best")
    half.parent.mkdir()
    (out / "checkpoint-4").rename(half)
    (half / "optimizer.pt").unlink()
    assert resolve_checkpoint(str(out)) == str(out / "checkpoint-3")
    train(sft_runs.compose(words))
    assert (out / "best" / "adapter_model.safetensors").read_bytes() == wanted
    assert not (out / STAGING).exists() and (out / "checkpoint-4" / "optimizer.pt").is_file()
