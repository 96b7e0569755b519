import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtg.evaluation.metrics import PRESETS, grounding_metrics, paired_bootstrap, top1_ious
from vtg.tasks.iou import temporal_iou

SHARED = Path(__file__).parents[2].parent / "shared" / "data"

spans = st.tuples(st.integers(0, 1000), st.integers(0, 1000)).map(lambda p: (p[0] / 10, p[1] / 10))


def shared(name: str):
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs {name} of the shared data")
    return json.loads(path.read_text(encoding="utf-8-sig"))


def test_metrics_of_four_samples_by_hand():
    truth = [[(0.0, 10.0)]] * 4
    predictions = [[(0.0, 10.0)], [(0.0, 5.0)], [(9.0, 20.0)], []]
    assert grounding_metrics(predictions, truth) == {
        "R1@0.3": 50.0,
        "R1@0.5": 50.0,  # the second has exactly 0.5: `>=`
        "R1@0.7": 25.0,
        "mIoU": pytest.approx((1 + 0.5 + 1 / 20) / 4 * 100),
        "parse_failures": 25.0,
        "missing": 0,
        "samples": 4,
    }
    assert grounding_metrics(predictions, truth, preset="timer1")["R1@0.5"] == 25.0


def test_the_first_predicted_span_counts_against_the_best_true_moment():
    truth = [[(0.0, 2.0), (10.0, 20.0)]]
    metrics = grounding_metrics([[(10.0, 20.0), (50.0, 60.0)]], truth)
    assert metrics["mIoU"] == 100.0
    assert metrics["set_mIoU"] == pytest.approx(10 / 22 * 100)
    assert "set_mIoU" not in grounding_metrics([[(1.0, 2.0)]], [[(1.0, 2.0)]])


def test_missing_nan_reversed_and_empty_predictions_score_zero_and_stay_in_the_mean():
    predictions = [None, [(math.nan, 5.0)], [(5.0, 1.0)], [], [(0.0, 10.0)]]
    metrics = grounding_metrics(predictions, [[(0.0, 10.0)]] * 5)
    assert metrics["mIoU"] == pytest.approx(20.0)
    assert (metrics["missing"], metrics["samples"], metrics["parse_failures"]) == (1, 5, 60.0)


def test_statuses_decide_what_a_parse_failure_is():
    predictions = [[(0.0, 99.0)], [(0.0, 9.0)], [(3.0, 2.0)], [], None]
    statuses = ["out_of_range", "ok", "reversed", "malformed", None]
    metrics = grounding_metrics(predictions, [[(0.0, 10.0)]] * 5, statuses=statuses)
    assert metrics["parse_failures"] == 60.0
    assert metrics["mIoU"] == pytest.approx((10 / 99 + 0.9) / 5 * 100)


def test_a_sample_without_a_moment_is_found_by_the_answer_none_alone():
    truth = [[], [], [], [(0.0, 10.0)], [(0.0, 10.0)], [(0.0, 5.0), (6.0, 9.0)], []]
    predictions = [[], [(1.0, 2.0)], [], [], [(0.0, 10.0)], [(6.0, 9.0), (0.0, 5.0)], None]
    statuses = ["none", "ok", "malformed", "none", "ok", "ok", None]
    assert top1_ious(predictions, truth, statuses=statuses).tolist() == [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0]
    metrics = grounding_metrics(predictions, truth, statuses=statuses)
    third = pytest.approx(100 * 3 / 7)
    assert [metrics[name] for name in ("mIoU", "R1@0.5", "set_mIoU", "F1@0.5", "count_accuracy")] == [third] * 5
    assert (metrics["none_recall"], metrics["none_precision"]) == (25.0, 50.0)
    assert (metrics["parse_failures"], metrics["missing"]) == (pytest.approx(100 / 7), 1)


def test_without_a_status_an_empty_prediction_is_none_where_some_sample_has_no_moment():
    metrics = grounding_metrics([[], []], [[], [(1.0, 2.0)]])
    assert (metrics["mIoU"], metrics["parse_failures"], metrics["none_recall"]) == (50.0, 0.0, 100.0)
    assert grounding_metrics([[]], [[(1.0, 2.0)]])["parse_failures"] == 100.0
    # The status none alone makes sets of them.
    assert grounding_metrics([[]], [[(1.0, 2.0)]], statuses=["none"]) == {
        **dict.fromkeys(("R1@0.3", "R1@0.5", "R1@0.7", "mIoU", "set_mIoU", "parse_failures"), 0.0),
        **dict.fromkeys(("F1@0.3", "F1@0.5", "F1@0.7", "count_accuracy"), 0.0),
        "missing": 0,
        "samples": 1,
    }


@given(st.lists(st.tuples(st.lists(spans, max_size=3), st.lists(spans, max_size=3)), min_size=1, max_size=8))
def test_top1_ious_agree_with_the_single_iou(rows):
    predictions, truths = zip(*rows, strict=True)
    expected = [
        max((temporal_iou(predicted[0], moment) for moment in truth), default=0.0) if predicted else float(not truth)
        for predicted, truth in rows
    ]
    assert top1_ious(predictions, truths).tolist() == expected


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="no samples to evaluate"):
        grounding_metrics([], [])
    with pytest.raises(ValueError, match="1 predictions for 2 samples"):
        grounding_metrics([None], [[(0, 1)], [(0, 1)]])
    with pytest.raises(ValueError, match="2 statuses for 1 predictions"):
        grounding_metrics([None], [[(0, 1)]], statuses=["ok", "ok"])
    with pytest.raises(ValueError, match="preset = 'coco': must be one of vtg, timer1"):
        grounding_metrics([None], [[(0, 1)]], preset="coco")


def test_every_preset_states_its_convention():
    assert "IoU >= t" in PRESETS["vtg"].convention
    assert "IoU > t" in PRESETS["timer1"].convention


def test_the_timer1_preset_gives_the_official_numbers_of_its_training_set():
    rows = shared("annotations/timer1__train_2k5.json")
    official = shared("predictions/official/timer1_eval__train_2k5_pred.json")
    predictions, truths = [[row["pred"]] for row in rows], [[row["timestamp"]] for row in rows]
    ours = grounding_metrics(predictions, truths, preset="timer1")
    assert ours["mIoU"] == official["scores"]["mIoU"]
    assert ours["avg"] == pytest.approx(official["scores"]["avg"], abs=1e-12)
    inclusive = grounding_metrics(predictions, truths)
    for threshold in ("0.3", "0.5", "0.7"):
        assert ours[f"R1@{threshold}"] == pytest.approx(official["scores"][threshold], abs=1e-12)
        assert inclusive[f"R1@{threshold}"] == pytest.approx(official["same_rows_with_>="][threshold], abs=1e-12)
    assert (top1_ious(predictions, truths) * 100).tolist() == [row["difficulty"] for row in rows]


def test_human_predictions_on_charades_give_the_published_r1():
    data = shared("predictions/hiddenmr__human_charades.json")
    predictions, truths = [[row["pred"]] for row in data["rows"]], [[row["gt"]] for row in data["rows"]]
    ours = grounding_metrics(predictions, truths, preset="timer1")
    assert ours["R1@0.5"] == pytest.approx(52.1)
    official = data["official_time_r1_scores"]
    assert ours["mIoU"] == pytest.approx(official["mIoU"], abs=1e-12)
    assert [ours[f"R1@{t}"] for t in (0.3, 0.5, 0.7)] == pytest.approx([official[t] for t in ("0.3", "0.5", "0.7")])
    assert top1_ious(predictions, truths) == pytest.approx(np.array([row["iou"] for row in data["rows"]]))


def test_timechat_predictions_give_its_sampled_scores():
    predicted = shared("predictions/timechat__tvg_example_pred_file.json")
    truth = {
        str(row["id"]): row["timestamp"] for row in shared("annotations/timeit__charades_test_coco.json")["annotations"]
    }
    metrics = grounding_metrics([row["timestamp"] for row in predicted.values()], [[truth[qid]] for qid in predicted])
    assert [metrics[f"R1@{t}"] for t in (0.3, 0.5, 0.7)] == pytest.approx([9.0, 3.4, 1.4])
    assert metrics["parse_failures"] == pytest.approx(56.0)


def test_the_bootstrap_interval_holds_the_difference_and_is_seeded():
    rng = np.random.default_rng(1)
    base = rng.uniform(0, 0.6, 400)
    tuned = base + rng.normal(0.1, 0.05, 400)
    interval = paired_bootstrap(base, tuned)
    assert interval == paired_bootstrap(base, tuned)
    assert interval.difference == pytest.approx(0.1, abs=0.01)
    half_width = 1.96 * np.std(tuned - base) / math.sqrt(400)
    assert interval.low == pytest.approx(interval.difference - half_width, abs=5e-4)
    assert interval.high == pytest.approx(interval.difference + half_width, abs=5e-4)
    same = paired_bootstrap(base, base)
    assert (same.difference, same.low, same.high) == (0.0, 0.0, 0.0)


def test_the_bootstrap_refuses_scores_that_are_not_paired():
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(3,\)"):
        paired_bootstrap([0, 1], [0, 1, 1])
