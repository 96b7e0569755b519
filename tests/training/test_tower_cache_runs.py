"""Runs that keep what a frozen tower makes of clips: they learn and answer what runs without do, and decode nothing."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import rl_runs
from sft_runs import compose, losses, overrides, read

from vtg.errors import ConfigError
from vtg.training.sft.run_sft import train

STEPS = (
    *("trainer.max_steps=2", "trainer.save_steps=1", "trainer.save_total_limit=9", "trainer.warmup_steps=0"),
    *("trainer.eval_strategy=no", "data.val_file=null", "trainer.use_cpu=true", "model.dtype=float32"),
    *("evaluation.shuffled_video_control=false", "evaluation.report_frames=0"),
)


def clips(out: Path) -> Counter[str]:
    """Where training's clips came from."""
    found = Counter[str]()
    for line in (out / "train_log.jsonl").read_text().splitlines():
        found.update({key: int(value) for key, value in json.loads(line).items() if key.startswith("clips/")})
    return found


@pytest.mark.parametrize(
    "batching", [pytest.param("fixed", marks=pytest.mark.slow), pytest.param("packed", marks=pytest.mark.soak)]
)
def test_fine_tuning_is_the_same_with_a_cache_and_a_full_one_decodes_nothing(demo_dir, tmp_path, batching):
    kept = f"video.tower_cache_dir={tmp_path / 'towers'}"
    runs = {"plain": (), "cold": (kept,), "warm": (kept,)}
    for name, more in runs.items():
        train(compose(overrides(demo_dir, tmp_path / name, *STEPS, f"batching={batching}", *more)))
    plain, cold, warm = (tmp_path / name for name in runs)
    assert losses(cold) == pytest.approx(losses(plain), rel=1e-6)
    assert losses(warm) == losses(cold) and len(losses(warm)) == 2
    for answers in ("base_predictions.jsonl", "predictions.jsonl"):
        assert read(warm / answers) == read(cold / answers) == read(plain / answers)
    assert clips(plain)["clips/seen"] == 0 and clips(cold)["clips/decoded"] > 0
    assert clips(warm)["clips/decoded"] == 0 and clips(warm)["clips/seen"] == sum(clips(warm).values()) > 0
    if batching == "fixed":
        return
    # Gone on with after its first step.
    shutil.copytree(warm, tmp_path / "whole")
    rl_runs.cut_back(warm, step=1)
    train(compose(overrides(demo_dir, warm, *STEPS, f"batching={batching}", kept)))
    assert losses(warm) == losses(tmp_path / "whole")
    assert read(warm / "predictions.jsonl") == read(tmp_path / "whole" / "predictions.jsonl")


@pytest.mark.soak
def test_grpo_is_the_same_with_a_cache_and_a_full_one_decodes_nothing(demo_dir, tmp_path):
    kept = f"video.tower_cache_dir={tmp_path / 'towers'}"
    runs = {"plain": (), "cold": (kept,), "warm": (kept,)}
    for name, more in runs.items():
        rl_runs.train(rl_runs.overrides(demo_dir, tmp_path / name, "model.dtype=float32", *more))
    plain, cold, warm = (tmp_path / name for name in runs)
    assert losses(cold) == pytest.approx(losses(plain), rel=1e-5, abs=1e-6)
    assert losses(warm) == losses(cold) and len(losses(warm)) == 2
    written = [
        [row["text"] for step in sorted(out.glob("completions/*.jsonl")) for row in read(step)]
        for out in (plain, cold, warm)
    ]
    assert len(written[0]) == 16
    assert written[0] == written[1] == written[2]
    assert clips(warm)["clips/decoded"] == 0 and clips(warm)["clips/seen"] > 0


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("parts.vision=lora",), "parts.vision trains, and it changes with every step"),
        (("parts.projector=full",), "parts.projector trains"),
        (("augmentation=light",), "augmentation draws other frames every time; set augmentation=none"),
        (("deepspeed=zero3",), "ZeRO-3 runs the tower on all ranks together"),
        (("video.sampling=random",), "video.sampling = 'random' draws other frames"),
    ],
)
def test_what_makes_the_tower_see_something_else_is_refused(demo_dir, tmp_path, more, why):
    with pytest.raises(ConfigError, match=f"video.tower_cache_dir is set, but {why}") as caught:
        compose(overrides(demo_dir, tmp_path / "run", f"video.tower_cache_dir={tmp_path}", *more))
    assert "video.tower_cache_dir=null" in str(caught.value)
