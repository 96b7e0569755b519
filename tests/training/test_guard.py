"""What ends a step: memory that runs out, and losses that are not finite."""

import json
import math
import re
import sys
from pathlib import Path

import forked
import pytest
import rl_runs
import sft_runs
import torch
from accelerate import Accelerator
from faults import in_training_forwards, nan, no_memory
from sft_runs import ROOT, losses, read

import vtg.rl
import vtg.sft
from vtg.config.resume import may_change_on_resume
from vtg.data.grounding_dataset import BatchRow
from vtg.errors import RunError
from vtg.training.guard import (
    ANOTHER_RUN,
    MAX_SKIPPED,
    FiniteGuard,
    StepBatch,
    answering_remedies,
    training_remedies,
)
from vtg.training.sft.run_sft import train

ALONE = ("evaluation.shuffled_video_control=false", "data.val_file=null", "data.test_file=null")
"""Nothing is measured, before or after."""


def ended(main, words: list[str], monkeypatch, capsys) -> tuple[int, str]:
    """Exit code and standard error of a program."""
    monkeypatch.setattr(sys, "argv", ["train", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize("way", ["sft", "rl"])
def test_memory_that_runs_out_is_told_with_the_batch_and_what_to_lower(way, demo_dir, tmp_path, monkeypatch, capsys):
    runs, main = (sft_runs, vtg.sft.main) if way == "sft" else (rl_runs, vtg.rl.main)
    words = runs.overrides(demo_dir, tmp_path, *(ALONE if way == "sft" else ()), "trainer.save_steps=1")
    with in_training_forwards(no_memory(2)):
        code, err = ended(main, words, monkeypatch, capsys)
    message = err[err.index("error: ") :]
    rows = read(demo_dir / "train.jsonl")
    longest = max((row for row in rows), key=lambda row: message.count(f"longest clip: {row['qid']} ("))
    assert code == 1
    assert message.startswith("error: out of memory in step 2\nbatch: ")
    assert f"longest clip: {longest['qid']} ({longest['video']}, {longest['duration']:.1f} s, " in message
    assert sum(row["qid"] in message for row in rows) >= 2
    assert "torch: CUDA out of memory. Tried to allocate 2.00 GiB." in message
    assert "  1. trainer.per_device_train_batch_size (now " in message
    assert (
        "  2. set trainer.gradient_checkpointing=full\n  3. video.total_pixels (now 262144), in a run of another name\n"
        in message
    )
    assert "  4. set deepspeed=zero3 on several GPUs, or deepspeed=zero2_offload, in a run of another name\n" in message
    assert (tmp_path / "config.yaml").is_file() and (tmp_path / "checkpoint-1" / "trainer_state.json").is_file()
    assert list(losses(tmp_path)) == [1]


def test_memory_that_runs_out_while_answering_names_the_batch_size_of_evaluation(demo_dir, tmp_path):
    def fault(module, args):
        if type(module).__name__ == "Qwen3VLModel" and not module.training:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    handle = torch.nn.modules.module.register_module_forward_pre_hook(fault)
    try:
        with pytest.raises(RunError, match=r"testing the base model, by generation(.|\n)*1\. evaluation\.batch_size"):
            train(sft_runs.compose(sft_runs.overrides(demo_dir, tmp_path)))
    finally:
        handle.remove()


def test_remedies_follow_the_settings():
    config = sft_runs.compose(["lora=none", "batching=tokens", "++trainer.gradient_checkpointing=true"])
    found = training_remedies(config)
    assert found[0] == "batching.target_batch_tokens (now as many as the longest clip)"
    assert [one.split(" (")[0] for one in found[1:3]] == ["video.total_pixels", f"set lora=default{ANOTHER_RUN}"]
    assert training_remedies(sft_runs.compose(["deepspeed=zero3", "batching=duration"]))[-1] == (
        f"set deepspeed=zero3_offload{ANOTHER_RUN}"
    )


@pytest.mark.parametrize("more", [[], ["batching=tokens"], ["batching=duration", "lora=none"], ["deepspeed=zero3"]])
def test_a_run_resumes_with_what_is_advised_or_the_advice_says_that_it_does_not(more):
    config = sft_runs.compose(["++trainer.gradient_checkpointing=false", *more])
    advice = [*training_remedies(config), *answering_remedies(config.evaluation, config.video)]
    for text in advice:
        chosen = re.search(r"(deepspeed|lora)=", text)
        key = re.search(r"(batching|trainer|video|evaluation)\.\w+", text)
        names = {"deepspeed": "deepspeed.stage", "lora": "lora.enabled"}
        name = names[chosen[1]] if chosen else key[0] if key else ""
        assert may_change_on_resume(name) != text.endswith(ANOTHER_RUN), text


def test_a_run_resumes_with_what_its_other_errors_advise():
    advised = {"trainer.max_grad_norm", "trainer.bf16", "data.max_bad_share"}
    for module in ("guard", "processes", "checkpoint_saving"):
        text = (ROOT / "vtg" / "training" / f"{module}.py").read_text(encoding="utf-8")
        advised |= set(re.findall(r"\blower ((?:trainer|data|video|batching)\.\w+)", text))
    assert {"trainer.save_total_limit", "trainer.dataloader_num_workers", "trainer.learning_rate"} <= advised
    assert not [key for key in advised if not may_change_on_resume(key)]


def test_a_loss_that_is_not_finite_ends_the_run_and_the_same_command_goes_on(demo_dir, tmp_path):
    words = sft_runs.overrides(demo_dir, tmp_path, *ALONE, "trainer.save_steps=1")
    with in_training_forwards(nan(3)), pytest.raises(RunError) as raised:
        train(sft_runs.compose(words))
    message = str(raised.value)
    assert message.startswith("step 3: the loss is not finite\nsamples: ")
    assert "try a lower trainer.learning_rate" in message and "or set on_nan=skip to leave out such updates" in message
    assert list(losses(tmp_path)) == [1, 2]
    train(sft_runs.compose([*words, "on_nan=skip"]))
    assert list(losses(tmp_path)) == [1, 2, 3, 4]


def test_with_skip_the_update_is_left_out_and_counted(demo_dir, tmp_path):
    words = sft_runs.overrides(demo_dir, tmp_path, *ALONE, "trainer.save_steps=1", "trainer.save_total_limit=9")
    with in_training_forwards(nan(2)):
        train(sft_runs.compose([*words, "on_nan=skip"]))
    lines = [line for line in read(tmp_path / "train_log.jsonl") if "loss" in line]
    assert [line["skipped_updates"] for line in lines] == [0, 1, 0, 0]
    assert all(math.isfinite(line["loss"]) for line in lines) and "grad_norm" not in lines[1]
    files = [(tmp_path / f"checkpoint-{step}" / "adapter_model.safetensors").read_bytes() for step in (1, 2, 3)]
    assert files[0] == files[1] != files[2]


@pytest.mark.slow
def test_grpo_leaves_out_an_update_too(demo_dir, tmp_path):
    words = rl_runs.overrides(demo_dir, tmp_path, "on_nan=skip")
    with in_training_forwards(nan(1)):
        rl_runs.train(words)
    lines = [line for line in read(tmp_path / "train_log.jsonl") if "loss" in line]
    assert [line["skipped_updates"] for line in lines] == [1, 0]


def test_more_than_twenty_updates_in_a_row_are_not_left_out():
    guard, batch = FiniteGuard("skip"), StepBatch((BatchRow("q7", "a.mp4", 3.0, 90),), 90)
    accelerator = Accelerator(cpu=True)
    for step in range(1, MAX_SKIPPED + 1):
        guard.add(torch.tensor(math.nan), batch)
        assert guard.skips_update(torch.tensor(1.0), accelerator, step=step)
    assert guard.take_skipped() == MAX_SKIPPED
    guard.add(torch.tensor(1.0), batch)
    with pytest.raises(RunError, match=r"step 21: the loss is finite, its gradient is not \(the last of 21 updates"):
        guard.skips_update(torch.tensor(math.inf), accelerator, step=21)


@pytest.mark.distributed
@pytest.mark.slow
def test_a_nan_of_one_process_is_the_business_of_both(demo_dir, tmp_path):
    words = ("on_nan=skip", "trainer.use_cpu=true", "trainer.max_steps=30", "trainer.per_device_train_batch_size=1")
    bad = ",".join(map(str, [1, *range(3, 31)]))
    words = sft_runs.overrides(demo_dir, tmp_path, *ALONE, *words)
    done = forked.run(Path(__file__).with_name("faults.py"), "nan", "1", bad, "sft", *words, ranks=2)
    assert done.returncode == 1
    lines = [line for line in read(tmp_path / "train_log.jsonl") if "loss" in line]
    assert [line["skipped_updates"] for line in lines] == [1, 0, *[1] * MAX_SKIPPED]
    often = "(the last of 21 updates in a row that were left out)"
    assert done.stderr.count(f"error: step 23: the loss is not finite on rank 1 {often}\nsamples: ") == 1
    assert done.stderr.count("error: step") == 1
    assert json.loads((tmp_path / "environment.json").read_text())["world_size"] == 2
