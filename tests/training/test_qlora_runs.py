"""Runs with the language model in 4 or 8 bits: reinforcement learning, resume, ZeRO-2. Needs bitsandbytes."""

import shutil
from pathlib import Path
from shutil import which
from typing import Any

import joint_runs
import pytest
import rl_runs
import sft_runs
import torch
from safetensors.torch import load_file

from vtg.training.sft.run_sft import train as train_sft

pytest.importorskip("bitsandbytes", minversion="0.50", reason="pip install 'bitsandbytes>=0.50' to test quantization")

QLORA = ("lora=qlora", "lora.r=4")
EVALUATED = ("trainer.max_steps=2", "trainer.eval_steps=1", "trainer.save_steps=1", "trainer.warmup_steps=0")
ALONE = ("trainer.use_cpu=true", "trainer.save_total_limit=9", "data.test_file=null")


def adapters(run: Path) -> dict[str, torch.Tensor]:
    """The weights of every checkpoint of a run, and of its best."""
    files = sorted(run.glob("*/adapter_model.safetensors"))
    assert {"best", "checkpoint-1", "checkpoint-2"} == {file.parent.name for file in files}
    return {f"{file.parent.name} {name}": value for file in files for name, value in load_file(file).items()}


def learned(run: Path) -> list[list[float]]:
    lines = [line for line in sft_runs.read(run / "train_log.jsonl") if "grad_norm" in line]
    return [[line[name] for name in ("step", "loss", "grad_norm")] for line in lines]


def assert_resumes_exactly(out: Path, train) -> None:
    """Runs, loses what came after the first checkpoint, and resumes: all weights are the same to the bit."""
    train()
    whole = Path(shutil.copytree(out, f"{out}_whole"))
    rl_runs.cut_back(out, step=1)
    train()
    assert learned(out) == learned(whole) and len(learned(out)) == 2
    found, wanted = adapters(out), adapters(whole)
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)
    second = [name for name in wanted if name.startswith("checkpoint-2 ")]
    assert any(not torch.equal(wanted[name], wanted[name.replace("-2 ", "-1 ")]) for name in second)


def test_reinforcement_learning_trains_adapters_in_float32_as_they_were_made(demo_dir, tmp_path):
    """TRL makes bfloat16 of them, a run that resumes float32 again."""
    trainer = rl_runs.build(rl_runs.overrides(demo_dir, tmp_path / "run", *QLORA, "rl.beta=0.1"))
    model: Any = trainer.model
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    assert trained and {one.dtype for one in trained.values()} == {torch.float32}
    made = torch.cat([one.flatten() for name, one in trained.items() if "lora_A" in name])
    assert not torch.equal(made, made.bfloat16().float())


@pytest.mark.soak
@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_reinforcement_learning_of_rounded_weights_resumes_exactly(demo_dir, tmp_path, bits):
    words = rl_runs.overrides(demo_dir, tmp_path / "run", *QLORA, f"model.quantization={bits}", "rl.beta=0.1")
    assert_resumes_exactly(tmp_path / "run", lambda: rl_runs.train(words))


@pytest.mark.soak
@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_fine_tuning_of_rounded_weights_that_is_validated_after_each_step_resumes_exactly(demo_dir, tmp_path, bits):
    more = (f"model.quantization={bits}", *EVALUATED, *ALONE)
    words = sft_runs.overrides(demo_dir, tmp_path / "run", *QLORA, *more)
    assert_resumes_exactly(tmp_path / "run", lambda: train_sft(sft_runs.compose(words)))


@pytest.mark.soak
def test_a_run_in_8_bits_is_as_quiet_as_any(demo_dir, tmp_path):
    words = sft_runs.overrides(demo_dir, tmp_path / "run", *QLORA, "model.quantization=8bit", *ALONE)
    done = sft_runs.run(*words, "trainer.max_steps=1", "data.val_file=null", "trainer.eval_strategy=no")
    assert done.returncode == 0, done.stderr
    assert "MatMul8bitLt" not in done.stderr and len(done.stderr.splitlines()) < 40


@pytest.mark.soak
@pytest.mark.distributed
@pytest.mark.skipif(which("c++") is None, reason="DeepSpeed compiles its operations on a CPU, and there is no c++")
def test_both_ways_of_training_rounded_weights_under_zero2_are_those_without(demo_dir, tmp_path):
    pytest.importorskip("deepspeed", reason="is not installed")
    jobs: list[joint_runs.Job] = []
    for stage in ("none", "zero2"):
        shape = (f"deepspeed={stage}", "trainer.per_device_train_batch_size=1")
        words = sft_runs.overrides(demo_dir, tmp_path / f"sft_{stage}", *QLORA, *EVALUATED, *ALONE, *shape)
        cut = [str(tmp_path / f"sft_{stage}"), str(tmp_path / f"sft_{stage}_whole"), "1"]
        jobs += [("sft", words), ("cut", cut), ("sft", words)]
        jobs.append(("rl", rl_runs.overrides(demo_dir, tmp_path / f"rl_{stage}", *QLORA, *shape)))
    joint_runs.launch(jobs, processes=2, folder=tmp_path)
    assert learned(tmp_path / "sft_zero2") == learned(tmp_path / "sft_zero2_whole")
    for kind in ("sft", "rl"):
        pairs = list(zip(*(learned(tmp_path / f"{kind}_{stage}") for stage in ("zero2", "none")), strict=True))
        assert len(pairs) == 2
        for found, wanted in pairs:
            assert found == pytest.approx(wanted, rel=1e-3, abs=1e-5)
