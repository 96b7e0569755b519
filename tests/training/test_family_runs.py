"""Runs of every family: fine-tuning by default; GRPO, resuming, predicting, export under `soak`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import rl_runs
from safetensors.torch import load_file
from sft_runs import ROOT, compose, losses, overrides, read

from vtg.data.encoding import patch_factor
from vtg.export.checkpoint_export import export_model
from vtg.models.families import family_of, known_types
from vtg.models.loading import load_processor
from vtg.training.rl.rewards import REWARDS
from vtg.training.sft.run_sft import train

UNTESTED = ("data.val_file=null", "data.test_file=null", "trainer.use_cpu=true", "trainer.bf16=false")


@pytest.fixture(params=known_types())
def family_dir(request, tiny_dir) -> Path:
    """The tiny model of every type."""
    return tiny_dir(request.param)


def of_model(folder: Path) -> tuple[str, str]:
    """What is said of a model."""
    return f"model.path={folder}", f"model.patch_factor={patch_factor(load_processor(str(folder)))}"


def fine_tune(folder: Path, demo: Path, out: Path, *more: str) -> Path:
    """Two steps over all rows at once in single precision, without measuring before and after."""
    rows = f"trainer.per_device_train_batch_size={len(read(demo / 'train.jsonl'))}"
    train(compose(overrides(demo, out, *UNTESTED, *of_model(folder), rows, "trainer.max_steps=2", *more)))
    return out


def adapted(out: Path) -> set[str]:
    """The layers that an adapter changes, by the last part of their names."""
    weights = load_file(out / "checkpoint-2" / "adapter_model.safetensors")
    return {name.split(".")[-3] for name, weight in weights.items() if "lora_B" in name and bool(weight.any())}


def test_a_family_is_fine_tuned(family_dir, demo_dir, tmp_path):
    out = fine_tune(family_dir, demo_dir, tmp_path, "batching.packing=true", "batching.share_video=true")
    lines = [line for line in read(out / "train_log.jsonl") if "loss" in line]
    assert [line["step"] for line in lines] == [1, 2]
    assert all(0 < line["loss"] < 20 and line["grad_norm"] > 0 and line["batch/padding"] == 0 for line in lines)
    assert {"q_proj", "o_proj"} <= adapted(out)


def test_packed_and_shared_batches_train_as_padded_ones(qwen3_5_dir, demo_dir, tmp_path):
    padded = fine_tune(qwen3_5_dir, demo_dir, tmp_path / "padded")
    together = ("batching.packing=true", "batching.share_video=true")
    packed = fine_tune(qwen3_5_dir, demo_dir, tmp_path / "packed", *together)
    assert losses(packed).keys() == losses(padded).keys() == {1, 2}
    for step, loss in losses(padded).items():
        assert abs(losses(packed)[step] - loss) <= 1e-5 * loss
    line, before = (read(folder / "train_log.jsonl")[0] for folder in (packed, padded))
    assert line["batch/padding"] == 0 < before["batch/padding"]
    assert line["batch/tokens"] < before["batch/tokens"]
    assert "in_proj_qkv" in adapted(packed)


@pytest.mark.soak
def test_a_run_that_resumes_learns_what_an_undisturbed_one_does_and_its_export_answers(family_dir, demo_dir, tmp_path):
    whole = fine_tune(family_dir, demo_dir, tmp_path / "whole", "trainer.save_steps=1", "trainer.save_total_limit=9")
    halves = tmp_path / "halves"
    for steps in (1, 2):
        more = (f"trainer.max_steps={steps}", "trainer.save_steps=1", "trainer.lr_scheduler_type=constant")
        fine_tune(family_dir, demo_dir, halves, *more)
    assert losses(halves).keys() == losses(whole).keys() == {1, 2}
    assert losses(halves)[1] == losses(whole)[1]
    out = tmp_path / "exported"
    export_model(str(whole), out)  # compares answers on pixels with transformers alone
    family = family_of(load_processor(str(family_dir)))
    for option, value in family.template_options.items():
        assert f"    {option}={value!r},\n" in (out / "README.md").read_text()
    row = read(demo_dir / "test.jsonl")[0]
    for checkpoint in (whole, out):
        command = [sys.executable, "-m", "vtg.predict", f"checkpoint={checkpoint}", f"video={demo_dir / row['video']}"]
        done = subprocess.run([*command, f"query={row['sentence']}"], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.soak
def test_grpo_runs_every_prompt_once_and_resumes(family_dir, demo_dir, tmp_path, monkeypatch):
    # A reward that tells the answers of a model without any training apart.
    monkeypatch.setitem(REWARDS, "letters", lambda completion: len(set(completion.text)) / 100)
    out = tmp_path / "run"
    more = (*of_model(family_dir), "trainer.bf16=false", "rewards.terms=[{name: letters, weight: 1.0}]")
    for steps in (1, 2):
        rl_runs.train(rl_runs.overrides(demo_dir, out, *more, f"trainer.max_steps={steps}"))
    lines = [line for line in read(out / "train_log.jsonl") if "loss" in line]
    assert [line["step"] for line in lines] == [1, 2]
    for line in lines:
        # Two prompts, each with four completions, once for sampling and once for the loss.
        assert line["prompt/passes"] == 4 and line["grad_norm"] > 0, json.dumps(line)
    assert {"q_proj", "o_proj"} <= adapted(out)
