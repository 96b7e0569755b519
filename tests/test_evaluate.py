import json
import subprocess
import sys
from pathlib import Path

import pytest

from vtg.evaluate import main

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


def annotation(qid, start=0.0, end=5.0):
    return {"video": "a.mp4", "duration": 10.0, "timestamp": [start, end], "sentence": "a man sits", "qid": qid}


def write(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return str(path)


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def truth(tmp_path):
    return write(tmp_path / "gt.jsonl", [annotation(qid) for qid in ("a", "b", 3, "d")])


def test_rows_are_scored_against_their_own_timestamp_without_annotations(tmp_path, capsys):
    rows = [annotation("a") | {"prediction": [[0.0, 5.0]], "status": "ok", "text": "0 to 5"}]
    code, out, err = run(capsys, write(tmp_path / "p.jsonl", rows))
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("preset vtg: R1@t counts IoU >= t")
    assert out.splitlines()[1].split() == ["R1@0.3", "R1@0.5", "R1@0.7", "mIoU", "parse_failures", "missing", "samples"]
    assert out.splitlines()[2].split() == ["100.00", "100.00", "100.00", "100.00", "0.00", "0", "1"]


def test_missing_extra_and_duplicate_qids_are_named_and_counted(tmp_path, truth, capsys):
    rows = [
        {"qid": "a", "prediction": [[0.0, 5.0]]},
        {"qid": "3", "prediction": [[0.0, 2.5]]},
        {"qid": "a", "prediction": [[7.0, 9.0]]},
        {"qid": "x", "prediction": [[7.0, 9.0]]},
    ]
    code, out, err = run(capsys, write(tmp_path / "p.jsonl", rows), "--annotations", truth, "--json")
    document = json.loads(out)
    assert code == 0
    assert document["mIoU"] == pytest.approx(150 / 4)
    assert (document["samples"], document["missing"], document["R1@0.5"]) == (4, 2, 50.0)
    assert document["findings"] == {
        "duplicate_predictions": {"count": 1, "qids": ["a"]},
        "missing": {"count": 2, "qids": ["b", "d"]},
        "extra": {"count": 1, "qids": ["x"]},
    }
    assert "2 samples have no prediction and score 0: b, d" in err
    assert "1 predictions belong to no sample and are left out: x" in err
    assert "1 predictions repeat a qid; the first of each counts: a" in err


def test_text_is_parsed_with_the_form_that_is_named(tmp_path, capsys):
    rows = [annotation("a") | {"text": "<0><49>"}, annotation("b") | {"text": "no idea"}]
    path = write(tmp_path / "p.jsonl", rows)
    code, out, _ = run(capsys, path, "--answer", "tokens", "--num-bins", "100", "--json")
    document = json.loads(out)
    assert code == 0
    assert (document["mIoU"], document["parse_failures"]) == (50.0, 50.0)
    assert document["statuses"] == {"ok": 1, "malformed": 1}
    with pytest.raises(SystemExit, match="2"):
        run(capsys, path)
    assert f"{path}:1: has text and no prediction; name its form: --answer" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run(capsys, path, "--answer", "bins", "--num-bins", "1")
    assert "task.num_bins = 1: must be an integer from 2" in capsys.readouterr().err


def test_the_json_document_goes_to_a_file_and_the_table_stays_on_stdout(tmp_path, capsys):
    rows = [annotation("a") | {"prediction": [[0.0, 5.0]]}]
    target = tmp_path / "out" / "metrics.json"
    code, out, _ = run(capsys, write(tmp_path / "p.jsonl", rows), "--json", target, "--preset", "timer1")
    assert code == 0 and "preset timer1" in out
    document = json.loads(target.read_text())
    assert (document["R1@0.7"], document["preset"], document["avg"]) == (100.0, "timer1", 100.0)
    assert list(target.parent.iterdir()) == [target]


def test_an_array_null_nan_and_a_flat_span_are_read(tmp_path, capsys):
    path = tmp_path / "p.json"
    rows = [annotation("a"), annotation("b"), annotation("c"), annotation("d"), annotation("e")]
    for row, prediction in zip(rows, ([0.0, 5.0], None, [[None, 5.0]], [[float("nan"), 5.0]], []), strict=True):
        row["prediction"] = prediction
    path.write_text(json.dumps(rows, indent=2))
    code, out, _ = run(capsys, path, "--json")
    assert code == 0
    assert (json.loads(out)["mIoU"], json.loads(out)["parse_failures"]) == (20.0, 80.0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "p.jsonl: holds no predictions"),
        ("[]", "p.jsonl: holds no predictions"),
        ('{"qid": 1', "p.jsonl:1: is not JSON"),
        ("[1]", "p.jsonl[0]: '1' is not an object"),
        ("\n7", "p.jsonl:2: '7' is not an object"),
        ('{"qid": "a", "timestamp": [0, 5]}', "p.jsonl:1: has neither prediction"),
        (
            '{"qid": "a", "prediction": [[0, 5]]}',
            "p.jsonl:1: timestamp: is missing; add it to the row, or give --annot",
        ),
        ('{"timestamp": [0, 5], "prediction": [[0, "5"]]}', "p.jsonl:1: prediction: [[0, '5']] must be [[start, end]"),
        ('{"timestamp": [0, 5], "prediction": [[0, true]]}', "must be [[start, end], ...] in seconds, or null"),
        ('{"timestamp": [0, 5], "prediction": 5}', "p.jsonl:1: prediction: 5 must be"),
        ('{"timestamp": [0, 5], "prediction": [], "status": []}', "p.jsonl:1: status: is [], not one of ok, malformed"),
    ],
)
def test_a_broken_file_ends_with_one_line_and_exit_code_one(tmp_path, capsys, content, said):
    path = tmp_path / "p.jsonl"
    path.write_text(content)
    code, out, err = run(capsys, path)
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert said in err


def test_rows_that_cannot_be_joined_are_refused(tmp_path, truth, capsys):
    for rows, said in (
        ([{"prediction": []}], "qid: is None; rows are joined by qid"),
        ([{"qid": "z", "prediction": []}], "no qid of the predictions (first: 'z') is in"),
    ):
        code, _, err = run(capsys, write(tmp_path / "p.jsonl", rows), "--annotations", truth)
        assert code == 1
        assert said in err


def test_a_huge_integer_is_a_prediction_far_outside(tmp_path, capsys):
    path = tmp_path / "p.jsonl"
    path.write_text('{"timestamp": [0, 5], "prediction": [[0, 1' + "0" * 6000 + "]]}")
    assert run(capsys, path)[0] == 0


def test_a_file_that_is_not_there_ends_with_one_line_and_exit_code_two(tmp_path, truth, capsys):
    for arguments in ([tmp_path / "no.jsonl"], [truth, "--annotations", tmp_path / "no.jsonl"]):
        code, _, err = run(capsys, *arguments)
        assert code == 2
        assert err == f"vtg.evaluate: cannot open {tmp_path / 'no.jsonl'}: No such file or directory\n"


def test_unreadable_annotation_rows_are_counted(tmp_path, capsys):
    truth = write(tmp_path / "gt.jsonl", [annotation("a"), annotation("b", 5.0, 2.0), annotation("a")])
    predictions = write(tmp_path / "p.jsonl", [{"qid": "a", "prediction": [[0.0, 5.0]]}])
    code, out, err = run(capsys, predictions, "--annotations", truth, "--json")
    assert code == 0
    findings = json.loads(out)["findings"]
    assert findings["annotations_left_out"]["count"] == 1
    assert findings["duplicate_annotations"] == {"count": 1, "qids": ["a"]}
    assert "gt.jsonl:2" in err


def test_the_command_reproduces_the_official_time_r1_scores(tmp_path):
    source, expected = "annotations/timer1__train_2k5.json", "predictions/official/timer1_eval__train_2k5_pred.json"
    if not (SHARED / source).exists():
        pytest.skip("needs the shared data")
    rows = [row | {"prediction": [row["pred"]]} for row in json.loads((SHARED / source).read_text())]
    predictions = write(tmp_path / "p.jsonl", rows)
    command = [sys.executable, "-m", "vtg.evaluate", predictions, "--preset", "timer1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    scores, document = json.loads((SHARED / expected).read_text())["scores"], json.loads(done.stdout)
    assert document["mIoU"] == scores["mIoU"]
    assert [document[f"R1@{t}"] for t in (0.3, 0.5, 0.7)] == pytest.approx([scores[t] for t in ("0.3", "0.5", "0.7")])
    assert (document["samples"], document["missing"]) == (2500, 0)
