"""Predictions in each benchmark's form of submission, and back."""

import json
import math
from pathlib import Path

import pytest

from vtg import convert
from vtg.annotations.conversion.submissions import SUBMISSIONS


def predictions(path: Path, *rows: dict) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


ONE = {"video": "d/v_a.mp4", "duration": 30.0, "timestamp": [1, 2], "sentence": "he sits", "qid": 7}
ONE |= {"prediction": [[5.0, 9.5], [1.0, 2.0]], "text": "5 - 9.5", "status": "ok"}
NONE = ONE | {"qid": 8, "sentence": "she stands", "prediction": [], "text": "?"}
EGO = {"clip_uid": "c", "annotation_uid": "u", "query_idx": 3}


def submitted(name: str, *rows: dict, folder: Path) -> str:
    source, out = predictions(folder / "p.jsonl", *rows), folder / "out.json"
    assert convert.main(["--to", name, source, "-o", str(out)]) == 0
    return out.read_text()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "action_detection",
            {
                "version": "VERSION 1.3",
                "results": {
                    "a": [
                        {"label": "he sits", "score": 1.0, "segment": [5.0, 9.5]},
                        {"label": "he sits", "score": 0.5, "segment": [1.0, 2.0]},
                    ]
                },
                "external_data": {"used": False, "details": ""},
            },
        ),
        (
            "ego4d_nlq",
            {
                "version": "1.0",
                "challenge": "ego4d_nlq_challenge",
                "results": [
                    EGO | {"predicted_times": [[5.0, 9.5], [1.0, 2.0]]},
                    EGO | {"predicted_times": [[0.0, 0.0]]},
                ],
            },
        ),
        (
            "timelens",
            {
                "v_a>>>he sits>>>[1, 2]": {"timestamps": [[5.0, 9.5], [1.0, 2.0]], "answers": "5 - 9.5"},
                "v_a>>>she stands>>>[1, 2]": {"timestamps": [], "answers": "?"},
            },
        ),
        (
            "timechat",
            {
                "7": {"timestamp": [[5.0, 9.5], [1.0, 2.0]], "query": "he sits", "vid": "v_a.mp4"},
                "8": {"timestamp": [], "query": "she stands", "vid": "v_a.mp4"},
            },
        ),
        ("next_gqa", {"7": [5.0, 9.5], "8": [0.0, 0.0]}),
        (
            "hirest",
            {"he sits": {"v_a.mp4": {"bounds": [5.0, 9.5]}}, "she stands": {"v_a.mp4": {"bounds": [0.0, 0.0]}}},
        ),
    ],
)
def test_a_form_of_submission_is_that_of_the_evaluator(name, expected, tmp_path):
    assert json.loads(submitted(name, ONE | EGO, NONE | EGO, folder=tmp_path)) == expected


def test_windows_of_qvhighlights_have_scores_that_keep_their_order(tmp_path, capsys):
    lines = submitted("qvhighlights", ONE, NONE, folder=tmp_path).splitlines()
    first, second = map(json.loads, lines)
    assert first == {"qid": 7, "query": "he sits", "vid": "v_a", "pred_relevant_windows": [[5, 9.5, 1], [1, 2, 0.5]]}
    assert second["pred_relevant_windows"] == [[0, 0, 0]]  # an empty list ends the official evaluator
    assert "wrote 2 predictions to " in (printed := capsys.readouterr().out) and "1 without an answer" in printed


def test_didemo_ranks_all_pieces_by_their_overlap_with_the_answer(tmp_path):
    (ranked,) = json.loads(submitted("didemo", ONE, folder=tmp_path))
    assert ranked[0] == [1, 1] and len(ranked) == len({tuple(piece) for piece in ranked}) == 21


def test_truth_that_is_submitted_reads_back_as_the_truth(tmp_path):
    truth = [
        {"query_id": at, "video_id": f"v{at}", "duration": 90.5, "query": f"q {at}", "gt": [[at, at + 1.5], [40, 50]]}
        for at in range(20)
    ]
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    rows = tmp_path / "rows.jsonl"
    assert convert.main([str(tmp_path / "gt.json"), "-o", str(rows)]) == 0
    asked = [json.loads(line) for line in rows.read_text().splitlines()]
    answers = [row | {"prediction": row["timestamp"]} for row in asked]
    back = json.loads(submitted("vue_tr", *answers, folder=tmp_path))
    assert [(row["query_id"], row["video_id"], row["answer"]) for row in back] == [
        (row["query_id"], row["video_id"], row["gt"]) for row in truth
    ]


@pytest.mark.parametrize("name", [name for name, form in SUBMISSIONS.items() if form.needs])
def test_a_row_without_what_the_form_needs_is_named(name, tmp_path, capsys):
    source = predictions(tmp_path / "p.jsonl", {"prediction": [[1, 2]]})
    assert convert.main(["--to", name, source, "-o", str(tmp_path / "o.json")]) == 1
    key = SUBMISSIONS[name].needs[0]
    assert f"{source}:1: {key}: is missing, which " in capsys.readouterr().err
    assert not (tmp_path / "o.json").exists()


def test_a_row_without_a_prediction_is_named(tmp_path, capsys):
    source = predictions(tmp_path / "p.jsonl", ONE, {key: ONE[key] for key in ONE if key != "prediction"})
    assert convert.main(["--to", "timechat", source, "-o", str(tmp_path / "o.json")]) == 1
    assert f"{source}:2: prediction: is missing; give the predictions.jsonl of a run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("qvhighlights", "'7'"),
        ("vue_tr", "'7'"),
        ("timechat", "'7'"),
        ("next_gqa", "'7'"),
        ("timelens", "'v_a>>>he sits>>>[1, 2]'"),
        ("hirest", "('he sits', 'v_a.mp4')"),
    ],
)
def test_two_answers_where_the_form_takes_one_are_named(name, key, tmp_path, capsys):
    source = predictions(tmp_path / "p.jsonl", ONE, NONE, ONE | {"prediction": [[3.0, 4.0]]})
    assert convert.main(["--to", name, source, "-o", str(tmp_path / "o.json")]) == 1
    assert f"{source}:3: {key} is answered at {source}:1 already, and " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"prediction": [[math.nan, 1.0]]}, "prediction: [[nan, 1.0]] is not finite; correct it, or give null"),
        ({"prediction": [1.0, math.inf]}, "prediction: [1.0, inf] is not finite; correct it, or give null"),
        ({"duration": math.inf}, "duration: is inf, which JSON does not allow; give a finite number"),
    ],
)
def test_a_number_that_json_does_not_allow_is_named(wrong, told, tmp_path, capsys):
    source, out = predictions(tmp_path / "p.jsonl", ONE, NONE | wrong), tmp_path / "o.json"
    assert convert.main(["--to", "vue_tr", source, "-o", str(out)]) == 1
    assert f"{source}:2: {told}" in capsys.readouterr().err
    assert not out.exists()


def test_scores_that_json_does_not_allow_give_way_to_the_order(tmp_path):
    made = submitted("qvhighlights", NONE, ONE | {"scores": [math.nan, 0.5]}, folder=tmp_path).splitlines()
    assert json.loads(made[1])["pred_relevant_windows"] == [[5.0, 9.5, 1.0], [1.0, 2.0, 0.5]]
    assert not (tmp_path / "o.json").exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--json"], "--json"),
        (["--json", "report.json", "--max-dropped", "0"], "--max-dropped, --json"),
        (["--columns", "video=x", "--durations", "none.csv"], "--durations, --columns"),
        (["--empty", "unlabelled", "--video-template", "a/{video}"], "--video-template, --empty"),
        (["--video-dir", ".", "--probe", "--examples", "1"], "--video-dir, --probe, --examples"),
    ],
)
def test_options_that_a_submission_does_not_take_are_refused(words, named, tmp_path, capsys):
    source, out = predictions(tmp_path / "p.jsonl", ONE), tmp_path / "o.jsonl"
    with pytest.raises(SystemExit) as ended:
        convert.main(["--to", "qvhighlights", source, "-o", str(out), *words])
    assert ended.value.code == 2 and not out.exists()
    assert f"--to qvhighlights takes SRC and -o alone; leave out {named}" in capsys.readouterr().err
