"""A data set of one's own: a shipped file to fill in, and errors that say how."""

import json
import shutil
from pathlib import Path

import pytest
from forked import ROOT, run

import vtg
from vtg.config.own_data import unknown_choice
from vtg.entry import conf_dir

TEMPLATE = conf_dir() / "data" / "my_dataset.yaml"
OPEN_LINE = (
    TEMPLATE.read_text(encoding="utf-8")
    .splitlines()
    .index(
        next(line for line in TEMPLATE.read_text(encoding="utf-8").splitlines() if line.startswith("annotation_file:"))
    )
)


@pytest.mark.parametrize("program", ["train_sft.py", "train_rl.py"])
def test_the_shipped_file_says_which_of_its_lines_to_fill_in(program):
    done = run(program, "data=my_dataset")
    assert done.stderr == (
        f"error: data.annotation_file is not set: fill in line {OPEN_LINE + 1} of {TEMPLATE}, or give "
        "data.annotation_file=FILE\n"
    )
    assert (done.returncode, done.stdout) == (2, "")


def test_the_shipped_file_works_once_it_is_filled_in_and_is_read_before_the_shipped_one(tmp_path):
    rows = tmp_path / "train.jsonl"
    row = {"video": "a.mp4", "duration": 30.0, "timestamp": [2.0, 5.5], "sentence": "a man sits down"}
    rows.write_text(json.dumps(row) + "\n", encoding="utf-8")
    own = tmp_path / "conf" / "data" / "my_dataset.yaml"
    own.parent.mkdir(parents=True)
    shutil.copy(TEMPLATE, own)
    left_open = run("train_sft.py", "--config-dir", str(tmp_path / "conf"), "data=my_dataset")
    assert f"fill in line {OPEN_LINE + 1} of {own}" in left_open.stderr
    own.write_text(TEMPLATE.read_text(encoding="utf-8").replace("annotation_file: null", f"annotation_file: {rows}"))
    for folder in (["--config-dir", str(tmp_path / "conf")], [f"--config-dir={tmp_path / 'conf'}"]):
        done = run("train_sft.py", *folder, "data=my_dataset", "--cfg", "job")
        assert (done.returncode, done.stderr) == (0, "")
        assert f"annotation_file: {rows}\n" in done.stdout and "val_share: 0.1\n" in done.stdout


def test_a_folder_of_configs_that_is_not_there_is_named():
    done = run("train_sft.py", "--config-dir", "no_such_folder")
    assert done.stderr == f"error: --config-dir no_such_folder: no such folder (looked in {ROOT}); check the path\n"
    assert done.returncode == 2


def test_an_unknown_data_set_says_how_to_make_it():
    done = run("train_sft.py", "data=my_datasett")
    assert done.stderr == (
        "error: data=my_datasett: there is no such choice; did you mean data=my_dataset? choices of data: "
        "activitynet_captions, charades_sta, demo, demo_rl, didemo, gym, jsonl, kinetics, lerobot, mixture, molmo2, "
        "molmo2_pretraining, molmo2_sft, my_dataset, pixmo, qvhighlights, real, tacos, time_r1, timelens2_93k, "
        f"timelens_100k, webvid; to make one, copy {TEMPLATE} to {TEMPLATE.with_name('my_datasett.yaml')}, "
        "or to FOLDER/data/my_datasett.yaml and add --config-dir FOLDER, and fill it in\n"
    )
    assert done.returncode == 2


def test_in_site_packages_nothing_is_to_be_edited():
    assert vtg.__file__ is not None
    shipped = Path(vtg.__file__).parent / "conf"
    assert unknown_choice("data", "mine", ["demo", "jsonl"], shipped=shipped) == (
        "data=mine: there is no such choice; choices of data: demo, jsonl; to make one, copy "
        f"{shipped}/data/my_dataset.yaml to FOLDER/data/mine.yaml, fill it in there and add --config-dir FOLDER"
    )
