"""Trainings of predictors of latents: what they leave, that they resume exactly, and what they refuse."""

import json
import shutil
import signal
import time
from pathlib import Path

import forked
import latent_runs
import pytest
import torch
from joint_runs import launch
from latent_runs import losses, overrides, weights
from rl_runs import cut_back

from vtg.errors import ConfigError
from vtg.latents.future_clips import FutureReader
from vtg.latents.latent_run import load_latent_run
from vtg.report import write_report
from vtg.storage.json_files import read_jsonl
from vtg.training.latents.clip_batches import ClipBatches, StepShape
from vtg.training.latents.clip_dataset import ClipDataset


@pytest.fixture(scope="module")
def finished(demo_dir: Path, tmp_path_factory) -> Path:
    """A run of the flow, which draws noise, with clips that begin anywhere. Shared: leave it as it is."""
    out = tmp_path_factory.mktemp("latents") / "run"
    latent_runs.train(flow(demo_dir, out))
    return out


def flow(demo: Path, out: Path, *more: str) -> list[str]:
    return overrides(demo, out, "predictor=flow", "clips.start=random", *more)


def test_a_run_leaves_errors_by_seconds_ahead_beside_the_baselines(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    names = ("model", "copy_last", "mean", "linear")
    assert list(metrics) == [*names, "ratio", "latents", "clips"]
    assert list(metrics["model"]) == ["all", "0-1", "1-2"]
    for name in names:
        assert all(error >= 0 for horizon in metrics[name].values() for error in horizon.values())
    rows = read_jsonl(finished / "futures.jsonl")
    errors = [error for row in rows for error in row["errors"]["mean"]["l2"]]
    assert len(errors) == metrics["latents"]["all"] and len(rows) == metrics["clips"]["all"] > 1
    assert sum(errors) / len(errors) == pytest.approx(metrics["mean"]["all"]["l2"])
    ratio = metrics["ratio"]["all"]["l2"]
    assert ratio["low"] <= ratio["value"] <= ratio["high"]
    assert ratio["value"] == pytest.approx(metrics["model"]["all"]["l2"] / metrics["copy_last"]["all"]["l2"])


def test_the_report_shows_errors_and_latents_as_colours(finished, tmp_path):
    page = (finished / "report.html").read_text()
    assert "<h2>Futures</h2>" in page and "error / copy-last" in page and "one future drawn" in page
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    shown = json.loads((out / "shown_futures.json").read_text())
    clip = shown["clips"][0]
    assert all(len(pictures) == len(clip["times_s"]) for _, pictures in clip["rows"])
    assert f'src="{clip["rows"][1][1][0]}"' in page
    clip["rows"][1][1][0] = "https://example.org/picture.png"
    (out / "shown_futures.json").write_text(json.dumps(shown))
    page = write_report(out).read_text()
    assert "example.org" not in page and "shown_futures.json: is not what train_latents.py writes" in page


def test_a_checkpoint_names_the_frozen_encoder_and_does_not_hold_it(finished):
    assert all(name.startswith("predictor.") for name in weights(finished / "best"))
    encoder, predictor, reader, settings = load_latent_run(str(finished))
    assert settings.identity == encoder.identity and settings.encoder.path == "tiny"
    assert reader.settings.n_frames == 6
    state = predictor.state_dict()
    assert all(torch.equal(state[name.partition(".")[2]], one) for name, one in weights(finished / "best").items())
    assert not any(parameter.requires_grad for parameter in (*encoder.parameters(), *predictor.parameters()))


def test_a_run_that_goes_on_learns_what_it_would_have_learned(finished, demo_dir, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    cut_back(out, step=2)
    latent_runs.train(flow(demo_dir, out, "trainer.per_device_train_batch_size=1", *TWICE))
    assert losses(out)[:2] == losses(finished)[:2]
    assert losses(out) == pytest.approx(losses(finished), rel=1e-4)
    latent_runs.train(flow(demo_dir, out))  # is done: changes nothing
    shutil.rmtree(out)
    shutil.copytree(finished, out)
    cut_back(out, step=2)
    latent_runs.train(flow(demo_dir, out))
    assert losses(out) == losses(finished)
    assert weights(out / "best").keys() == weights(finished / "best").keys()
    for name, one in weights(out / "best").items():
        assert torch.equal(one, weights(finished / "best")[name]), name
    assert (out / "metrics.json").read_text() == (finished / "metrics.json").read_text()


TWICE = ("trainer.gradient_accumulation_steps=2",)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (TWICE, r"an optimizer step has 4 clips .* began with 2; set them so that their product is 2"),
        (("encoder.frame_size=96",), r"encoder\.frame_size: 64 there, 96 here"),
        (("predictor.width=32",), r"predictor\.width: 16 there, 32 here"),
    ],
)
def test_a_run_does_not_go_on_with_other_steps_or_another_encoder(finished, demo_dir, tmp_path, more, said):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    cut_back(out, step=2)
    with pytest.raises(ConfigError, match=said):
        latent_runs.train(flow(demo_dir, out, *more))


def test_an_encoder_of_other_weights_is_refused_in_one_line(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    config = out / "best" / "config.json"
    saved = json.loads(config.read_text())
    config.write_text(json.dumps(saved | {"identity": "qwen_tower-" + 32 * "0"}))
    with pytest.raises(ConfigError, match=r"best: predicts latents of the encoder qwen_tower-0+, and this"):
        load_latent_run(str(out))
    config.write_text(json.dumps({"model_type": "qwen3_vl"}))
    with pytest.raises(ConfigError, match=r"config\.json: is not the config of a predictor of latents"):
        load_latent_run(str(out))


def test_what_is_trained_of_an_encoder_is_saved_and_its_latents_have_another_name(demo_dir, tmp_path):
    more = ("encoder.trained=[merger]", "data.val_file=null", "trainer.max_steps=2")
    latent_runs.train(overrides(demo_dir, tmp_path / "run", *more))
    own = [name for name in weights(tmp_path / "run" / "best") if name.startswith("encoder.")]
    assert own and all(name.startswith("encoder.model.merger.") for name in own)
    encoder, *_, settings = load_latent_run(str(tmp_path / "run"))
    assert encoder.identity != settings.identity
    moved = dict(encoder.named_parameters())["model.merger.linear_fc1.weight"]
    assert torch.equal(moved, weights(tmp_path / "run" / "best")["encoder.model.merger.linear_fc1.weight"])


def test_a_dry_run_says_what_would_be_trained_and_leaves_nothing(tmp_path):
    done = forked.run("train_latents.py", "dry_run=true", f"output_dir={tmp_path / 'run'}", "trainer.weight_decay=0.5")
    assert done.returncode == 0, done.stderr
    assert "\n  kind: regression\n" in done.stdout and "\nencoder.merger " in done.stdout
    table = [line.split() for line in done.stdout.splitlines() if line.startswith(("0 ", "1 "))]
    assert [row[3:5] for row in table] == [["0.001", "0.5"], ["0.001", "0"]]
    assert not (tmp_path / "run").exists()


def test_two_processes_learn_what_one_does(finished, demo_dir, tmp_path):
    out = tmp_path / "two"
    words = flow(demo_dir, out, "trainer.per_device_train_batch_size=1")
    launch([("latents", words)], processes=2, folder=tmp_path)
    assert losses(out) == pytest.approx(losses(finished), rel=1e-4)
    for name, one in weights(out / "best").items():
        torch.testing.assert_close(one, weights(finished / "best")[name], rtol=1e-3, atol=1e-5)
    for file in ("metrics.json", "futures.jsonl"):
        found, wanted = ((run / file).read_text() for run in (out, finished))
        assert found.count("\n") == wanted.count("\n")
    assert len(read_jsonl(out / "futures.jsonl")) == len(read_jsonl(finished / "futures.jsonl"))


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_goes_on(finished, demo_dir, tmp_path):
    out = tmp_path / "stopped"
    program = forked.Program("train_latents.py", *flow(demo_dir, out))
    deadline = time.monotonic() + 300
    log = out / "train_log.jsonl"
    while time.monotonic() < deadline and not (log.exists() and log.read_text()):
        time.sleep(0.02)
    program.send_signal(signal.SIGINT)
    stopped = program.ended(timeout_s=300)
    assert stopped.returncode in (0, 130), stopped.stderr  # 0: it was at its end by then
    again = forked.run("train_latents.py", *flow(demo_dir, out))
    assert again.returncode == 0, again.stderr
    assert losses(out) == losses(finished)
    assert "model / copy_last" in again.stdout


def test_every_clip_is_trained_once_an_epoch_whatever_the_processes(finished, demo_dir):
    *_, reader, settings = load_latent_run(str(finished))
    found = FutureReader(reader, None, context_s=settings.future.context_s, identity=settings.identity)
    samples = latent_runs.samples(demo_dir)
    dataset = ClipDataset(samples, reader=found, video_dir=str(demo_dir))
    assert 0 < len(dataset) < len(samples)  # several rows are of one video

    def steps(shape: StepShape) -> list[set[int]]:
        each = [list(ClipBatches(dataset, shape, rank=rank, seed=1)) for rank in range(shape.ranks)]
        found = []
        for at in range(0, len(each[0]), shape.accumulation):
            dealt = [index for batches in each for one in batches[at : at + shape.accumulation] for index in one]
            assert len(set(dealt)) == len(dealt)
            found.append(set(dealt))
        return found

    alone = steps(StepShape(2, 1, 1))
    assert sorted(index for step in alone for index in step) == list(range(len(dataset)))
    assert steps(StepShape(1, 1, 2)) == steps(StepShape(1, 2, 1)) == alone
