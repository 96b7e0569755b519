"""Predictions and ground truth are read in the forms in which they are published, by the command."""

import csv
import gzip
import hashlib
import io
import json
import re
import zipfile
from functools import partial
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from commands import called, write

from vtg.evaluate import main

run = partial(called, main)
TRUTH = [
    {"qid": 1, "query": "a man sits", "duration": 30, "vid": "a", "relevant_windows": [[0, 10]]},
    {"qid": 2, "query": "he stands", "duration": 30, "vid": "a", "relevant_windows": [[10, 20]]},
]


@pytest.fixture
def truth(tmp_path):
    return write(tmp_path / "gt.jsonl", TRUTH)


KEYED = {
    "a>>>a man sits>>>[0, 10]": {"answers": "The event happens in 0 - 10 seconds."},
    "a>>>he stands>>>(10, 20)": {"timestamps": [[10, 15], [0, 1]]},
}
LMMS_EVAL = [
    {"doc": {"video_path": "a.mp4", "query": "a man sits", "span": [[0, 10]]}, "filtered_resps": ["0 - 10 s"]},
    {"doc": {"video_path": "a.mp4", "query": "he stands", "span": "[[10, 20]]"}, "resps": [["10 to 15"]]},
]
VLMEVALKIT = (
    "index\tvideo\tquestion\tanswer\tprediction\n"
    "1\ta\ta man sits\t[[0, 10]]\t0 - 10\n"
    '2\ta\the stands\t[[10, 20]]\t"<thinking>3 - 4</thinking>\n<answer>10 - 15</answer>"\n'
)
TIME_R1 = [
    {"qid": "x", "pred": [0.0, 10.0], "target": [0.0, 10.0], "output_text": "…"},
    {"qid": "y", "output_text": "from 10 to 15", "target": [10.0, 20.0]},
]
TIMECHAT = {"1": {"timestamp": [[0, 10]], "query": "a man sits", "vid": "a.mp4"}, "2": {"timestamp": [[10, 15]]}}
MOMENT_DETR = [
    {"qid": "1", "pred_relevant_windows": [[0, 10, 0.9]]},
    {"qid": 2, "pred_relevant_windows": [[10, 15, 0.2]]},
]
OWN = [{"qid": 1, "prediction": [[0, 10]]}, {"video": "a.mp4", "sentence": "he  stands", "prediction": [10, 15]}]


@pytest.mark.parametrize(
    ("name", "content", "preset", "needs_truth"),
    [
        ("p.json", KEYED, "timelens", False),
        ("p.jsonl", [{key: value} for key, value in KEYED.items()], "timelens", False),
        ("p.jsonl", LMMS_EVAL, "lmms_eval", False),
        ("p.tsv", VLMEVALKIT, "timelens2", False),
        ("p.jsonl", TIME_R1, "time_r1", False),
        ("p.json", TIMECHAT, "timechat", True),
        ("p.jsonl", MOMENT_DETR, "moment_detr", True),
        ("p.json", MOMENT_DETR, "univtg", True),
        ("p.jsonl", OWN, "charades_sta", True),
    ],
)
def test_each_published_form_is_scored_as_it_is(tmp_path, truth, capsys, name, content, preset, needs_truth):
    path = write(tmp_path / name, content)
    words = ["--annotations", truth] if needs_truth else []
    code, out, err = run(capsys, path, "--preset", preset, "--json", *words)
    assert code == 0, err
    document = json.loads(out)
    assert (document["mIoU"], document["R1@0.7"]) == pytest.approx((75.0, 50.0))
    assert (document["samples"], document["preset"]) == (2, preset)
    assert document["rules"]["threshold"] in (">", ">=", ">= (videos with captions: >)")


def test_rankings_are_joined_by_their_order(tmp_path, capsys):
    rows = json.dumps([[[0, 0], [0, 1]], [[1, 1]]])
    truth = write(tmp_path / "gt.jsonl", TRUTH)
    code, _, err = run(capsys, write(tmp_path / "p.json", rows), "--annotations", truth, "--preset", "didemo")
    assert code == 1 and "has no annotators' moments; give DiDeMo's own file" in err
    one = write(tmp_path / "one.json", "[[[0, 0]]]")
    code, _, err = run(capsys, one, "--annotations", truth, "--preset", "didemo")
    assert code == 1 and "1 rankings for 2 rows of" in err


ROW = {"video": "a.mp4", "duration": 10.0, "timestamp": [0.0, 5.0], "sentence": "a man sits", "pred": [0.0, 2.5]}


@pytest.mark.parametrize("row", [ROW, {**ROW, "pred": None} | {"pred": [[0.0, 2.5]]}])
@pytest.mark.parametrize("preset", ["vtg", "default", "timelens"])
def test_annotations_that_carry_predictions_are_scored(tmp_path, capsys, row, preset):
    path = write(tmp_path / "rows.jsonl", [row])
    code, out, err = run(capsys, path, "--field", "pred", "--preset", preset, "--json")
    assert code == 0, err
    assert json.loads(out)["mIoU"] == 50.0


def test_keys_that_are_no_qids_are_joined_by_video_and_query(tmp_path, truth, capsys):
    path = write(tmp_path / "p.json", KEYED)
    alone, joined = (
        json.loads(run(capsys, path, *words, "--preset", "timelens", "--json")[1])
        for words in ([], ["--annotations", truth])
    )
    assert joined["mIoU"] == alone["mIoU"] == 75.0


def test_a_prediction_may_stand_in_kwargs_and_the_only_row_over_several_lines(tmp_path, capsys):
    row = {key: value for key, value in ROW.items() if key != "pred"} | {"kwargs": {"pred": [0.0, 2.5]}}
    path = write(tmp_path / "row.json", row)
    for preset in ("default", "moment_detr"):
        code, out, err = run(capsys, path, "--field", "pred", "--preset", preset, "--json")
        assert code == 0, err
        assert json.loads(out)["mIoU"] == 50.0


def test_a_field_that_is_not_there_is_named(tmp_path, capsys):
    path = write(tmp_path / "rows.jsonl", [ROW])
    for preset in ("default", "time_r1"):
        code, _, err = run(capsys, path, "--field", "answer", "--preset", preset)
        assert code == 1
        assert "rows.jsonl:1: has no 'answer'; --field names a key of every row, and it has: video, duration" in err


def test_all_presets_stand_side_by_side_with_what_rules_alone_move(tmp_path, truth, capsys):
    path = write(tmp_path / "p.jsonl", MOMENT_DETR)
    code, out, err = run(capsys, path, "--annotations", truth, "--preset", "all")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split()[:5] == ["preset", "R1@0.3", "R1@0.5", "R1@0.7", "mIoU"]
    assert [line.split()[0] for line in lines[1:-1]][:4] == ["default", "moment_detr", "univtg", "lighthouse"]
    assert lines[-1].split()[:6] == ["moved", "by", "rules", "alone", "0.00", "50.00"]  # an IoU of .5, by > and >=
    assert "didemo: " in err and "has no annotators' moments" in err


@pytest.mark.parametrize("words", [[], ["--field", "pred_relevant_windows"]])
@pytest.mark.parametrize("form", ["", "qvhighlights:"])
def test_what_an_official_script_refuses_is_scored_by_the_default_rules_as_the_message_says(
    tmp_path, truth, capsys, form, words
):
    path = write(tmp_path / "p.jsonl", MOMENT_DETR[:1])
    code, _, err = run(capsys, path, "--annotations", truth, "--preset", "moment_detr")
    assert code == 1 and "or score with --preset default, where they are 0" in err
    code, out, err = run(capsys, path, "--annotations", f"{form}{truth}", "--preset", "default", "--json", *words)
    assert (code, err) == (0, "vtg.evaluate: 1 samples have no prediction and score 0: 2\n")
    document = json.loads(out)
    assert (document["mIoU"], document["samples"], document["missing"]) == (50.0, 2, 1)
    assert document["convention"].startswith("R1@t counts IoU >= t")


def test_rows_of_this_project_are_scored_by_the_default_rules_beside_a_published_truth(tmp_path, truth, capsys):
    code, out, err = run(
        capsys, write(tmp_path / "p.jsonl", OWN), "--annotations", truth, "--preset", "default", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["mIoU"] == pytest.approx(75.0)


@pytest.mark.parametrize(
    ("name", "content", "needs_truth"),
    [
        ("p.json", KEYED, False),
        ("p.jsonl", LMMS_EVAL, False),
        ("p.tsv", VLMEVALKIT, False),
        ("p.jsonl", TIME_R1, False),
        ("p.json", TIMECHAT, True),
        ("p.json", MOMENT_DETR, True),
        ("p.json", {"rows": TIME_R1[:1]}, False),
        ("p.json", {"a": [{"timestamp": [0, 5], "caption": "a man sits"}]}, True),
        ("p.json", "[[[0, 0], [0, 1]], [[1, 1]]]", True),
    ],
)
def test_the_default_rules_read_every_form_that_all_presets_read(tmp_path, truth, capsys, name, content, needs_truth):
    path = write(tmp_path / name, content)
    words = ["--annotations", truth] if needs_truth else []
    code, out, err = run(capsys, path, "--preset", "default", *words)
    _, every, refused = run(capsys, path, "--preset", "all", *words)
    if code == 0:
        assert out.splitlines()[2].split()[:4] == every.splitlines()[1].split()[1:5]
    else:  # answers in text, whose form these rules are told
        reason = err.removeprefix("vtg.evaluate: ").strip()
        assert "has text alone" in reason and f"default: {reason}" in refused


def test_the_default_rules_leave_a_reversed_truth_out_whichever_way_they_are_asked(tmp_path, capsys):
    rows = [{"video": "a.mp4", "duration": 30.0, "sentence": f"s{at}", "qid": f"q{at}"} for at in range(3)]
    truths = [[0.0, 10.0], [9.0, 2.0], [10.0, 20.0]]
    truth = write(tmp_path / "gt.jsonl", [row | {"timestamp": truth} for row, truth in zip(rows, truths, strict=True)])
    path = write(tmp_path / "p.jsonl", [row | {"prediction": [[0.0, 10.0]]} for row in rows])
    _, out, _ = run(capsys, path, "--annotations", truth, "--preset", "default")
    assert out.splitlines()[2].split()[0] == "50.00"
    _, out, _ = run(capsys, path, "--annotations", truth, "--preset", "all")
    assert out.splitlines()[1].split()[:2] == ["default", "50.00"]
    code, out, err = run(capsys, path, "--annotations", truth, "--preset", "default", "--statistics", "--json")
    assert (code, json.loads(out)["R1@0.3"], json.loads(out)["samples"]) == (0, 50.0, 2)
    assert "1 questions have a true window that ends no later than it starts, and are left out: q1" in err


def test_rules_are_printed_without_a_file(capsys):
    code, out, _ = run(capsys, "--preset", "time_r1", "--describe")
    assert code == 0 and out.startswith("preset time_r1\nthreshold:   >\n")
    assert run(capsys, "--preset", "all", "--describe")[1].count("\n\npreset ") == 15
    with pytest.raises(SystemExit, match="2"):
        main(["--preset", "time_r1"])
    assert "PRED is missing: name the file of predictions, or give --describe" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words", "said"),
    [
        (
            [{"qid": 1, "pred_relevant_windows": [[0, 1, 0.5], [2, 3]]}],
            [],
            "p.jsonl:1: pred_relevant_windows: only some",
        ),
        ([{"qid": 1, "pred_relevant_windows": [[0]]}], [], "p.jsonl:1: pred_relevant_windows: [[0]] must be [[start"),
        ([{"qid": 1, "windows": []}], [], "name the key that holds the prediction: --field KEY"),
        ([{"qid": 9, "pred_relevant_windows": [[0, 1]]}], [], "no prediction (first: "),
        ([{"qid": 1, "text": "0 to 9"}, {"qid": 2, "text": "?"}], [], "takes numbers; name the form of the answers"),
        ([{"a>>>b": "0 - 1"}], [], "must be VIDEO>>>QUERY>>>[start, end]"),
    ],
)
def test_broken_predictions_are_named_with_place_and_remedy(tmp_path, truth, capsys, content, words, said):
    path = write(tmp_path / "p.jsonl", content)
    code, out, err = run(capsys, path, "--annotations", truth, "--preset", "moment_detr", *words)
    assert (code, out) == (1, "")
    assert said in err


def test_a_qid_twice_in_the_ground_truth_is_refused(tmp_path, capsys):
    truth = write(tmp_path / "gt.jsonl", [*TRUTH, TRUTH[0]])
    path = write(tmp_path / "p.jsonl", MOMENT_DETR)
    code, _, err = run(capsys, path, "--annotations", truth, "--preset", "moment_detr")
    assert code == 1 and "gt.jsonl:3: qid '1' is that of" in err


def test_texts_are_read_in_the_form_that_is_named(tmp_path, truth, capsys):
    path = write(tmp_path / "p.jsonl", [{"qid": 1, "text": "<0><49>"}, {"qid": 2, "text": "no"}])
    words = ["--annotations", truth, "--answer", "tokens", "--num-bins", "100", "--json"]
    code, out, err = run(capsys, path, "--preset", "univtg", *words)
    assert code == 0, err
    assert json.loads(out)["MR-full-mIoU-key"] == pytest.approx(33.33)


DIDEMO = [
    {
        "video": "a.mov",
        "description": "a man sits",
        "times": [[0, 0]] * 3 + [[5, 5]],
        "annotation_id": 7,
        "num_segments": 6,
    },
    {"video": "b.mov", "description": "he stands", "times": [[1, 2]] * 4, "annotation_id": 8, "num_segments": 6},
]


@pytest.mark.parametrize(
    "predictions",
    [
        [[[0, 0], [5, 5]], [[0, 0], [1, 2]]],
        [{"annotation_id": 8, "segments": [[0, 0], [1, 2]]}, {"annotation_id": 7, "segments": [[0, 0], [5, 5]]}],
    ],
)
def test_rankings_of_didemo_are_scored_against_all_its_annotators(tmp_path, capsys, predictions):
    truth = write(tmp_path / "val_data.json", DIDEMO)
    path = write(tmp_path / "p.json", predictions)
    code, out, err = run(capsys, path, "--annotations", truth, "--preset", "didemo", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert (document["Average rank@1"], document["Average rank@5"], document["Average iou"]) == (0.5, 1.0, 0.5)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "p.json",
            {"1": {"timestamp": [[0, 1]]}, "2": 5},
            "p.json: '2': 5 has no timestamp, which is [] where nothing",
        ),
        ("p.json", {"rows": [[0, 1]]}, "p.json: rows[0]: '[0, 1]' is not an object"),
        (
            "p.jsonl",
            [{"qid": "a", "pred": [0, 1], "target": [0, float("inf")]}],
            "true window [0.0, inf] is not finite",
        ),
    ],
)
def test_rows_that_are_none_are_named(tmp_path, truth, capsys, name, content, said):
    path = write(tmp_path / name, content)
    words = [] if "inf" in said else ["--annotations", truth]
    code, out, err = run(capsys, path, "--preset", "timechat", *words)
    assert (code, out) == (1, "") and said in err


def workbook(path: Path, rows: list[list[str | float]], *, inline: bool = False) -> str:
    """A sheet as Excel and xlsxwriter write one: texts by their number in a part of their own, or in the cells."""
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    texts: list[str] = []
    lines = []
    for number, row in enumerate(rows, 1):
        cells = ""
        for column, value in zip("ABCDEF", row, strict=False):
            at = f'r="{column}{number}"'
            if not isinstance(value, str):
                cells += f"<c {at}><v>{value}</v></c>"
            elif inline:
                cells += f'<c {at} t="inlineStr"><is><t>{escape(value)}</t></is></c>'
            elif value:  # empty cells are not written
                texts.append(value)
                cells += f'<c {at} t="s"><v>{len(texts) - 1}</v></c>'
        lines.append(f'<row r="{number}">{cells}</row>')
    sheet = f"<worksheet {space}><sheetData>{''.join(lines)}</sheetData></worksheet>"
    halves = [(escape(text[:3]), escape(text[3:])) for text in texts]
    runs = "".join(f"<si><r><t>{first}</t></r><r><t>{second}</t></r></si>" for first, second in halves)
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("xl/worksheets/sheet1.xml", sheet)
        book.writestr("xl/sharedStrings.xml", f"<sst {space}>{runs}</sst>")
    return str(path)


@pytest.mark.parametrize("inline", [False, True])
def test_a_workbook_of_vlmevalkit_scores_as_its_table_does(tmp_path, capsys, inline):
    rows = list(csv.reader(io.StringIO(VLMEVALKIT), delimiter="\t"))
    table = write(tmp_path / "p.tsv", VLMEVALKIT)
    book = workbook(tmp_path / "p.xlsx", rows, inline=inline)
    outputs = [run(capsys, file, "--preset", "timelens2", "--json") for file in (table, book)]
    assert [code for code, *_ in outputs] == [0, 0], outputs
    scores = [json.loads(out) | {"predictions": ""} for _, out, _ in outputs]
    assert scores[0] == scores[1]


def test_a_workbook_that_is_none_ends_in_one_line(tmp_path, capsys):
    (tmp_path / "p.xlsx").write_text("<html>")
    code, out, err = run(capsys, tmp_path / "p.xlsx", "--preset", "timelens2")
    assert (code, out, err.count("\n")) == (1, "", 1) and "is no workbook (File is not a zip file)" in err
    book = workbook(tmp_path / "q.xlsx", [["index", "video"], [1.0, "a"]])
    code, _, err = run(capsys, book, "--preset", "timelens2")
    assert code == 1 and "q.xlsx:1: has no columns question and prediction" in err


def test_an_integer_of_any_number_of_digits_is_read(tmp_path, truth, capsys):
    question = {"vid": "a", "query": "a man sits", "pred_relevant_windows": [[0, 10, 0.9]]}
    path = tmp_path / "p.jsonl"
    path.write_text(f'{{"qid": {"9" * 5000}, {json.dumps(question)[1:]}\n{json.dumps(MOMENT_DETR[1])}\n')
    code, out, err = run(capsys, path, "--annotations", truth, "--preset", "default", "--json")
    assert code == 0, err
    assert json.loads(out)["mIoU"] == 75.0  # such a qid names nothing: the row is joined by what it asks


@pytest.mark.parametrize("words", [["--preset", "univtg"], ["--preset", "default"], ["--statistics"]])
def test_predictions_that_mostly_answer_other_questions_are_refused_by_every_rule(tmp_path, truth, capsys, words):
    first, second = ({key: row[key] for key in ("query", "vid")} for row in TRUTH)
    swapped = [{**MOMENT_DETR[0], **second}, {**MOMENT_DETR[1], **first}]
    path = write(tmp_path / "p.jsonl", swapped)
    code, out, err = run(capsys, path, "--annotations", truth, *words)
    assert (code, out) == (1, "")
    assert f"2 predictions answer other questions than the rows of {truth} with their qids: " in err
    assert f"{path}:1 (qid '1'): sentence 'he stands', not 'a man sits'" in err
    code, _, err = run(capsys, write(tmp_path / "a.jsonl", MOMENT_DETR), "--annotations", truth, "--compare", path)
    assert code == 1 and "2 predictions answer other questions" in err
    # One of two is told, and scored by its qid as official scripts do.
    path = write(tmp_path / "o.jsonl", [MOMENT_DETR[0] | {"query": "a man sat"}, MOMENT_DETR[1]])
    code, _, err = run(capsys, path, "--annotations", truth, *words)
    assert code == 0 and "1 predictions with the qid of a row have another video or query than it" in err
    # Folder, ending, case and blanks are no other question.
    path = write(tmp_path / "q.jsonl", [MOMENT_DETR[0] | {"query": "A man  sits.", "vid": "d/a.mp4"}, MOMENT_DETR[1]])
    assert run(capsys, path, "--annotations", truth, *words)[0] == 0


def test_ground_truth_in_gzip_that_was_cut_off_is_named(tmp_path, capsys):
    # Random names, which gzip cannot shorten: a tenth is enough to lose the end.
    rows = [TRUTH[0] | {"qid": hashlib.sha256(str(at).encode()).hexdigest()} for at in range(1000)]
    whole = gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    path = tmp_path / "gt.jsonl.gz"
    path.write_bytes(whole[: len(whole) * 9 // 10])
    predictions = write(tmp_path / "p.jsonl", [MOMENT_DETR[0] | {"qid": rows[0]["qid"]}])
    whole_truth = write(tmp_path / "whole.jsonl", rows)
    for words in (
        ["--annotations", path, "--preset", "univtg"],
        ["--annotations", path, "--statistics"],
        ["--annotations", whole_truth, "--train", path],
    ):
        code, _, err = run(capsys, predictions, *words)
        assert code == 1
        assert re.search(rf"{path}:[89]\d\d: ends in the middle \(.+\); fetch it again", err), err
