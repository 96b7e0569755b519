"""Runs of reinforcement learning from end to end: by the command, interrupted, on two processes, on bad videos."""

import json
import shutil
from pathlib import Path

import joint_runs
import pytest
import torch
from rl_runs import cut_back, overrides, run, train
from safetensors.torch import load_file
from sft_runs import compose as compose_sft
from sft_runs import losses, read
from sft_runs import overrides as sft_overrides

from vtg.training.sft.run_sft import train as train_sft


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def entries(out: Path) -> list[dict]:
    """The lines of the log that tell of training steps, without how long they took."""
    lines = [line for line in read(out / "train_log.jsonl") if "loss" in line]
    return [{key: value for key, value in line.items() if "time" not in key} for line in lines]


def learned(out: Path) -> list[dict]:
    """The same without what was read and encoded for it, which a run that goes on does anew."""
    return [
        {key: value for key, value in line.items() if not key.startswith(("clips/", "vision/"))}
        for line in entries(out)
    ]


def completions(out: Path) -> dict[str, list[dict]]:
    return {file.name: read(file) for file in sorted((out / "completions").glob("*.jsonl"))}


def one_row_a_video(demo: Path, folder: Path, count: int = 3) -> Path:
    rows = {row["video"]: row for row in read(demo / "train.jsonl")}
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in list(rows.values())[:count]))
    assert len(rows) >= count
    return path


@pytest.fixture(scope="module")
def tuned(demo_dir, tmp_path_factory) -> Path:
    """A run of supervised fine-tuning with settings of its own."""
    out = tmp_path_factory.mktemp("runs") / "sft"
    settings = ("task.decimals=2", "video.max_frames=12", "lora.r=4", "data.val_file=null", "data.test_file=null")
    short = ("trainer.max_steps=2", "trainer.warmup_steps=0", "trainer.use_cpu=true")
    train_sft(compose_sft(sft_overrides(demo_dir, out, *settings, *short)))
    return out


@pytest.fixture(scope="module")
def finished(demo_dir, tuned, tmp_path_factory):
    """By the command, from the run before, with everything measured: two rewards, KL, validation."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    measured = (f"data.test_file={demo_dir / 'test.jsonl'}", f"data.val_file={demo_dir / 'val.jsonl'}")
    rewards = "rewards.terms=[{name: temporal_iou, weight: 1.0}, {name: format, weight: 0.5, label: readable}]"
    steps = ("trainer.eval_strategy=steps", "trainer.eval_steps=1", "trainer.max_steps=3", "rl.temperature=1.3")
    return out, run(*overrides(demo_dir, out, f"model.path={tuned}", *measured, *steps, rewards, "rl.beta=0.04"))


@pytest.mark.slow
def test_a_run_leaves_all_that_its_directory_promises(finished):
    out, done = finished
    assert done.returncode == 0, done.stderr
    for name in ("config.yaml", "environment.json", "train_log.jsonl", "metrics.json", "predictions.jsonl"):
        assert (out / name).stat().st_size > 0, name
    assert (out / "skipped.jsonl").read_text() == ""
    assert list((out / "tensorboard").glob("events*"))
    metrics = json.loads((out / "metrics.json").read_text())
    assert {"base", "tuned", "shuffled"} == metrics.keys()
    assert "R1@0.5" in done.stdout and str(out / "report.html") in done.stdout
    for folder in (out / "best", out / "checkpoint-3"):
        assert (folder / "vtg.json").is_file() and set(weights(folder)) and not (folder / "ref").exists()
    for name in ("curriculum.json", "rollouts.json", "optimizer.pt", "trainer_state.json"):
        assert (out / "checkpoint-3" / name).is_file()
    record = json.loads((out / "checkpoint-3" / "curriculum.json").read_text())
    assert sum(record["met"]) == 3 * 2 and max(record["step"]) == 2
    evaluated = [line for line in read(out / "train_log.jsonl") if "eval_mIoU" in line]
    assert [line["step"] for line in evaluated] == [1, 2, 3]
    assert all("completions" not in key for line in evaluated for key in line)


@pytest.mark.slow
def test_rewards_are_logged_apart_and_completions_are_kept(finished, demo_dir):
    out, _ = finished
    lines, kept = entries(out), completions(out)
    assert list(kept) == ["step_000000.jsonl", "step_000001.jsonl", "step_000002.jsonl"]
    given = {row["qid"]: row for row in read(demo_dir / "train.jsonl")}
    for line, rows in zip(lines, kept.values(), strict=True):
        assert len(rows) == 2 * 4 and len({row["qid"] for row in rows}) == 2
        for row in rows:
            assert row.items() >= given[row["qid"]].items()
            assert {"text", "prediction", "status", "iou", "rewards", "reward", "advantage"} <= row.keys()
            assert row["rewards"].keys() == {"temporal_iou", "readable"}
            assert row["rewards"]["temporal_iou"] == pytest.approx(row["iou"], abs=1e-5)
            assert row["rewards"]["readable"] == (row["status"] == "ok")
            weighed = row["rewards"]["temporal_iou"] + 0.5 * row["rewards"]["readable"]
            assert row["reward"] == pytest.approx(weighed, abs=1e-5)
        for name in ("temporal_iou", "readable"):
            mean = sum(row["rewards"][name] for row in rows) / len(rows)
            assert line[f"rewards/{name}/mean"] == pytest.approx(mean, abs=1e-5)
        assert line["reward"] == pytest.approx(sum(row["reward"] for row in rows) / len(rows), abs=1e-5)
        assert line["iou/mean"] == pytest.approx(sum(row["iou"] for row in rows) / len(rows), abs=1e-5)


@pytest.mark.slow
def test_counts_are_of_training_and_not_of_what_is_measured_between(finished):
    for line in entries(finished[0]):
        assert line["vision/encoder_calls"] <= 2
        assert line.get("clips/decoded", 0) + line.get("clips/memory", 0) == 2


COUNTED = {
    "shared": ([], {"vision/encoder_calls": 3, "prompt/passes": 6}),
    "with old log-probs and a reference": (
        ["rl.num_iterations=2", "rl.beta=0.04"],
        {"vision/encoder_calls": 3, "prompt/passes": 12},
    ),
    "repeated": (["rollout.share_prompt=false"], {"vision/encoder_calls": 3, "prompt/passes": 6 * 4}),
    "trained tower": (["parts.vision=lora"], {"vision/encoder_calls": 3 + 3, "prompt/passes": 6}),
}
"""What three prompts with a clip each cost in an optimizer step: sampling and a loss, each of which runs them once."""


@pytest.mark.parametrize("way", COUNTED)
def test_a_clip_is_decoded_once_and_encoded_once_a_rollout_and_a_prompt_is_run_once_a_forward(demo_dir, tmp_path, way):
    more, wanted = COUNTED[way]
    rows = one_row_a_video(demo_dir, tmp_path)
    words = (f"data.annotation_file={rows}", "trainer.per_device_train_batch_size=3", "trainer.max_steps=1")
    train(overrides(demo_dir, tmp_path / "run", *words, *more))
    (line,) = entries(tmp_path / "run")
    assert {key: line[key] for key in wanted} == wanted
    assert line["clips/decoded"] == 3 and "clips/memory" not in line


@pytest.fixture(scope="module")
def undisturbed(demo_dir, tmp_path_factory) -> Path:
    """Four steps, two on each rollout, whose dead groups are replaced."""
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    train(overrides(demo_dir, out, *TWICE))
    return out


TWICE = (
    *("rl.num_iterations=2", "trainer.max_steps=4", "curriculum=dapo", "rl.beta=0.04", "rl.temperature=1.3"),
    "batching.share_video=true",  # so that a prompt that takes another's place is often about the same clip
)


@pytest.mark.parametrize("step", [1, 2])
def test_a_run_killed_after_a_checkpoint_goes_on_as_if_it_had_not_been(undisturbed, demo_dir, tmp_path, step):
    """After step 1 in the middle of a rollout, which the checkpoint holds; after step 2 between two."""
    out = tmp_path / "killed"
    shutil.copytree(undisturbed, out)  # what a kill leaves: later lines and completions, no later checkpoint
    config = out / "config.yaml"
    config.write_text(config.read_text().replace(str(undisturbed), str(out)))
    cut_back(out, step=step)
    assert (out / f"checkpoint-{step}" / "rollout_0.safetensors").is_file() == (step == 1)
    train(overrides(demo_dir, out, *TWICE))
    assert learned(out) == learned(undisturbed)
    assert [line["step"] for line in entries(out)] == [1, 2, 3, 4]
    for folder in ("checkpoint-4", "best"):
        found, wanted = weights(out / folder), weights(undisturbed / folder)
        assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)
    moved, before = weights(undisturbed / "best"), weights(undisturbed / f"checkpoint-{step}")
    assert not all(torch.equal(moved[name], before[name]) for name in moved)
    assert (out / "checkpoint-4" / "curriculum.json").read_text() == (
        undisturbed / "checkpoint-4" / "curriculum.json"
    ).read_text()
    assert completions(out) == completions(undisturbed)


@pytest.mark.slow
def test_an_sft_run_is_continued_with_its_adapter_and_its_settings(finished, tuned):
    out, done = finished
    assert f"task.decimals = 2, as {tuned} was trained (not 1)" in done.stderr
    assert f"video.max_frames = 12, as {tuned} was trained" in done.stderr
    assert "the adapter that was loaded is trained on" in done.stderr
    settings, before = (json.loads((folder / "best" / "vtg.json").read_text()) for folder in (out, tuned))
    assert settings["task"] == before["task"] and settings["video"] == before["video"]
    assert settings["model"]["path"] == "tiny"  # what the adapter stands on
    assert json.loads((out / "best" / "adapter_config.json").read_text())["r"] == 4
    old, new = weights(tuned / "best"), weights(out / "checkpoint-1")
    assert old.keys() == new.keys()
    assert not all(torch.equal(old[name], new[name]) for name in old)
    assert all((old[name] - new[name]).abs().max() < 1e-3 for name in old)  # a step of Adam away, not elsewhere
    assert entries(out)[0]["kl"] == pytest.approx(0, abs=1e-6)  # the reference is the adapter that was loaded
    assert entries(out)[-1]["kl"] > 1e-5
    assert any(row["text"].count(".") == 2 for rows in completions(out).values() for row in rows)


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_share_prompts_log_once_and_go_on_in_the_middle_of_a_rollout(demo_dir, tmp_path):
    out = tmp_path / "run"
    words = ("trainer.per_device_train_batch_size=1", "curriculum=dapo", "rl.num_iterations=2", "rl.beta=0.04")
    whole, once = tmp_path / "whole", ("rl", overrides(demo_dir, out, *words))
    said = joint_runs.launch([once, ("cut", [str(out), str(whole), "1"]), once], processes=2, folder=tmp_path)
    lines, kept = entries(whole), completions(whole)
    assert [line["step"] for line in lines] == [1, 2]
    assert list(kept) == ["step_000000.jsonl"]
    (rows,) = kept.values()
    groups = [rows[at : at + 4] for at in range(0, len(rows), 4)]
    assert len(rows) % 8 == 0 and all(len({row["qid"] for row in group}) == 1 for group in groups)
    assert len({group[0]["qid"] for group in groups[:2]}) == 2  # a prompt for each process
    rounds = len(rows) // 8
    assert lines[0]["reward"] == pytest.approx(sum(row["reward"] for row in rows) / len(rows), abs=1e-5)
    assert lines[0]["prompt/passes"] == 3 * rounds + 1  # of one process: sampling, old log-probs, reference; the loss
    record = json.loads((whole / "checkpoint-2" / "curriculum.json").read_text())
    assert sum(record["met"]) == 2 * rounds
    saved = {file.name for file in (whole / "checkpoint-1").glob("rollout_*")}
    assert saved == {"rollout_0.safetensors", "rollout_1.safetensors"}
    assert "going on from" in said
    assert learned(out) == learned(whole) and completions(out) == kept
    found, wanted = weights(out / "best"), weights(whole / "best")
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)

    cut_back(out, step=1)
    train(overrides(demo_dir, out, *words))  # one process goes on from what two have saved
    assert learned(out)[0] == learned(whole)[0] and [line["step"] for line in entries(out)] == [1, 2]
    sampled = completions(out)
    assert list(sampled) == ["step_000000.jsonl", "step_000001.jsonl"]  # the rollout they shared is sampled anew
    assert sampled["step_000000.jsonl"] == rows
    met = json.loads((out / "checkpoint-2" / "curriculum.json").read_text())["met"]
    assert sum(met) == sum(record["met"]) + len(sampled["step_000001.jsonl"]) // 4


def test_a_video_that_cannot_be_read_costs_its_group_alone(demo_dir, tmp_path):
    rows = one_row_a_video(demo_dir, tmp_path, count=2)
    row = read(rows)[0]
    (tmp_path / "corrupt.mp4").write_bytes((demo_dir / row["video"]).read_bytes()[:2000])
    broken = {**row, "video": str(tmp_path / "corrupt.mp4"), "qid": "broken"}
    rows.write_text(rows.read_text() + json.dumps(broken) + "\n")
    out = tmp_path / "run"
    words = (f"data.annotation_file={rows}", "trainer.per_device_train_batch_size=3", "data.max_bad_share=0.5")
    train(overrides(demo_dir, out, *words, "rl.temperature=1.3"))
    (skipped,) = read(out / "skipped.jsonl")
    assert skipped["qid"] == "broken" and "corrupt.mp4" in skipped["reason"]
    for line, kept in zip(entries(out), completions(out).values(), strict=True):
        assert line["groups/without_loss"] == pytest.approx(1 / 3)
        assert {one["qid"] for one in kept} == {one["qid"] for one in read(rows)} - {"broken"}
        assert line["reward"] == pytest.approx(sum(one["reward"] for one in kept) / len(kept), abs=1e-5)
    record = json.loads((out / "checkpoint-2" / "curriculum.json").read_text())
    assert record["met"] == [2, 2, 0] and record["iou"][2] is None


@pytest.mark.parametrize("zero_variance", ["keep", "drop", "resample"])
def test_groups_of_one_and_the_same_reward_teach_nothing(demo_dir, tmp_path, zero_variance):
    """No completion is perfect, so all are worth 0."""
    out = tmp_path / "run"
    words = ("rewards.terms=[{name: temporal_iou, threshold: 1.0, binary: true}]", "trainer.max_steps=1")
    more = (f"curriculum.zero_variance={zero_variance}", "curriculum.resample_rounds=2")
    train(overrides(demo_dir, out, *words, *more))
    (line,) = entries(out)
    assert line["groups/without_loss"] == (zero_variance != "keep")
    assert line["loss"] == 0 and line["grad_norm"] == 0 and line["frac_reward_zero_std"] == 1
    (kept,) = completions(out).values()
    sampled = 3 if zero_variance == "resample" else 1
    assert len(kept) == sampled * 2 * 4
    # Without loss none is run in it, but one, which all ranks run.
    assert line["prompt/passes"] == 2 * sampled + (2 if zero_variance == "keep" else 1)
    record = json.loads((out / "checkpoint-1" / "curriculum.json").read_text())
    assert sum(record["met"]) == sampled * 2


@pytest.mark.parametrize("by", ["tokens", "duration"])
def test_prompts_are_batched_to_a_budget(demo_dir, tmp_path, by):
    out = tmp_path / "run"
    budget = {"tokens": "batching.target_batch_tokens=520", "duration": "batching.target_batch_duration=22"}[by]
    words = (f"batching.by={by}", budget, "rl.steps_per_generation=2", "trainer.gradient_accumulation_steps=2")
    train(overrides(demo_dir, out, *words, "rl.temperature=1.3"))
    sizes = [len(rows) // 4 for rows in completions(out).values()]
    assert len(entries(out)) == len(sizes) == 2 and max(sizes) > 2  # more than a prompt in a micro-batch
    assert losses(out)
