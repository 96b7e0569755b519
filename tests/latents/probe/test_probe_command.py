"""`python -m vtg.latents probe`: on videos of the gym's kind, by the tower of the tiny model."""

import json
from pathlib import Path

import pytest
import yaml

from vtg.config.data_settings import GymConfig
from vtg.demo.gym_dataset import ensure_gym
from vtg.latents.__main__ import main
from vtg.report.run_reader import read_run
from vtg.report.score_tables import metric_table

PLAIN = GymConfig(train_videos=6, val_videos=0, test_videos=2, long_videos=0, shortest_s=4, longest_s=6, crowded=False)
# Two frames a second are enough for events of a second and a half.
COARSE = ("clips.n_frames=8", "clips.seconds=4")


@pytest.fixture(scope="module")
def gym(tmp_path_factory) -> Path:
    """Eight videos of about five seconds. Shared: leave it as it is."""
    return ensure_gym(tmp_path_factory.mktemp("probed") / "gym", PLAIN)


def files(gym: Path) -> list[str]:
    return ["--train", str(gym / "train_one.jsonl"), "--test", str(gym / "test_one.jsonl"), "--video-dir", str(gym)]


def test_a_run_is_probed_with_its_own_rows_and_its_report_shows_the_scores(gym, tmp_path, capsys):
    data = {"annotation_file": f"{gym}/train_one.jsonl", "test_file": f"{gym}/test_one.jsonl", "video_dir": str(gym)}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"data": data}))
    (tmp_path / "metrics.json").write_text(json.dumps({"base": {"mIoU": 20.0}, "tuned": {"mIoU": 30.0}}))
    assert main(["probe", str(tmp_path), *COARSE]) == 0
    printed = capsys.readouterr().out
    document = json.loads((tmp_path / "probe.json").read_text())
    assert list(document["columns"]) == ["linear_probe", "nearest_moment", "training_prior", "whole_video"]
    rows = sum(1 for _ in (gym / "test_one.jsonl").open())
    assert all(column["samples"] == rows for column in document["columns"].values())
    assert f"{document['columns']['linear_probe']['mIoU']:.1f}" in printed
    run = read_run(tmp_path)
    assert run.main_metrics == {"mIoU": 30.0}
    table = metric_table(run, {})
    assert table is not None and table.columns[2:] == (
        "linear probe",
        "nearest moment",
        "training prior",
        "whole video",
    )
    assert "by frozen latents" in table.explanation
    # The same rows by name, and what is there is replaced.
    assert main(["probe", *files(gym), "-o", str(tmp_path / "probe.json"), *COARSE]) == 0
    assert json.loads((tmp_path / "probe.json").read_text()) == document


@pytest.mark.parametrize("text", ['{"columns": {"linear_probe": 3}}', "[]", "{"])
def test_a_broken_probe_is_told_in_the_report_and_costs_no_score(tmp_path, text):
    (tmp_path / "metrics.json").write_text(json.dumps({"tuned": {"mIoU": 30.0}}))
    (tmp_path / "probe.json").write_text(text)
    table = metric_table(read_run(tmp_path), {})
    assert table is not None and table.columns == ("tuned",)
    assert table.explanation.endswith("probe.json is not what vtg.latents probe writes.")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "of which rows? Give a run directory, or --train ROWS and --test ROWS"),
        (["--train", "a.jsonl"], "of which rows?"),
        (["run", "--test", "a.jsonl"], "--test beside a run: a run has rows of its own; give one of both"),
        (["gone"], "gone: no run directory with a config.yaml that names its rows"),
        (["--train", "a", "--test", "b", "predictor=flow"], "predictor=flow: no setting of this command"),
        (["--train", "a", "--test", "b", "clips.n_frames=0"], "clips.n_frames = 0: must be at least 1"),
        (["--train", "a", "--test", "b", "-o", "{rows}"], "is there and is no report of vtg.latents probe"),
    ],
)
def test_wrong_usage_is_one_line_before_anything_is_read(gym, capsys, words, told):
    assert main(["probe", *(word.format(rows=gym / "test_one.jsonl") for word in words)]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and told in line


def test_files_without_rows_that_can_be_read_end_it(gym, tmp_path, capsys):
    (tmp_path / "broken.jsonl").write_text("{}\n")
    words = ["--train", str(tmp_path / "broken.jsonl"), "--test", str(gym / "test_one.jsonl"), "--video-dir", str(gym)]
    assert main(["probe", *words, *COARSE]) == 1
    assert "broken.jsonl: no row with a moment could be read" in capsys.readouterr().err.splitlines()[-1]
    assert main(["probe", "--train", "gone.jsonl", "--test", "gone.jsonl"]) == 2
    assert "gone.jsonl" in capsys.readouterr().err.splitlines()[-1]
