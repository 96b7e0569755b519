import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from commands import called, write

from vtg.evaluate import main

run = partial(called, main)
SHARED = Path(__file__).parents[1].parent / "shared" / "data"


def annotation(qid, start=0.0, end=5.0):
    return {"video": "a.mp4", "duration": 10.0, "timestamp": [start, end], "sentence": "a man sits", "qid": qid}


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
    assert "1 predictions repeat a qid or a question; the first of each counts: a" in err


def test_rows_of_one_line_are_joined_by_what_they_ask(tmp_path, capsys):
    asked = [
        {"video": "a.mp4", "duration": 10.0, "timestamp": [at, at + 1.0], "sentence": f"event {at}"} for at in range(4)
    ]
    for truth in (asked, asked[1:]):  # a row was removed since: the others are still those that were predicted
        path = tmp_path / "gt.json"
        path.write_text(json.dumps(truth))
        rows = [
            row | {"qid": "gt:1" if at == 1 else f"gt:1[{at}]", "prediction": [row["timestamp"]]}
            for at, row in enumerate(asked, 1)
        ]
        code, out, _ = run(capsys, write(tmp_path / "p.jsonl", rows), "--annotations", str(path), "--json")
        document = json.loads(out)
        assert (code, document["mIoU"], document["samples"]) == (0, 100.0, len(truth))
        assert "duplicate_annotations" not in document["findings"]


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


def test_rows_without_a_moment_are_scored_as_sets(tmp_path, capsys):
    none = [annotation(qid) | {"timestamp": []} for qid in ("n", "f", "m")]
    two = annotation("t") | {"timestamp": [[0.0, 2.0], [3.0, 5.0]]}
    truth = write(tmp_path / "gt.jsonl", [*none, two])
    texts = ["There is no such moment.", "1.0 to 2.0 seconds", "who knows", "0.0 to 2.0 seconds, 3.0 to 5.0 seconds"]
    path = write(tmp_path / "p.jsonl", [row | {"text": text} for row, text in zip([*none, two], texts, strict=True)])
    document = {}
    for more in ([], ["--annotations", truth]):
        code, out, err = run(capsys, path, "--answer", "seconds", "--json", *more)
        assert (code, err) == (0, "")
        document = json.loads(out)
        assert [document[name] for name in ("mIoU", "set_mIoU", "F1@0.7", "count_accuracy")] == [50.0] * 4
        assert (document["none_recall"], document["none_precision"]) == (pytest.approx(100 / 3), 100.0)
        assert document["statuses"] == {"none": 1, "ok": 2, "malformed": 1}
    # By the rules of other presets, which read the same answers.
    code, out, _ = run(capsys, path, "--answer", "seconds", "--statistics", "--json")
    report = json.loads(out)
    assert code == 0 and report["mIoU"] == 50.0
    assert report["statistics"]["sets"]["none_recall"] == pytest.approx(100 / 3)
    code, _, err = run(capsys, path, "--answer", "seconds", "--preset", "moment_detr")
    assert code == 1 and "has no true window; leave such rows out of the ground truth" in err
    # Predictions of a run: an empty one with the status of a failure is no "none".
    rows = [none[0] | {"prediction": [], "status": "none"}, none[1] | {"prediction": [], "status": "malformed"}]
    code, out, _ = run(capsys, write(tmp_path / "r.jsonl", rows), "--statistics", "--json")
    assert json.loads(out)["statistics"]["sets"]["none_recall"] == 50.0


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
        (
            '{"qid": "a", "timestamp": [0, 5]}',
            "(the raw answer); give the predictions.jsonl of a run, or of vtg.predict",
        ),
        (
            '{"timestamp": [0, 5], "pred_relevant_windows": [[0, 5, 1]]}',
            "p.jsonl:1: has neither prediction ([[start, end], ...] in seconds) nor text (the raw answer); rename "
            "'pred_relevant_windows', which this row has",
        ),
        (
            '{"qid": "a", "prediction": [[0, 5]]}',
            "p.jsonl:1: timestamp: is missing; add it to the row, or give --annot",
        ),
        ('{"timestamp": [0, 5], "prediction": [[0, "5"]]}', "p.jsonl:1: prediction: [[0, '5']] must be [[start, end]"),
        ('{"timestamp": [0, 5], "prediction": [[0, true]]}', "must be [[start, end], ...] in seconds, or null"),
        ('{"timestamp": [0, 5], "prediction": 5}', "p.jsonl:1: prediction: 5 must be"),
        ('{"timestamp": [0, 5], "prediction": [], "status": []}', "p.jsonl:1: status: is [], not one of ok, none, ma"),
        ('{"timestamp": [0, 5], "prediction": [], "status": "OK"}', "p.jsonl:1: status: is 'OK', not one of ok, none"),
        ('{"timestamp": [5, 2], "prediction": [[2, 5]]}', "p.jsonl:1: timestamp: [5, 2] is no moment: it must start"),
        ('{"timestamp": [NaN, 2], "prediction": [[2, 5]]}', "p.jsonl:1: timestamp: [nan, 2] is no moment"),
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
        ([{"prediction": []}], "qid: is None, and video and sentence are missing; rows are joined by them"),
        ([{"qid": "z", "prediction": []}], "no prediction (first: 'z') is of a row of"),
    ):
        code, _, err = run(capsys, write(tmp_path / "p.jsonl", rows), "--annotations", truth)
        assert code == 1
        assert said in err


def unnamed(number, **changes):
    row = annotation(None, number, number + 2.0) | {"sentence": f"event {number}"} | changes
    del row["qid"]
    return row


def predicted(rows):
    """As `vtg.predict` writes them: all keys, and a qid after the line where the row has none."""
    named = [{"qid": f"gt:{line}"} | row for line, row in enumerate(rows, 1)]
    return [row | {"prediction": [row["timestamp"]], "status": "ok"} for row in named]


def test_rows_without_qid_are_joined_by_what_was_asked_after_a_line_is_removed(tmp_path, capsys):
    asked = [unnamed(0), unnamed(1), unnamed(1), unnamed(2, video_start=1.0, video_end=11.0), unnamed(2)]
    asked[2]["timestamp"] = [6.0, 7.0]  # the same question again: the second prediction is its
    predictions = write(tmp_path / "p.jsonl", predicted(asked))
    for kept in (
        asked,
        asked[1:],
        [asked[4], asked[3], asked[1], asked[2]],
        [row | {"qid": f"q{at}"} for at, row in enumerate(asked)],
    ):
        truth = write(tmp_path / "gt.jsonl", kept)
        code, out, err = run(capsys, predictions, "--annotations", truth, "--json")
        assert code == 0, err
        document = json.loads(out)
        assert (document["mIoU"], document["samples"]) == (100.0, len(kept))
        assert document["missing"] == 0
        extra = len(asked) - len(kept)
        assert document["findings"].get("extra", {"count": 0})["count"] == extra
        assert (f"{extra} predictions belong to no sample and are left out" in err) == bool(extra)


def test_predictions_for_other_questions_are_refused_and_named(tmp_path, truth, capsys):
    rows = predicted([annotation("a"), annotation("b"), annotation(3)])
    for change, said in (
        ({"sentence": "a man stands"}, "sentence 'a man stands', not 'a man sits'"),
        ({"video": "b.mp4"}, "video 'b.mp4', not 'a.mp4'"),
        ({"video_start": 3.0, "video_end": 13.0}, "video_start 3.0, not None"),
    ):
        path = write(tmp_path / "p.jsonl", [rows[0] | {"video": "videos/a.mp4"}, rows[1] | change, rows[2] | change])
        code, out, err = run(capsys, path, "--annotations", truth)
        assert (code, out) == (1, "")
        assert f"2 predictions answer other questions than the rows of {truth} with their qids: " in err
        assert f"p.jsonl:2 (qid 'b'): {said}; " in err and "give the annotations that were predicted on" in err


def test_an_edited_sentence_without_qid_is_refused(tmp_path, capsys):
    asked = [unnamed(0), unnamed(1), unnamed(2)]
    predictions = write(tmp_path / "p.jsonl", predicted(asked))
    truth = write(tmp_path / "gt.jsonl", [asked[0], asked[1] | {"sentence": "another"}, asked[2]])
    code, out, err = run(capsys, predictions, "--annotations", truth)
    assert (code, out) == (1, "")
    assert f"1 rows of {truth} have no prediction, and 1 predictions are of no row of it" in err
    assert f"{truth}:2 asks 'another', {predictions}:2 answers 'event 1'" in err


def test_a_line_number_alone_joins_nothing(tmp_path, capsys):
    predictions = write(tmp_path / "p.jsonl", [{"qid": "gt:1", "prediction": [[0.0, 2.0]]}])
    code, _, err = run(capsys, predictions, "--annotations", write(tmp_path / "gt.jsonl", [unnamed(0)]))
    assert code == 1 and "no prediction (first: 'gt:1') is of a row of" in err


def test_files_that_were_put_together_count_each_row_once(tmp_path, capsys):
    rows = [annotation("a") | {"prediction": [[0.0, 5.0]]}, annotation("b") | {"prediction": [[7.0, 9.0]]}]
    code, out, err = run(capsys, write(tmp_path / "p.jsonl", [*rows, rows[0]]), "--json")
    assert (code, json.loads(out)["samples"], json.loads(out)["mIoU"]) == (0, 2, 50.0)
    assert "1 predictions repeat a qid or a question; the first of each counts: a" in err


def test_options_that_would_be_ignored_and_files_that_would_be_lost_are_refused(tmp_path, truth, capsys):
    path = write(tmp_path / "p.jsonl", [annotation("a") | {"prediction": [[0.0, 5.0]]}])
    for words, said in (
        (["--answer", "bins"], f"--answer bins: no row of {path} has text alone; leave it out"),
        (["--num-bins", "50"], "--num-bins 50: only answers in bins or tokens have it"),
        (["--json", truth], f"--json {truth}: there is a file that is no report of vtg.evaluate; name another"),
    ):
        with pytest.raises(SystemExit, match="2"):
            run(capsys, path, *words)
        assert said in capsys.readouterr().err
    assert run(capsys, path, "--json", "/proc/no/report.json")[0] == 2
    for _ in range(2):
        assert run(capsys, path, "--json", tmp_path / "report.json")[0] == 0


def test_predictions_of_other_projects_end_in_one_line(tmp_path, capsys):
    if not (SHARED / "predictions").is_dir():
        pytest.skip("needs the shared data")
    truth = write(tmp_path / "gt.jsonl", [annotation("a")])
    for path in sorted((SHARED / "predictions").rglob("*.json*")):
        for words in ([], ["--annotations", truth]):
            code, out, err = run(capsys, path, *words)
            assert (code, out, len(err.splitlines())) == (1, "", 1), path


def test_annotations_without_a_usable_row_are_told(tmp_path, capsys):
    predictions = write(tmp_path / "p.jsonl", [{"qid": "a", "prediction": []}])
    (tmp_path / "empty.jsonl").touch()
    code, _, err = run(capsys, predictions, "--annotations", tmp_path / "empty.jsonl")
    assert code == 1 and "empty.jsonl: no usable row (" in err and "holds no rows" in err


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


def test_the_report_says_what_the_model_was_shown_where_that_is_known(tmp_path, capsys):
    file = write(tmp_path / "predictions.jsonl", [{"qid": "a", "timestamp": [1, 2], "prediction": [[1, 2]]}])
    assert main([file, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["input"] is None
    (tmp_path / "input.json").write_text('{"fps": 4.0, "max_frames": 64, "prompts": ["When?"]}')
    for words in ([], ["--preset", "time_r1"], ["--statistics"]):
        assert main([file, "--json", *words]) == 0
        assert json.loads(capsys.readouterr().out)["input"]["fps"] == 4.0
    (tmp_path / "input.json").write_text('{"fps": ')  # cut off: the scores do not depend on it
    assert main([file, "--json"]) == 0


@pytest.mark.parametrize(("form", "begin", "between"), [("", "", "\n"), ("", "[", ",\n"), ("rows:", "", "\n")])
def test_ground_truth_that_was_cut_off_is_not_scored_against(tmp_path, capsys, form, begin, between):
    rows = [annotation(qid) for qid in "abc"]
    path = tmp_path / "gt.jsonl"
    path.write_text(begin + between.join(map(json.dumps, rows))[:-20])
    predictions = write(tmp_path / "p.jsonl", [{"qid": row["qid"], "prediction": [[0.0, 5.0]]} for row in rows])
    code, out, err = run(capsys, predictions, "--annotations", f"{form}{path}")
    assert (code, out) == (1, "")
    assert err.startswith(f"vtg.evaluate: {path}:3: ") and "cut off" in err
    # A bad row among others is left out, and told.
    path.write_text("\n".join(['{"video": "a', *map(json.dumps, rows)]))
    assert run(capsys, predictions, "--annotations", f"{form}{path}")[0] == 0
