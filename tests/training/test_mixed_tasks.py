"""Runs whose rows are spans, captions, events and questions in one file, on the tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest
import rl_runs
import sft_runs

from vtg.config.data_settings import DemoConfig
from vtg.demo.demo_dataset import ensure_demo
from vtg.storage.json_files import read_jsonl, write_jsonl

TASKS = ("caption", "dense_caption", "qa")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """A small demo set; every split has rows of other tasks about the same videos beside those of spans."""
    demo = ensure_demo(tmp_path_factory.mktemp("data") / "demo", DemoConfig(3, 2, 2, seed=1))
    (demo / "said.srt").write_text("1\n00:00:00,500 --> 00:00:01,500\nlook\n")
    for name in ("train", "val", "test"):
        rows = read_jsonl(demo / f"{name}.jsonl")
        write_jsonl(demo / f"{name}.jsonl", [row for span in rows[:3] for row in (span, *other_rows(span))])
    return demo


def other_rows(span: dict[str, Any]) -> list[dict[str, Any]]:
    """A row of each other task about the video of a row of spans, and a question with a free answer."""
    clip = {"video": span["video"], "duration": span["duration"]}
    times = span["timestamp"] if isinstance(span["timestamp"][0], float) else span["timestamp"][0]
    asked = {"question": "What is it?", "answer": "red"}
    return [
        clip | {"caption": "a red box"},
        clip | {"captions": [{"timestamp": times, "caption": "a box"}]},
        clip | asked | {"choices": ["red", "blue"], "subtitles": "said.srt"},
        clip | asked,
    ]


@pytest.mark.slow
def test_a_run_over_rows_of_all_tasks_trains_and_scores_each(mixed, tmp_path):
    out = tmp_path / "run"
    more = ("evaluation.max_val_samples=0", "evaluation.max_new_tokens=40", "loss.token_weights=by_task")
    done = sft_runs.run(*sft_runs.overrides(mixed, out, *more, "trainer.max_steps=8", "trainer.eval_steps=4"))
    assert done.returncode == 0, done.stderr
    metrics = json.loads((out / "metrics.json").read_text())
    for column in ("base", "tuned"):
        assert metrics[column].keys() > {"mIoU", "score", *TASKS}
        assert metrics[column]["samples"] == 3 and metrics[column]["qa"]["samples"] == 6
    losses = sft_runs.losses(out)
    assert min(losses[7], losses[8]) < losses[1]
    rows = read_jsonl(out / "predictions.jsonl")
    assert {row.get("task") for row in rows} == {None, *TASKS}
    assert "qa: score" in done.stdout and "qa/accuracy" in done.stdout
    assert "best validation score" in done.stderr + done.stdout
    assert not read_jsonl(out / "skipped.jsonl")
    assert "report.html" in done.stdout


def test_an_answer_that_would_be_cut_off_is_told_before_weights_load(mixed, tmp_path):
    done = sft_runs.run(*sft_runs.overrides(mixed, tmp_path / "run", "evaluation.max_new_tokens=8"))
    assert done.returncode == 2
    assert "evaluation.max_new_tokens = 8: the answer to" in done.stderr and "(dense_caption)" in done.stderr


@pytest.mark.soak
def test_grpo_rewards_each_row_by_its_own_task(mixed, tmp_path):
    out = tmp_path / "run"
    rl_runs.train(rl_runs.overrides(mixed, out, "rl.max_completion_length=32", "evaluation.max_new_tokens=40"))
    rows = [row for file in sorted((out / "completions").glob("*.jsonl")) for row in read_jsonl(file)]
    assert rows
    for row in rows:
        assert row["rewards"].keys() == ({"task"} if "task" in row else row["rewards"].keys() - {"task"})
        assert ("score" in row) == ("task" in row) and ("iou" in row) != ("task" in row)
    for line in (out / "train_log.jsonl").read_text().splitlines():
        assert all(value == value for value in json.loads(line).values())
