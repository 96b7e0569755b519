"""Published files read where they lie: `data=charades_sta data.root=FOLDER`, and `FORMAT:FILE` in every command."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vtg import convert, evaluate, validate
from vtg.annotations.formats import format_name
from vtg.annotations.sample import resolve_video
from vtg.annotations.table_cache import read_table
from vtg.data.skip_report import SkipReport
from vtg.data.splits import read_split
from vtg.errors import ConfigError

ROOT = Path(__file__).parents[2]
TRAIN = "A1 1.0 3.5##he  sits\nA1 2 99##she stands\nA1 4 3##it flies\nB2 1 2##a door opens\n"


@pytest.fixture
def charades(tmp_path: Path) -> Path:
    """Charades-STA's files, of two videos of ten seconds."""
    (tmp_path / "charades_sta_train.txt").write_text(TRAIN)
    (tmp_path / "charades_sta_test.txt").write_text("B2 1 2##a door opens\n")
    (tmp_path / "Charades_v1_train.csv").write_text("id,actions,length\r\nA1,c001 0 1,9.5\r\nB2,,9.5\r\n")
    return tmp_path


def test_samples_are_those_that_convert_writes_and_dropped_rows_are_problems(charades):
    path = f"charades_sta:{charades}/charades_sta_train.txt"
    assert format_name(path) == "published"
    table, lost = read_table(path)
    assert [(sample.video, sample.query, sample.spans) for sample in table] == [
        ("A1", "he sits", ((1.0, 3.5),)),
        ("A1", "she stands", ((2.0, 9.5),)),
        ("B2", "a door opens", ((1.0, 2.0),)),
    ]
    file = f"{charades}/charades_sta_train.txt"
    assert [sample.place for sample in table] == [f"{file}:1", f"{file}:2", f"{file}:4"]
    (one,) = lost
    assert str(one.problem) == (f"{file}:3: row: A1: timestamp [4, 3] ends before it starts: 'it flies'; it is dropped")
    out = charades / "out.jsonl"
    assert convert.main([file, "-o", str(out), "--max-dropped", "1"]) == 0
    converted, _ = read_table(str(out))
    assert converted.digest() == table.digest()


def test_rows_of_one_line_have_names_of_their_own(tmp_path):
    entry = {"duration": 9.5, "timestamps": [[0, 1], [2, 1], [2, 3]], "sentences": ["a", "b", "c"]}
    (tmp_path / "train.json").write_text(json.dumps({"v_1": entry}))
    table, lost = read_table(f"captions:{tmp_path}/train.json")
    assert [sample.qid for sample in table] == ["train:1", "train:3"] and len(lost) == 1


def test_a_table_is_made_anew_when_the_lengths_beside_it_change(charades):
    path = f"charades_sta:{charades}/charades_sta_train.txt"
    before = read_table(path)[0]
    (charades / "Charades_v1_train.csv").write_text("id,actions,length\r\nA1,c001 0 1,8.25\r\nB2,,9.5\r\n")
    assert (before[0].duration_s, read_table(path)[0][0].duration_s) == (9.5, 8.25)


def test_a_file_of_another_form_is_refused(charades):
    with pytest.raises(ConfigError, match="is not in the format qvhighlights: it is lines such as"):
        read_table(f"qvhighlights:{charades}/charades_sta_train.txt")


def test_a_published_file_that_nobody_named_the_form_of_says_how_it_is_read(charades, tmp_path, capsys):
    path = f"{charades}/charades_sta_train.txt"
    said = f"is in the form charades_sta: name it, charades_sta:{path}, or make rows of it with python -m vtg.convert"
    assert validate.main([path]) == 1
    assert f"{path}:1: file: {said}" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=re.escape(f"; the file {said}")):
        read_split(path, video_dir=None, report=SkipReport(tmp_path / "skipped.jsonl", max_bad_share=0.5))
    # Rows of vtg's own that are all broken are in no other form.
    own = tmp_path / "own.jsonl"
    own.write_text('{"video": "a.mp4", "duration": 9, "timestamp": [5, 2], "sentence": "a man sits"}\n')
    assert validate.main([str(own)]) == 1
    assert "is in the form" not in capsys.readouterr().out


def test_other_commands_read_published_files_too(charades, capsys):
    assert validate.main([f"charades_sta:{charades}/charades_sta_train.txt"]) == 1
    assert "charades_sta_train.txt:3: row: A1: timestamp [4, 3] ends before it starts" in capsys.readouterr().out


def test_a_video_named_by_its_id_is_found_with_any_ending(tmp_path):
    for name in ("A1.webm", "v_x.1.mkv"):
        (tmp_path / name).touch()
    folder = str(tmp_path)
    assert resolve_video("A1", folder) == f"{folder}/A1.webm"
    assert resolve_video("v_x.1", folder) == f"{folder}/v_x.1.mkv"
    assert resolve_video("A1.mp4", folder) == f"{folder}/A1.mp4"  # another file than the one named is never taken
    assert resolve_video("C3", folder) == f"{folder}/C3"
    assert resolve_video(f"{folder}/A1", None) == f"{folder}/A1.webm"


@pytest.mark.slow
def test_a_published_set_trains_by_its_name(charades, write_mp4):
    (charades / "videos").mkdir()
    for name in ("A1.mp4", "B2.mp4"):
        shutil.copy(write_mp4(range(0, 9501, 500)), charades / "videos" / name)
    out = charades / "run"
    words = [f"data.root={charades}", "data.val_share=0", "data.max_bad_share=0.5", f"output_dir={out}"]
    words += [
        "trainer.max_steps=1",
        "trainer.per_device_train_batch_size=2",
        "evaluation.max_new_tokens=8",
        "trainer.logging_steps=1",
    ]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train_sft.py"), "data=charades_sta", *words],
        capture_output=True,
        text=True,
        timeout=400,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert any("loss" in json.loads(line) for line in (out / "train_log.jsonl").read_text().splitlines())
    skipped = (out / "skipped.jsonl").read_text()
    assert "charades_sta_train.txt:3" in skipped and "ends before it starts" in skipped
    predictions = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert {row["sentence"] for row in predictions} == {"a door opens"}


@pytest.mark.parametrize("content", ["", "[]", "{}", "\ufeff"])
def test_a_published_file_without_rows_is_told_in_one_line(tmp_path, capsys, content):
    empty, predictions = tmp_path / "empty.jsonl", tmp_path / "p.jsonl"
    empty.write_text(content, encoding="utf-8")
    predictions.write_text('{"qid": "a", "prediction": [[0, 1]]}\n')
    assert validate.main([f"qvhighlights:{empty}"]) == 2
    assert evaluate.main([str(predictions), "--annotations", f"qvhighlights:{empty}"]) == 1
    checked, scored = capsys.readouterr().err.splitlines()
    assert checked.startswith(f"vtg.validate: error: {empty} holds no entry that can be read: ")
    assert scored.startswith(f"vtg.evaluate: {empty} holds no entry that can be read: ")
