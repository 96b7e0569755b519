"""Runs with planned batches, through the real Trainer: packed and shared, on two processes, interrupted."""

import json
from pathlib import Path

import joint_runs
import pytest
import torch
from rl_runs import cut_back
from safetensors.torch import load_file
from sft_runs import compose, losses, overrides, read

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
    """Two steps, padded."""
    out = tmp_path_factory.mktemp("runs") / "padded"
    train(compose(all_at_once(demo, out)))
    return out


ROWS = 8
"""Of two videos: attention over packed rows takes the square of how many there are."""


def all_at_once(demo: Path, out: Path, *more: str) -> list[str]:
    """Each step is over all of a few rows."""
    rows = out.with_suffix(".jsonl")
    rows.write_text("".join((demo / "train.jsonl").read_text().splitlines(keepends=True)[:ROWS]))
    words = (f"data.annotation_file={rows}", f"trainer.per_device_train_batch_size={ROWS}", "trainer.max_steps=2")
    return overrides(demo, out, *UNTESTED, *words, *more)


@pytest.mark.parametrize("way", ["batching.packing=true", "batching.share_video=true"])
def test_packed_and_shared_batches_train_as_padded_ones(padded, demo, tmp_path, way):
    out = tmp_path / "run"
    train(compose(all_at_once(demo, out, way)))
    expected, got = losses(padded), losses(out)
    assert got.keys() == expected.keys() == {1, 2}
    for step, loss in expected.items():
        assert got[step] == pytest.approx(loss, rel=2e-3)  # the tiny model computes in bfloat16
    entries, before = (read(folder / "train_log.jsonl") for folder in (out, padded))
    assert entries[0]["batch/padding"] == 0 < before[0]["batch/padding"]
    assert entries[0]["batch/samples"] == before[0]["batch/samples"] == ROWS
    if "share" in way:
        assert entries[0]["batch/tokens"] < 0.7 * before[0]["batch/tokens"]


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_go_through_uneven_epochs_and_go_on_in_the_middle_of_one(demo, tmp_path):
    out, whole, count = tmp_path / "run", tmp_path / "whole", len(read(demo / "train.jsonl"))
    middle = 3
    words = overrides(
        demo,
        out,
        *UNTESTED,
        "batching=tokens",
        "batching.target_batch_tokens=500",
        "task.selection=random",  # other prompts in every epoch
        "trainer.max_steps=-1",
        "trainer.num_train_epochs=2",
        f"trainer.save_steps={middle}",
        "trainer.save_total_limit=100",
        "trainer.lr_scheduler_type=linear",
        "trainer.learning_rate=1e-3",
        "trainer.warmup_steps=0",
    )
    once = ("sft", words)
    joint_runs.launch([once, ("cut", [str(out), str(whole), str(middle)]), once], processes=2, folder=tmp_path)
    plan = json.loads((whole / "batching.json").read_text())
    assert plan["samples"] == count and plan["min_batch_size"] < plan["max_batch_size"]
    steps = plan["steps"]
    assert middle < steps
    log = [entry for entry in read(whole / "train_log.jsonl") if "loss" in entry]
    assert [entry["step"] for entry in log] == list(range(1, 2 * steps + 1))
    for epoch in (log[:steps], log[steps:]):
        assert round(sum(entry["batch/samples"] * 2 for entry in epoch)) == count

    assert losses(out) == losses(whole)
    found, wanted = (load_file(folder / "best" / "adapter_model.safetensors") for folder in (out, whole))
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)

    cut_back(out, step=middle)
    train(compose(words))
    log = [entry for entry in read(out / "train_log.jsonl") if "loss" in entry]
    planned = json.loads((out / "batching.json").read_text())["steps"]
    assert [entry["step"] for entry in log[:middle]] == list(range(1, middle + 1))
    assert log[-1]["step"] == 2 * planned and planned > steps  # one process takes more steps
    rest = [entry for entry in log[middle:] if entry["step"] <= planned]
    before = sum(entry["batch/samples"] * 2 for entry in log[:middle])
    assert round(before + sum(entry["batch/samples"] for entry in rest)) == count
    rates = [entry["learning_rate"] for entry in log[middle:]]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(1e-3 * (1 - (rest[0]["step"] - 1) / log[-1]["step"]), rel=0.05)
