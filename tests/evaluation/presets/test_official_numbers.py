"""Presets give the numbers of the official scripts, digit by digit, on the files that these were run on."""

import json
from pathlib import Path

import pytest

from vtg.evaluate import main
from vtg.evaluation.presets.table import PUBLISHED
from vtg.evaluation.published_scores import asked, scores_by

SHARED = Path(__file__).parents[3].parent / "shared" / "data"
OFFICIAL = sorted((SHARED / "predictions" / "official" / "synthetic").glob("*.json"))


def of(file: Path):
    """(preset, predictions, ground truth, what the official script gave) of a file of its results."""
    preset, kind, what = file.stem.split("__")
    predictions = SHARED / "predictions" / "synthetic" / f"{kind}__{what}.jsonl"
    if kind == "broken":
        truth = SHARED / "predictions" / "synthetic" / "broken__gt_first200.jsonl"
    else:
        truth = SHARED / "annotations" / f"lighthouse__{kind}_release.jsonl"
    return preset, str(predictions), str(truth), json.loads(file.read_text())


def without_nan(official, ours):
    """The official numbers; ours where it prints NaN, which the preset states as a rule."""
    if isinstance(official, dict):
        return {key: without_nan(value, ours[key]) for key, value in official.items()}
    return ours if official != official else official


@pytest.mark.skipif(not OFFICIAL, reason="needs the shared data")
@pytest.mark.parametrize("file", OFFICIAL, ids=lambda file: file.stem)
def test_retrieval_scores_are_the_official_ones_or_a_stated_rule(file):
    preset, predictions, truth, official = of(file)
    if file.stem.endswith("missing_qids"):
        read = asked(predictions, annotations=truth, field=None)
        with pytest.raises(
            ValueError, match=r"3 of 200 questions have no prediction .* --preset default, where they are 0"
        ):
            scores_by(PUBLISHED[preset], read.cases)
        return
    read = asked(predictions, annotations=truth, field=None)
    scores = scores_by(PUBLISHED[preset], read.cases)
    if official["ok"]:
        assert scores.printed == without_nan(official["metrics"], scores.printed)
    else:  # what it ends at is scored by a rule, which the findings name
        kind = file.stem.split("__")[-1]
        expected = {"empty_window_lists": "no_window", "no_score": "no_score"}.get(kind)
        if expected:
            assert scores.findings[expected]
        elif kind != "qid_as_string":
            assert scores.findings["empty_range"] == ["long: no number"]
            assert scores.printed["brief"]["MR-long-mAP"] is None
        assert (
            scores.printed["brief"]["MR-full-mAP" if preset != "univtg" else "MR-full-mAP-key"] > 0 or "whole" in kind
        )


def test_time_r1_reads_the_predictions_in_its_own_annotations(capsys):
    path = SHARED / "annotations" / "timer1__train_2k5.json"
    if not path.exists():
        pytest.skip("needs the shared data")
    official = json.loads((SHARED / "predictions/official/timer1_eval__train_2k5_pred.json").read_text())["scores"]
    for words in (["--field", "pred"], []):
        assert main([str(path), "--preset", "time_r1", "--json", *words]) == 0
        document = json.loads(capsys.readouterr().out)
        ours = [document[name] for name in ("mIoU", "R1@0.3", "R1@0.5", "R1@0.7", "avg")]
        assert ours == [official[name] for name in ("mIoU", "0.3", "0.5", "0.7", "avg")]


def test_human_predictions_give_the_published_scores(capsys):
    path = SHARED / "predictions" / "hiddenmr__human_charades.json"
    if not path.exists():
        pytest.skip("needs the shared data")
    assert main([str(path), "--preset", "time_r1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    official = json.loads(path.read_text())["official_time_r1_scores"]
    assert [document[name] for name in ("mIoU", "R1@0.3", "R1@0.5", "R1@0.7", "avg")] == pytest.approx(
        [official[name] for name in ("mIoU", "0.3", "0.5", "0.7", "avg")], abs=1e-12
    )


def test_shares_of_one_are_printed_with_the_decimals_that_the_preset_says(capsys):
    path = SHARED / "predictions" / "hiddenmr__human_charades.json"
    if not path.exists():
        pytest.skip("needs the shared data")
    printed = {}
    for preset in ("timelens2", "charades_sta", "timelens2_sets", "time_r1"):
        assert main([str(path), "--preset", preset]) == 0
        printed[preset] = capsys.readouterr().out.splitlines()[2].split()
    assert printed["timelens2"] == ["0.4871", "0.8070", "0.5210", "0.1980", "1000", "1000"]
    assert printed["charades_sta"][0] == "0.8070" and printed["timelens2_sets"][0] == "0.5653"
    assert printed["time_r1"][0] == "80.70"


def test_timechat_gives_the_official_numbers_of_its_examples(capsys):
    predictions, annotations = SHARED / "predictions", SHARED / "annotations"
    if not predictions.is_dir():
        pytest.skip("needs the shared data")
    words = ["--preset", "timechat", "--json", "--annotations"]
    moments = str(predictions / "timechat__tvg_example_pred_file.json")
    assert main([moments, *words, str(annotations / "timeit__charades_test_coco.json")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [document[f"IOU {at}"] for at in (0.3, 0.5, 0.7)] == pytest.approx([9.0, 3.4, 1.4])
    assert document["findings"]["not_predicted"]["count"] == 3220
    videos = str(predictions / "timechat__dvc_example_pred_file.json")
    assert main([videos, *words, str(annotations / "timeit__youcook2_val_coco.json")]) == 0
    document = json.loads(capsys.readouterr().out)
    official = json.loads((predictions / "official" / "timechat_eval__dvc_localization.json").read_text())["scores"]
    assert {name: document[name] for name in official} == pytest.approx(official, abs=1e-12)
    assert main([videos, *words[:2], "--annotations", str(annotations / "timeit__youcook2_val_coco.json")]) == 0
    assert f"{official['F1_Score']:.4f}" in capsys.readouterr().out
