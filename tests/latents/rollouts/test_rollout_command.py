"""`python -m vtg.latents rollout`: long futures of a video by predictors that say that nothing changes, or anything."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vtg.config.clip_settings import ClipsConfig
from vtg.config.encoder_settings import EncoderConfig
from vtg.config.latent_settings import PredictorConfig
from vtg.config.latents_schema import FutureConfig
from vtg.demo.gym_dataset import write_variable_rate
from vtg.demo.world import Event, World
from vtg.latents.__main__ import main
from vtg.latents.encoders.encoder import Encoder
from vtg.latents.latent_run import LatentSettings
from vtg.latents.predictors import make_predictor

WORLD = World(9.0, (Event("red", "circle", 1.5, 4.0, 0.25, 0.25, 0.2),), seed=3)


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """Nine seconds in which a shape comes and goes. Shared: leave it as it is."""
    path = tmp_path_factory.mktemp("long") / "shape.mp4"
    write_variable_rate(path, WORLD, times_ms=np.arange(0, 9000, 125))
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory, qwen_tower) -> dict[str, Path]:
    """Predictors of one second behind two, in four latents."""

    def made(kind: str) -> Path:
        return saved(tmp_path_factory.mktemp(kind), qwen_tower, PredictorConfig(kind=kind, width=16, depth=1, heads=2))

    return {kind: made(kind) for kind in ("regression", "flow")}


def saved(folder: Path, encoder: Encoder, settings: PredictorConfig) -> Path:
    torch.manual_seed(0)
    predictor = make_predictor(settings, dim=encoder.dim)
    if settings.kind == "flow":  # before training, all its futures are the same
        for parameter in predictor.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    state = predictor.state_dict()
    (folder / "best").mkdir()
    save_file({f"predictor.{name}": value for name, value in state.items()}, folder / "best" / "model.safetensors")
    clips, future = ClipsConfig(n_frames=24, seconds=3.0), FutureConfig(context_s=2.0)
    LatentSettings(EncoderConfig(), clips, settings, future, encoder.identity).write(folder / "best")
    return folder


def test_clips_follow_one_another_and_what_stays_as_it_is_is_copied(runs, video, capsys):
    assert main(["rollout", str(runs["regression"]), str(video), "--ahead-s", "2.5", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    # 9 s are two clips of 4.5 s: 10 latents ahead of each.
    assert {name: (scores["latents"][name], scores["clips"][name]) for name in scores["latents"]} == {
        "all": (20, 1),
        "0-1": (8, 1),
        "1-2": (8, 1),
        "2-3": (4, 1),
    }
    assert scores["model"] == scores["copy_last"]
    # Of one clip: how far others are from it is not known.
    assert scores["ratio"]["all"]["l2"] == {"value": 1.0, "low": None, "high": None}


def test_drawn_futures_have_a_crps_of_their_own_and_are_the_same_again(runs, video, capsys):
    words = ["rollout", str(runs["flow"]), str(video), "--ahead-s", "2", "--draws", "2"]
    assert main(words) == 0
    first = capsys.readouterr().out
    assert [line.split()[0] for line in first.splitlines()].count("all") == 2
    assert "crps: how far drawn futures are from what came" in first
    assert main(words) == 0
    assert capsys.readouterr().out == first


def test_a_video_that_ends_before_there_is_a_future_is_left_out_and_others_are_scored(runs, video, tmp_path, capsys):
    write_variable_rate(tmp_path / "short.mp4", WORLD, times_ms=np.arange(0, 1500, 125))
    shutil.copy(video, tmp_path / "shape.mp4")
    assert main(["rollout", str(runs["regression"]), str(tmp_path), "--ahead-s", "2"]) == 1
    said = capsys.readouterr()
    assert "all" in said.out
    assert (
        "short.mp4: its clip of 12 frames" in said.err and "has nothing to predict after a context of 2 s" in said.err
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ahead-s", "0"], "--ahead-s 0.0: must be more than 0"),
        (["--draws", "-1"], "--draws -1: must be at least 0"),
        (
            ["--draws", "2"],
            "is a predictor of one future (predictor.kind = regression); leave it out, or give a run of",
        ),
    ],
)
def test_what_cannot_be_is_refused(runs, video, words, message, capsys):
    assert main(["rollout", str(runs["regression"]), str(video), *words]) == 2
    assert message in capsys.readouterr().err
