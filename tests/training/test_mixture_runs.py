"""A run on a mixture: what it draws, and what it says of it; the same after a kill and on another number of ranks."""

import json
import shutil
from pathlib import Path

import pytest
import rl_runs
from sft_runs import read, run, run_on_two

EPOCH = {"train": 12, "test": 4}
"""Samples that the weights ask of an epoch of 16."""


def overrides(demo: Path, out: Path, *more: str) -> list[str]:
    return [
        "data=jsonl",
        *(f"data.sources.{name}.annotation_file={demo / f'{name}.jsonl'}" for name in EPOCH),
        *(f"data.sources.{name}.video_dir={demo}" for name in EPOCH),
        *("data.sources.train.weight=3", f"data.sources.test.test_file={demo / 'test.jsonl'}", "data.epoch_samples=16"),
        *("batching=tokens", "batching.global_size=4", "trainer.num_train_epochs=1", "trainer.logging_steps=1"),
        *("trainer.eval_strategy=no", "trainer.save_strategy=steps", "trainer.save_steps=2"),
        *("evaluation.max_new_tokens=8", "evaluation.shuffled_video_control=false", "trainer.dataloader_num_workers=0"),
        *("trainer.report_to=none", f"output_dir={out}", *more),
    ]


def drawn(out: Path) -> dict[str, int]:
    return {one["name"]: one["samples"] for one in json.loads((out / "mixture.json").read_text())["sources"]}


@pytest.mark.slow
def test_a_run_draws_by_weight_and_says_so_and_a_resume_on_two_ranks_draws_the_rest(demo_dir, tmp_path):
    out = tmp_path / "run"
    done = run(*overrides(demo_dir, out))
    assert done.returncode == 0, done.stderr
    assert drawn(out) == EPOCH
    assert "75.00 %" in done.stdout and "an epoch draws 16 samples" in done.stderr
    (of_test,) = [one for one in json.loads((out / "mixture.json").read_text())["sources"] if one["name"] == "test"]
    assert of_test["scores"]["tuned"]["samples"] == len(read(out / "predictions.jsonl"))
    assert {row["mixture_source"] for row in read(out / "predictions.jsonl")} == {"test"}
    assert '<h2 id="sources">' in (out / "report.html").read_text() or "Sources" in (out / "report.html").read_text()
    # As after a kill behind the first checkpoint.
    (first, *later) = sorted(out.glob("checkpoint-*"), key=lambda folder: int(folder.name.rpartition("-")[2]))
    for folder in (*later, out / "best"):
        shutil.rmtree(folder)
    record = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps(record | {"trained": None}))
    again = run_on_two(*overrides(demo_dir, out, "trainer.use_cpu=true"))
    assert again.returncode == 0, again.stderr
    assert f"going on from {first}" in again.stderr
    assert drawn(out) == EPOCH


def rollouts(demo: Path, out: Path, *more: str) -> list[str]:
    """2 steps over 4 prompts each, 3 of the one source and 1 of the other in each pass of 4."""
    drop = ("data.annotation_file", "data.video_dir")
    words = [word for word in rl_runs.overrides(demo, out) if not word.startswith(drop)]
    return [
        *words,
        *(f"data.sources.{name}.annotation_file={demo / f'{name}.jsonl'}" for name in EPOCH),
        *(f"data.sources.{name}.video_dir={demo}" for name in EPOCH),
        *("data.sources.train.weight=3", f"data.sources.test.test_file={demo / 'test.jsonl'}", "data.epoch_samples=4"),
        *("trainer.gradient_accumulation_steps=2", "trainer.dataloader_num_workers=0", "rl.num_generations=2"),
        *("evaluation.shuffled_video_control=false", "trainer.report_to=none", *more),
    ]


@pytest.mark.soak
def test_prompts_of_a_mixture_are_drawn_by_weight_and_a_resume_draws_the_same(demo_dir, tmp_path):
    out = tmp_path / "run"
    done = rl_runs.run(*rollouts(demo_dir, out))
    assert done.returncode == 0, done.stderr
    assert drawn(out) == {"train": 6, "test": 2}
    assert "75.00 %" in done.stdout and "pass 1: 4 of" in done.stderr
    assert {row["mixture_source"] for row in read(out / "predictions.jsonl")} == {"test"}
    before = [row["qid"] for row in read(out / "completions" / "step_000001.jsonl")]
    rl_runs.cut_back(out, step=1)
    again = rl_runs.run(*rollouts(demo_dir, out))
    assert again.returncode == 0, again.stderr
    assert drawn(out) == {"train": 6, "test": 2}
    assert [row["qid"] for row in read(out / "completions" / "step_000001.jsonl")] == before
