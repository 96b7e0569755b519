import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtg.evaluate import main
from vtg.evaluation import controls
from vtg.evaluation.breakdown import boundary_errors_s, breakdowns
from vtg.evaluation.intervals import Ratio, ratio_bootstrap, video_bootstrap
from vtg.evaluation.presets.case import Case, Given
from vtg.evaluation.ranked_metrics import ranked_metrics
from vtg.evaluation.set_metrics import set_metrics
from vtg.tasks.wasserstein import wasserstein_s

SHARED = Path(__file__).parents[2].parent / "shared" / "data"

windows = st.tuples(st.integers(0, 50), st.integers(1, 20)).map(lambda it: (float(it[0]), float(it[0] + it[1])))
sets = st.lists(windows, min_size=1, max_size=4)


def case(number, truth, predicted=None, *, video="a", duration_s=30.0, **fields):
    rows = [] if predicted is None else [Given(place=f"p:{number}", windows=predicted)]
    return Case(
        place=f"gt:{number}", qid=str(number), video=video, duration_s=duration_s, truth=truth, given=rows, **fields
    )


def test_an_interval_by_video_is_wide_where_questions_of_a_video_agree():
    rng = np.random.default_rng(0)
    videos = [f"v{at // 10}" for at in range(1000)]
    by_video = np.repeat(rng.normal(50, 20, 100), 10)[:, None]
    (together,) = video_bootstrap(by_video, videos)
    (alone,) = video_bootstrap(by_video, [str(at) for at in range(1000)])
    assert together.low < together.difference < together.high
    assert (together.high - together.low) / (alone.high - alone.low) == pytest.approx(math.sqrt(10), rel=0.15)
    half_width = 1.96 * by_video[::10].std() / 10
    assert (together.high - together.low) / 2 == pytest.approx(half_width, rel=0.1)
    assert video_bootstrap(by_video, videos) == video_bootstrap(by_video, videos)


def test_questions_that_the_rules_leave_out_are_not_drawn():
    values = np.array([[1.0], [math.nan], [3.0]])
    assert video_bootstrap(values, ["a", "b", "c"])[0].difference == 2.0
    with pytest.raises(ValueError, match="no question is left to draw from"):
        video_bootstrap(values[1:2], ["a"])


def test_one_video_has_no_interval(tmp_path, capsys):
    row = {"video": "a.mp4", "duration": 30.0, "sentence": "a man sits", "timestamp": [0.0, 10.0]}
    rows = [row | {"qid": at, "prediction": [[0.0, end]]} for at, end in enumerate((10.0, 5.0))]
    path = write(tmp_path / "p.jsonl", rows)
    words = [path, "--statistics", "--compare", path]
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)["statistics"]
    assert report["intervals"] == {} and report["compared"]["mIoU"] == {"difference": 0.0, "low": None, "high": None}
    assert main(words) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["mIoU", "75.00", "-", "33.33"] in lines and ["mIoU", "+0.00", "-", "-"] in lines


def test_a_ratio_is_of_means_over_videos_drawn_together():
    values, reference = np.array([1.0, 3.0, 1.0, 5.0]), np.array([2.0, 2.0, 4.0, 4.0])
    # Two videos: a alone, b alone, or both are drawn, a quarter of the time each of the first two.
    assert ratio_bootstrap(values, reference, ["a", "a", "b", "b"]) == Ratio(10 / 12, 0.75, 1.0)
    # What is hard for both says nothing: the ratio is the same in every video.
    hard = np.random.default_rng(0).uniform(1, 100, 50)
    certain = ratio_bootstrap(hard * 0.7, hard, [str(at) for at in range(50)])
    assert (certain.ratio, certain.low, certain.high) == pytest.approx((0.7, 0.7, 0.7))
    rng = np.random.default_rng(1)
    noisy = ratio_bootstrap(rng.normal(8, 1, 400), rng.normal(10, 1, 400), [str(at) for at in range(400)])
    # By the delta method, a standard error of ratio * sqrt((1/8)² + (1/10)²) / sqrt(400).
    assert noisy.high - noisy.low == pytest.approx(2 * 1.96 * 0.8 * math.hypot(1 / 8, 1 / 10) / 20, rel=0.1)
    assert noisy.low < 0.8 < noisy.high


@pytest.mark.filterwarnings("error")
def test_a_ratio_to_nothing_is_no_number():
    still = ratio_bootstrap(np.ones(2), np.zeros(2), ["a", "b"])
    assert all(math.isnan(one) for one in (still.ratio, still.low, still.high))
    partly = ratio_bootstrap(np.ones(2), np.array([0.0, 2.0]), ["a", "b"])
    assert partly.ratio == 1.0 and math.isnan(partly.low)


def test_a_ratio_over_one_video_has_no_interval():
    alone = ratio_bootstrap(np.array([1.0, 3.0]), np.array([2.0, 3.0]), ["a", "a"])
    assert alone.ratio == 0.8 and math.isnan(alone.low) and math.isnan(alone.high)


def test_blind_answers_know_the_duration_alone():
    cases = [case(0, [(0.0, 10.0)], [(0.0, 3.0)]), case(1, [(0.0, 20.0)], [(6.0, 12.0)], video="b", duration_s=60.0)]
    assert [one.given[0].windows for one in controls.whole_video(cases)] == [[(0.0, 30.0)], [(0.0, 60.0)]]
    assert controls.constant(cases, (0.5, 1.0))[1].given[0].windows == [(30.0, 60.0)]
    assert [one.given[0].windows for one in controls.shuffled(cases)] == [[(3.0, 6.0)], [(0.0, 6.0)]]
    assert controls.shuffled(cases[:1]) is None
    assert controls.whole_video([case(0, [(0.0, 1.0)], [], duration_s=None)]) is None
    assert cases[0].given[0].windows == [(0.0, 3.0)]


def test_every_question_is_answered_for_another_video_where_no_video_has_half_of_them():
    cases = [case(at, [(0.0, 1.0)], [(0.0, float(at + 1))], video=f"v{at % 5}") for at in range(50)]
    for one, shown in zip(cases, controls.shuffled(cases), strict=True):
        other = int(shown.given[0].windows[0][1]) - 1
        assert one.video != cases[other].video


def test_the_prior_is_the_span_that_overlaps_training_most():
    training = [case(at, [(0.0, 15.0)]) for at in range(8)] + [case(9, [(27.0, 30.0)])]
    assert controls.training_prior(training, path="train.jsonl") == (0.0, 0.5)
    with pytest.raises(ValueError, match=r"train.jsonl: has no row with a duration and a span"):
        controls.training_prior([case(0, [(1.0, 2.0)], duration_s=None)], path="train.jsonl")


def test_a_ceiling_on_frames_rounds_ends_to_them():
    (answered,) = controls.on_frames([case(0, [(1.2, 3.9), (4.1, 4.2)])], fps=1.0, max_frames=None)
    assert answered.given[0].windows == [(1.0, 4.0), (4.0, 5.0)]
    (sparse,) = controls.on_frames([case(0, [(1.2, 3.9)])], fps=2.0, max_frames=10)
    assert sparse.given[0].windows == [(0.0, 3.0)]


def test_people_are_scored_against_one_another():
    people = [(0.0, 10.0), (0.0, 10.0), (5.0, 10.0)]
    rounds = controls.annotator_rounds([case(0, [(0.0, 10.0)], annotators=people), case(1, [(0.0, 1.0)])])
    assert [(one.given[0].windows[0], one.truth[0]) for (one,) in rounds] == [
        (people[0], people[1]),
        (people[1], people[2]),
        (people[2], people[0]),
    ]


def test_windows_are_found_among_the_first_five_at_any_iou():
    ranked = case(0, [(0.0, 10.0)], [(20.0, 30.0), (0.0, 6.0)])
    scores = ranked_metrics([ranked, case(1, [(0.0, 1.0)])], (0.05, 0.6, 0.61))
    assert [scores[name] for name in ("R1@0.05", "R5@0.05", "R5@0.6", "R5@0.61")] == [0.0, 50.0, 50.0, 0.0]
    assert scores["mAP@0.5"] == pytest.approx(25.0)
    nan = case(0, [(0.0, 10.0)], [(math.nan, 5.0)])
    assert set(ranked_metrics([nan]).values()) == {0.0}
    scored = case(0, [(0.0, 10.0)], [(20.0, 30.0), (0.0, 10.0)])
    scored.given[0].scores = [0.1, 0.9]
    assert ranked_metrics([scored])["R1@0.9"] == 100.0


def test_sets_are_matched_one_to_one():
    scores = set_metrics([[(0.0, 10.0), (0.0, 9.0), (20.0, 30.0)]], [[(0.0, 10.0), (20.0, 30.0)]])
    assert scores["F1@0.5"] == pytest.approx(100 * 4 / 5)
    assert scores["count_accuracy"] == 0.0
    # The first window could take either truth, the second one alone: both are matched.
    truth = [(0.0, 10.0), (5.0, 15.0)]
    assert set_metrics([[(2.0, 12.0), (0.0, 10.0)]], [truth])["F1@0.3"] == 100.0
    assert set_metrics([[]], [truth]) == {"F1@0.3": 0.0, "F1@0.5": 0.0, "F1@0.7": 0.0, "count_accuracy": 0.0}


def test_no_window_where_there_is_none_is_a_right_set_and_no_answer_is_not():
    truths = [[], [], [], [(0.0, 1.0)]]
    scores = set_metrics([[], [(0.0, 1.0)], None, []], truths)
    assert scores["F1@0.5"] == scores["count_accuracy"] == 25.0
    assert scores["none_recall"] == pytest.approx(100 / 3) and scores["none_precision"] == 50.0
    assert "none_precision" not in set_metrics([None], [[]])


def test_seconds_move_as_far_as_the_window_does():
    assert wasserstein_s([(0.0, 10.0)], [(5.0, 15.0)]) == pytest.approx(5.0)
    assert wasserstein_s([(0.0, 10.0)], [(4.0, 6.0)]) == pytest.approx(2.0)
    assert wasserstein_s([(0.0, 1.0), (10.0, 11.0)], [(0.0, 1.0)]) == pytest.approx(5.0)


@settings(max_examples=50)
@given(sets, sets)
def test_the_distance_of_sets_is_one(a, b):
    assert wasserstein_s(a, a) == pytest.approx(0.0, abs=1e-9)
    assert wasserstein_s(a, b) == pytest.approx(wasserstein_s(b, a))
    times = np.linspace(0, 80, 40_001)
    shares = [
        (np.clip(times[:, None], *np.array(one).T) - np.array(one)[:, 0]).sum(axis=1) / np.diff(one, axis=1).sum()
        for one in (a, b)
    ]
    numeric = float(np.abs(shares[0] - shares[1])[:-1].sum() * (times[1] - times[0]))
    assert wasserstein_s(a, b) == pytest.approx(numeric, abs=0.01)


def test_scores_are_told_apart_by_length_and_place():
    cases = [case(0, [(0.0, 5.0)]), case(1, [(20.0, 30.0)], duration_s=60.0), case(2, [(0.0, 40.0)], duration_s=60.0)]
    kinds = breakdowns(cases, np.array([0.5, 1.0, math.nan]))
    assert kinds["moment_length_s"] == {
        "2 - 5": {"samples": 1, "mIoU": 50.0, "R1@0.5": 100.0},
        "5 - 10": {"samples": 1, "mIoU": 100.0, "R1@0.5": 100.0},
    }
    assert list(kinds["clip_length_s"]) == ["<= 30", "30 - 60"]
    assert list(kinds["position"]) == ["<= 0.25", "0.25 - 0.5"]


def test_ends_are_late_or_early_in_seconds():
    errors = boundary_errors_s([case(0, [(0.0, 10.0), (20.0, 30.0)], [(21.0, 28.0)]), case(1, [(0.0, 1.0)], [])])
    assert (errors["start_mean_s"], errors["end_mean_s"], errors["end_median_size_s"]) == (1.0, -2.0, 2.0)
    assert boundary_errors_s([case(0, [(0.0, 1.0)])]) == {}


def write(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return str(path)


@pytest.fixture
def files(tmp_path):
    rows = [
        {
            "video": f"v{at % 4}.mp4",
            "duration": 20.0,
            "timestamp": [at % 7, at % 7 + 5.0],
            "sentence": f"s{at}",
            "qid": at,
        }
        for at in range(40)
    ]
    good = [row | {"prediction": [row["timestamp"]]} for row in rows]
    bad = [row | {"prediction": [[row["timestamp"][0], row["timestamp"][0] + 2.0]]} for row in reversed(rows)]
    return [
        write(tmp_path / name, content) for name, content in (("gt.jsonl", rows), ("a.jsonl", bad), ("b.jsonl", good))
    ]


@pytest.mark.parametrize("preset", ["default", "timer1", "time_r1", "moment_detr", "charades_sta", "activitynet"])
def test_one_command_shows_all_that_stands_beside_a_score(files, capsys, preset):
    truth, first, second = files
    words = ["--preset", preset, "--annotations", truth, "--train", truth, "--fps", "2", "--compare", second]
    assert main([first, *words, "--json"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)["statistics"]
    assert [line for line in err.splitlines() if "ranges of lengths hold no true moment" not in line] == []
    assert report["intervals"]["mIoU"] == pytest.approx([40.0, 40.0], abs=0.01)
    assert report["compared"]["mIoU"]["difference"] == pytest.approx(60.0, abs=0.01)
    assert report["compared"]["samples"] == 40
    assert set(report["controls"]) == {"whole_video", "shuffled", "training_prior"}
    assert report["controls"]["whole_video"]["mIoU"] == pytest.approx(25.0)
    assert report["ceilings"]["on_frames"]["mIoU"] == 100.0
    assert report["ends"]["end_mean_s"] == -3.0
    assert report["ranked"]["R1@0.3"] == 100.0 != report["ranked"]["R1@0.5"]
    assert main([first, *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [
        "score",
        "95%",
        "by",
        "video",
        "whole",
        "video",
        "shuffled",
        "training",
        "prior",
        "on",
        "frames",
    ]
    assert any(line.startswith("second run less the first, 40 questions of both") for line in lines)


def test_people_are_a_ceiling_where_several_answered(capsys):
    path = SHARED / "predictions" / "hiddenmr__human_charades.json"
    if not path.exists():
        pytest.skip("needs the shared data")
    assert main([str(path), "--preset", "time_r1", "--statistics", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)["statistics"]
    assert 40 < report["ceilings"]["human"]["mIoU"] < 80
    low, high = report["intervals"]["mIoU"]
    assert low < 48.71 < high


def test_options_that_would_do_nothing_are_refused(files, capsys):
    truth, first, _ = files
    for words, said in (
        (["--preset", "all", "--statistics"], "--preset all lays presets side by side; name one of them"),
        (["--max-frames", "8"], "--max-frames 8: is at least 1, and limits --fps; give both"),
        (["--iou", "0.5", "7"], "--iou 7: an IoU is from 0 to 1"),
        (["--fps", "0"], "--fps 0.0: frames a second must be a positive number"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main([first, *words])
        assert said in capsys.readouterr().err
    other = [{"video": "z", "duration": 9.0, "timestamp": [0, 1], "sentence": "z", "qid": "z", "prediction": []}]
    path = write(Path(truth).with_name("other.jsonl"), other)
    assert main([first, "--compare", path]) == 1
    assert "the two files share no question (first: '39', 'z')" in capsys.readouterr().err
