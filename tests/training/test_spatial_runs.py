"""Runs over rows of points, tracks and counts, about the gym's videos and still pictures, on the tiny model."""

import json
from pathlib import Path

import numpy as np
import pytest
import rl_runs
import sft_runs
from PIL import Image

from vtg.config.data_settings import GymConfig
from vtg.demo.gym_dataset import ensure_gym
from vtg.demo.world import make_world, render
from vtg.storage.json_files import read_jsonl, write_jsonl


@pytest.fixture(scope="module")
def spatial(tmp_path_factory) -> Path:
    """A small gym; every split has rows of these tasks in one file, and rows about one picture and about two."""
    sizes = GymConfig(train_videos=2, val_videos=1, test_videos=1, shortest_s=6.0, longest_s=8.0, long_s=10.0)
    gym = ensure_gym(tmp_path_factory.mktemp("data") / "gym", sizes)
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        rows = [row for task in ("points", "tracks", "count") for row in read_jsonl(gym / f"{split}_{task}.jsonl")]
        world = make_world(rng, duration_s=6.0, events=3)
        event = world.queries[0]
        for at in range(2):
            frame = render(world, np.array([event.start_s + at * 0.5]), size=64)[0]
            Image.fromarray(frame).save(gym / f"{split}_{at}.png")
        x, y = event.center(event.start_s)
        name = f"{event.color} {event.shape}"
        one = {"image": f"{split}_0.png", "query": f"Point to the {name}.", "points": [{"x": x, "y": y}]}
        two = {"image": [f"{split}_0.png", f"{split}_1.png"], "query": f"In how many is a {name}?", "count": 2}
        write_jsonl(gym / f"{split}.jsonl", [*rows, one, two])
    return gym


@pytest.mark.slow
def test_a_run_over_points_tracks_counts_and_pictures_trains_and_scores_each(spatial, tmp_path):
    out = tmp_path / "run"
    more = ("evaluation.max_val_samples=0", "evaluation.max_new_tokens=320", "trainer.max_steps=6")
    done = sft_runs.run(*sft_runs.overrides(spatial, out, *more, "trainer.eval_steps=6", "trainer.save_steps=6"))
    assert done.returncode == 0, done.stderr
    metrics = json.loads((out / "metrics.json").read_text())
    for column in ("base", "tuned"):
        samples = {task: metrics[column][task]["samples"] for task in ("points", "tracks", "count")}
        assert samples == {"points": 4, "tracks": 1, "count": 4}
    losses = sft_runs.losses(out)
    assert min(losses[5], losses[6]) < losses[1]
    assert not read_jsonl(out / "skipped.jsonl")
    asked = {row["video"] for row in read_jsonl(out / "predictions.jsonl")}
    assert {"test_0.png", "test_0.png|test_1.png"} < asked


@pytest.mark.soak
def test_grpo_rewards_points_tracks_and_counts(spatial, tmp_path):
    out = tmp_path / "run"
    rl_runs.train(rl_runs.overrides(spatial, out, "rl.max_completion_length=256", "evaluation.max_new_tokens=320"))
    rows = [row for file in sorted((out / "completions").glob("*.jsonl")) for row in read_jsonl(file)]
    assert rows and {row["task"] for row in rows} <= {"points", "tracks", "count"}
    assert all(0 <= row["rewards"]["task"] <= 1 for row in rows)
