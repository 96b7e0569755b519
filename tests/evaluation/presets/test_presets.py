import json
import math

import pytest

from vtg.evaluation.presets import answer_parsers
from vtg.evaluation.presets.case import Case, Given
from vtg.evaluation.presets.mean_ap import average_precisions
from vtg.evaluation.presets.preset import RULES
from vtg.evaluation.presets.table import PUBLISHED


def case(truth, windows=None, *, scores=None, text=None, **fields):
    given = [Given(place="p.jsonl:1", windows=windows, scores=scores, text=text)]
    asked = {"place": "gt.jsonl:1", "qid": "q", "query": "a man sits", "duration_s": 30.0} | fields
    return Case(truth=truth, given=given, **asked)


def printed(preset, *cases):
    return PUBLISHED[preset].score(cases).printed


def test_every_preset_states_all_its_rules():
    assert set(PUBLISHED) == {
        "moment_detr", "univtg", "lighthouse", "time_r1", "timelens", "timelens2", "lmms_eval", "timechat",
        "charades_sta", "tacos", "activitynet", "didemo", "vue_tr", "vue_tr_v2", "timelens2_sets",
    }  # fmt: skip
    for preset in PUBLISHED.values():
        lines = preset.describe().splitlines()
        assert [line.partition(":")[0] for line in lines[1:]] == [*RULES, "source"]
        assert all(line.partition(":")[2].strip() for line in lines[1:])


def test_an_iou_at_the_threshold_is_a_hit_by_some_rules_alone():
    half = case([(0.0, 10.0)], [(0.0, 5.0)])
    assert printed("time_r1", half)["R1@0.5"] == 0 != printed("timelens", half)["R1@0.5"]
    assert printed("activitynet", half)["Rank@1,mIoU@0.5"] == 0 != printed("charades_sta", half)["R@1, IoU=0.5"]


def test_a_window_takes_one_true_window_and_the_area_is_interpolated():
    truth = [(0.0, 10.0), (20.0, 30.0)]
    # Hit, miss, hit: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1.
    ranked = [(0.0, 10.0), (0.0, 10.0), (20.0, 30.0)]
    assert average_precisions([ranked], [truth])[0] == pytest.approx([0.5 * 1 + 0.5 * 2 / 3] * 10)
    assert average_precisions([[(0.0, 7.0)]], [[(0.0, 10.0)]])[0].tolist() == [1.0] * 5 + [0.0] * 5
    assert average_precisions([[]], [truth]).tolist() == [[0.0] * 10]


def test_the_best_score_ranks_first_in_map_and_the_first_listed_in_r1():
    asked = case([(0.0, 10.0)], [(20.0, 30.0), (0.0, 10.0)], scores=[0.1, 0.9])
    brief = printed("moment_detr", asked)["brief"]
    assert (brief["MR-full-mAP"], brief["MR-full-R1@0.5"]) == (100.0, 0.0)


def test_r5_finds_what_stands_among_the_first_five():
    windows = [(20.0, 30.0)] * 4 + [(0.0, 10.0)]
    brief = printed("univtg", case([(0.0, 10.0)], windows))["brief"]
    assert (brief["MR-full-R1@0.5-key"], brief["MR-full-R5@0.5-key"]) == (0.0, 100.0)
    assert printed("univtg", case([(0.0, 10.0)], [(20.0, 30.0), *windows]))["brief"]["MR-full-R5@0.5-key"] == 0.0


def highlight(scores, **fields):
    rated = {"relevant_clip_ids": [1, 2], "saliency_scores": [[4, 0, 0], [2, 0, 0]]}
    one = case([(2.0, 6.0)], [(2.0, 6.0)], duration_s=8.0, metadata=rated | fields)
    one.given[0].saliency = scores
    return one


def test_highlights_are_ranked_by_their_scores():
    best = printed("moment_detr", highlight([0.0, 0.9, 0.8, 0.1]))["brief"]
    assert (best["HL-min-VeryGood-mAP"], best["HL-min-VeryGood-Hit1"]) == (33.33, 100.0)  # one of three annotators
    late = printed("moment_detr", highlight([0.9, 0.8, 0.0, 0.1]))["brief"]
    assert (late["HL-min-VeryGood-mAP"], late["HL-min-VeryGood-Hit1"]) == (16.67, 0.0)
    equal = printed("moment_detr", highlight([0.5, 0.5, 0.5, 0.5]))["brief"]
    assert equal["HL-min-Fair-mAP"] == 16.67  # two of four at once
    outside = printed("moment_detr", highlight([0.0, 0.5, 0.0, 0.1, 9.0]))["brief"]
    assert outside["HL-min-VeryGood-Hit1"] == 0.0  # the best piece lies behind the clip
    with pytest.raises(ValueError, match=r"gt.jsonl:1: relevant_clip_ids: 7 is outside 4 pieces of 8 s"):
        printed("moment_detr", highlight([0.0], relevant_clip_ids=[1, 7]))
    with pytest.raises(ValueError, match=r"p.jsonl:1: pred_saliency_scores: must be a list of finite numbers"):
        printed("moment_detr", highlight([math.nan]))


def test_near_proposals_are_suppressed_before_they_are_counted():
    near = [(20.0, 30.0), (20.0, 29.5), (20.5, 30.0), (20.0, 29.0), (21.0, 30.0), (0.0, 10.0)]
    asked = case([(0.0, 10.0)], near)
    assert printed("activitynet", asked)["Rank@5,mIoU@0.5"] == 100.0
    assert printed("charades_sta", asked)["R@5, IoU=0.7"] == 1.0
    assert printed("charades_sta", asked)["R@1, IoU=0.7"] == 0.0


def test_the_loader_of_activitynet_clips_and_drops_true_windows():
    scores = PUBLISHED["activitynet"].score([case([(5.0, 40.0)], [(5.0, 30.0)]), case([(7.0, 7.0)], [(0.0, 1.0)])])
    assert (scores.printed["mIoU"], scores.printed["samples"]) == (100.0, 1)
    assert scores.findings["truth_left_out"] == ["q"]


def test_didemo_takes_the_three_annotators_who_agree_most():
    annotators = [(0.0, 5.0), (0.0, 5.0), (0.0, 5.0), (25.0, 30.0)]
    right = case([(0.0, 5.0)], [(0.0, 0.0), (5.0, 5.0)], annotators=annotators)
    assert printed("didemo", right) == {"Average rank@1": 1.0, "Average rank@5": 1.0, "Average iou": 1.0, "samples": 1}
    fifth = [(1.0, 1.0), (1.0, 2.0), (1.0, 3.0), (1.0, 4.0), (0.0, 0.0)]
    late = printed("didemo", case([(0.0, 5.0)], fifth, annotators=annotators))
    assert (late["Average rank@1"], late["Average rank@5"], late["Average iou"]) == (0.0, 1.0, 0.0)
    with pytest.raises(ValueError, match=r"gt.jsonl:1: q has no annotators' moments; give DiDeMo's own file"):
        printed("didemo", case([(0.0, 5.0)], fifth))


def test_videos_are_scored_by_all_their_events():
    video = case([(0.0, 10.0), (20.0, 30.0)], [(0.0, 10.0), (9.0, 0.0)], query=None, video="a", qid=None)
    scores = printed("timechat", video)
    assert (scores["Precision@0.5"], scores["Recall@0.5"], scores["Precision@0.9"]) == (1.0, 0.5, 0.5)
    assert scores["n_preds"] == 2.0


def test_sets_are_scored_by_the_seconds_that_they_cover_in_whole_seconds():
    # [0.4, 2.2] becomes [0, 3], and touches [3, 5]: 5 s are predicted, 4 of 8 true ones among them.
    half = case([(1.0, 5.0), (10.0, 14.0)], [(3.0, 5.0), (0.4, 2.2)])
    assert printed("timelens2_sets", half)["mIoU"] == pytest.approx(4 / 9)
    scores = PUBLISHED["vue_tr"].score([half]).printed
    # Areas of a lone IoU of 4/9 and precision of 4/5: hits at 0 to .44 and at 0 to .8, and half a step.
    assert (scores["IoU"], scores["Precision"]) == (44.5, 80.5)


def test_precision_and_recall_of_vue_tr_go_through_the_moments_as_they_are_listed():
    # Out of order, [1, 5] is never reached: 2 of 5 predicted seconds are found, not 4.
    windows = [(0.0, 3.0), (12.0, 14.0)]
    precisions = [
        printed("vue_tr", case(truth, windows))["Precision"]
        for truth in ([(1.0, 5.0), (10.0, 14.0)], [(10.0, 14.0), (1.0, 5.0)])
    ]
    assert precisions == [80.5, 40.5]


def test_questions_without_a_moment_count_in_vue_trs_second_version_alone():
    rightly, answered = case([], []), case([(0.0, 4.0)], [(0.0, 4.0)])
    assert printed("vue_tr", rightly)["Precision"] is None and printed("vue_tr_v2", rightly)["Precision"] == 100.0
    scores = printed("vue_tr", rightly, answered, case([(0.0, 4.0)], []))
    assert (scores["Precision"], scores["Recall"], scores["IoU"]) == (100.0, 50.2, 66.3)


def test_vue_tr_is_broken_down_by_what_its_annotations_say():
    rows = [
        case([(0.0, 4.0)], [(0.0, 4.0)], metadata={"query_format": "phrase"}),
        case([(0.0, 4.0)], [(5.0, 6.0)], metadata={"query_format": "keyword"}),
    ]
    groups = printed("vue_tr_v2", *rows)["query_format"]
    assert groups == {
        "phrase": {"Precision": 100.0, "Recall": 100.0, "IoU": 99.5, "samples": 1},
        "keyword": {"Precision": 0.5, "Recall": 0.5, "IoU": 0.0, "samples": 1},
    }


@pytest.mark.parametrize(
    ("parser", "text", "windows"),
    [
        ("time_r1", "from 1.0 to 2 and <answer>12.54 to 17.83</answer>", [(12.54, 17.83)]),
        ("time_r1", "12.54 - 17.83", []),
        ("timelens", "The event happens in 3.5 - 9 seconds.", [(3.5, 9.0)]),
        ("timelens", "01:05 until 0:01:07.5 or 9", [(65.0, 67.5)]),
        ("timelens", "starts at 3.5 s, ends at 9.25 s, in 7", [(3.5, 9.25)]),
        ("timelens", "3 to 5, 7 - 9", [(7.0, 9.0)]),
        ("timelens2", "<thinking>1 - 2</thinking><answer>3 - 4</answer>", [(3.0, 4.0)]),
        ("lmms_eval", "none", []),
        ("timelens2_sets", "[[0, 3.5], [10, 12]], not 1 - 2", [(0.0, 3.5), (10.0, 12.0)]),
        ("timelens2_sets", "From 1.5 TO 2 and 7-9-11", [(1.5, 2.0), (7.0, 9.0)]),
        ("timelens2_sets", "at 3 s and -4 s, or 5", [(3.0, -4.0)]),
    ],
)
def test_texts_are_read_as_each_evaluator_reads_them(parser, text, windows):
    assert getattr(answer_parsers, parser)(text) == windows


@pytest.mark.parametrize("parser", ("time_r1", "timelens", "timelens2", "lmms_eval", "timelens2_sets"))
def test_a_model_that_repeats_a_digit_is_read_in_no_time(parser):
    # Each doubling of such a text made the scripts' own patterns eight times as slow: hours for this one.
    assert getattr(answer_parsers, parser)("9" * 20_000) == []
    assert getattr(answer_parsers, parser)("<answer>" + " " * 20_000) == []


def test_rows_without_an_answer_leave_the_mean_of_timelens2_alone():
    rows = [case([(0.0, 10.0)], [(0.0, 10.0)]), case([(0.0, 10.0)])]
    assert printed("timelens2", *rows) == {
        "miou": 1.0, "r1_03": 0.5, "r1_05": 0.5, "r1_07": 0.5, "scored_count": 1, "total_count": 2,
    }  # fmt: skip


def test_what_the_rules_cannot_score_is_refused_by_name():
    for preset in ("moment_detr", "time_r1"):
        with pytest.raises(ValueError, match=r"gt.jsonl:1: q has no true window; leave such rows out"):
            printed(preset, case([], [(0.0, 1.0)]))
    with pytest.raises(ValueError, match=r"gt.jsonl:1: q has 2 true windows; this script takes one each"):
        printed("charades_sta", case([(0.0, 1.0), (2.0, 3.0)], [(0.0, 1.0)]))


def test_scores_never_hold_nan():
    nasty = [(math.nan, 5.0), (5.0, 1.0), (3.0, 3.0), (-math.inf, math.inf), (0.0, 1e308)]
    for name, preset in PUBLISHED.items():
        if name == "didemo":
            continue
        for window in nasty:
            scores = preset.score([case([(3.0, 3.0)] if name != "activitynet" else [(3.0, 4.0)], [window])])
            json.dumps([scores.printed, scores.common, scores.ious], allow_nan=False)
