"""A format that is added to `FORMATS` is read by every command that takes an annotation file."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from vtg import evaluate, validate
from vtg.annotations.formats import FORMATS, RowFormat
from vtg.annotations.table_cache import read_table
from vtg.errors import SampleError
from vtg.inspect.__main__ import main as inspect_command

LABELS = """video,duration,start,end,sentence
a.mp4,9.5,1,3.5,a man sits down
a.mp4,9.5,7,3,he stands up
a.mp4,,4,6,he waves
"""


def label_rows(path: str) -> Iterator[tuple[int, bytes]]:
    with open(path, newline="", encoding="utf-8") as file:
        labels = csv.DictReader(file)
        if "start" not in (labels.fieldnames or ()):
            raise SampleError("has no column 'start'; name the columns in its first line")
        for label in labels:
            row = {"video": label["video"], "sentence": label["sentence"]}
            row["timestamp"] = [float(label["start"]), float(label["end"])]
            if label["duration"]:
                row["duration"] = float(label["duration"])
            yield labels.line_num, json.dumps(row).encode()


@pytest.fixture
def labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(FORMATS, "labels", RowFormat(detect=lambda path: path.endswith(".csv"), rows=label_rows))
    path = tmp_path / "labels.csv"
    path.write_text(LABELS, encoding="utf-8")
    return str(path)


def test_training_reads_its_good_rows_and_names_the_others(labels):
    table, lost = read_table(labels)
    assert [(sample.query, sample.spans, sample.qid) for sample in table] == [
        ("a man sits down", ((1.0, 3.5),), "labels:2")
    ]
    assert [(entry.problem.line, entry.problem.field) for entry in lost] == [(3, "timestamp"), (4, "duration")]


def test_validate_names_its_lines_and_writes_the_good_rows_as_jsonl(labels, tmp_path, write_mp4, capsys):
    shutil.copy(write_mp4(range(0, 9501, 500)), tmp_path / "a.mp4")
    out = tmp_path / "good.jsonl"
    assert validate.main([labels, "--video-dir", str(tmp_path), "--probe", "--fix", str(out)]) == 1
    printed = capsys.readouterr().out
    assert f"{labels}:3: timestamp: [7, 3] is reversed" in printed
    assert f"{labels}:4: duration: was missing; filled in: the file lasts " in printed
    assert [json.loads(line)["sentence"] for line in out.read_text().splitlines()] == ["a man sits down", "he waves"]
    (reject,) = (tmp_path / "good.rejects.jsonl").read_text().splitlines()
    assert json.loads(reject)["place"] == f"{labels}:3"


def test_inspect_shows_its_columns(labels, capsys):
    assert inspect_command([labels, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["rows"], report["samples"], report["columns"]["duration"]["rows"]) == (3, 1, 2)


def test_evaluate_joins_predictions_to_its_rows(labels, tmp_path, capsys):
    predictions = tmp_path / "predictions.jsonl"
    predictions.write_text('{"video": "a.mp4", "sentence": "a man sits down", "prediction": [[1, 3.5]]}\n')
    assert evaluate.main([str(predictions), "--annotations", labels]) == 0
    assert "100.00" in capsys.readouterr().out


def test_a_file_that_its_reader_refuses_is_one_error(labels, capsys):
    Path(labels).write_text("a.mp4,9.5,1,3.5,a man sits down\n", encoding="utf-8")
    assert validate.main([labels]) == 1
    assert f"{labels}:1: file: has no column 'start'" in capsys.readouterr().out
    table, (lost,) = read_table(labels)
    assert len(table) == 0 and lost.problem.kind == "file-broken"


def test_a_row_that_its_reader_fails_at_ends_the_file_in_one_error_and_keeps_those_before(labels, capsys):
    Path(labels).write_text(LABELS.replace("7,3", "seven,3"), encoding="utf-8")
    assert validate.main([labels]) == 1
    said = f"{labels}:3: file: cannot be read from here on (ValueError: could not convert string to float: 'seven')"
    assert said in capsys.readouterr().out
    table, (lost,) = read_table(labels)
    assert [sample.query for sample in table] == ["a man sits down"] and lost.problem.kind == "file-broken"


def test_a_missing_file_of_any_format_is_wrong_usage(labels, capsys):
    Path(labels).unlink()
    assert validate.main([labels]) == 2
    assert inspect_command([labels]) == 2
    assert capsys.readouterr().err.count(labels) == 2
