"""Runs with planned batches, through the real Trainer: packed and shared, on two processes, interrupted."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sft_runs import compose, losses, overrides, read, run, run_on_two

from vtg.config.data_settings import DemoConfig
from vtg.demo.demo_dataset import ensure_demo
from vtg.training.sft.run_sft import train


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """Rows of a few short videos, several a video."""
    demo = DemoConfig(train_videos=5, val_videos=1, test_videos=1, seed=4)
    return ensure_demo(tmp_path_factory.mktemp("data") / "demo", demo)


UNTESTED = ("data.val_file=null", "data.test_file=null", "trainer.use_cpu=true")


@pytest.fixture(scope="module")
def padded(demo, tmp_path_factory) -> Path:
    """Two steps over all rows at once, padded."""
    out = tmp_path_factory.mktemp("runs") / "padded"
    train(compose(all_rows(demo, out)))
    return out


def all_rows(demo: Path, out: Path, *more: str) -> list[str]:
    count = len(read(demo / "train.jsonl"))
    return overrides(demo, out, *UNTESTED, f"trainer.per_device_train_batch_size={count}", "trainer.max_steps=2", *more)


@pytest.mark.parametrize("way", ["batching.packing=true", "batching.share_video=true"])
def test_packed_and_shared_batches_train_as_padded_ones(padded, demo, tmp_path, way):
    out = tmp_path / "run"
    train(compose(all_rows(demo, out, way)))
    expected, got = losses(padded), losses(out)
    assert got.keys() == expected.keys() == {1, 2}
    for step, loss in expected.items():
        assert got[step] == pytest.approx(loss, rel=2e-3)  # the tiny model computes in bfloat16
    entries, before = (read(folder / "train_log.jsonl") for folder in (out, padded))
    assert entries[0]["batch/padding"] == 0 < before[0]["batch/padding"]
    assert entries[0]["batch/samples"] == before[0]["batch/samples"] == len(read(demo / "train.jsonl"))
    if "share" in way:
        assert entries[0]["batch/tokens"] < 0.7 * before[0]["batch/tokens"]


@pytest.mark.distributed
def test_two_processes_go_through_uneven_epochs_and_go_on_in_the_middle_of_one(demo, tmp_path):
    out, count = tmp_path / "run", len(read(demo / "train.jsonl"))
    words = overrides(
        demo,
        out,
        *UNTESTED,
        "batching=tokens",
        "batching.target_batch_tokens=500",
        "task.selection=random",  # other prompts in every epoch
        "trainer.max_steps=-1",
        "trainer.num_train_epochs=3",
        "trainer.save_steps=1",
        "trainer.save_total_limit=100",
        "trainer.lr_scheduler_type=linear",
        "trainer.learning_rate=1e-3",
        "trainer.warmup_steps=0",
    )
    whole = run_on_two(*words)
    assert whole.returncode == 0, whole.stderr[-3000:]
    plan = json.loads((out / "batching.json").read_text())
    assert plan["samples"] == count and plan["steps"] > 3 and plan["min_batch_size"] < plan["max_batch_size"]
    steps = plan["steps"]
    log = read(out / "train_log.jsonl")
    expected = {entry["step"]: entry["loss"] for entry in log if "loss" in entry}
    assert sorted(expected) == list(range(1, 3 * steps + 1))
    for epoch in range(3):
        trained = [
            e["batch/samples"] * 2 for e in log if epoch * steps < e["step"] <= (epoch + 1) * steps and "loss" in e
        ]
        assert round(sum(trained)) == count
    weights = load_file(out / "best" / "adapter_model.safetensors")

    middle = steps + steps // 2
    forget_after(out, middle)
    again = run_on_two(*words)
    assert again.returncode == 0, again.stderr[-3000:]
    assert losses(out) == expected
    after = load_file(out / "best" / "adapter_model.safetensors")
    assert all(torch.equal(after[name], weights[name]) for name in weights)

    forget_after(out, middle)
    alone = run(*words)
    assert alone.returncode == 0, alone.stderr[-3000:]
    log = [entry for entry in read(out / "train_log.jsonl") if "loss" in entry]
    planned = json.loads((out / "batching.json").read_text())["steps"]
    last, first_alone = log[-1], next(at for at, entry in enumerate(log) if entry["step"] > middle)
    assert last["step"] == 3 * planned and planned > steps  # one process takes more steps
    rest = [entry for entry in log[first_alone:] if entry["step"] <= 2 * planned]
    before = sum(entry["batch/samples"] * 2 for entry in log[:first_alone] if entry["step"] > steps)
    assert round(before + sum(entry["batch/samples"] for entry in rest)) == count
    assert [entry["step"] for entry in log[:first_alone]] == list(range(1, middle + 1))
    rates = [entry["learning_rate"] for entry in log[first_alone:]]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(1e-3 * (1 - (rest[0]["step"] - 1) / last["step"]), rel=0.05)


def forget_after(out: Path, step: int) -> None:
    """Leaves of a run what an interruption after `step` would have left."""
    shutil.rmtree(out / "best")
    for checkpoint in out.glob("checkpoint-*"):
        if int(checkpoint.name.split("-")[1]) > step:
            shutil.rmtree(checkpoint)
