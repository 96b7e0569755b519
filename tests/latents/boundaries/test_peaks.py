"""Peaks of a signal, and how many of them are true boundaries, by hand."""

import numpy as np
import pytest

from vtg.latents.boundaries.peaks import BoundaryCounts, pick_peaks, uniform_cuts

TIMES_S = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 4.0])


def picked(scores, **settings) -> list[int]:
    return pick_peaks(TIMES_S, np.array(scores, dtype=float), **settings).tolist()


def test_peaks_are_above_the_threshold_and_the_higher_of_near_ones_stays():
    scores = [1, 3, 5, 4, 2, 2.5]
    assert picked(scores, threshold=2, min_gap_s=0) == [1, 2, 3, 5]
    assert picked(scores, threshold=2, min_gap_s=0.5) == [1, 2, 3, 5]
    assert picked(scores, threshold=2, min_gap_s=0.6) == [2, 5]
    # 2.0 s is a second after the peak at 1.0 s, far enough though 1.5 s, in between, gave way.
    assert picked(scores, threshold=1, min_gap_s=1.0) == [2, 4, 5]
    assert picked([2] * 6, threshold=2, min_gap_s=0) == []


def test_what_is_left_has_no_two_nearer_than_the_gap_and_nothing_could_be_added():
    rng = np.random.default_rng(0)
    times_s, scores = np.cumsum(rng.uniform(0.05, 0.5, 200)), rng.uniform(0, 2, 200)
    chosen = pick_peaks(times_s, scores, threshold=0.8, min_gap_s=0.7)
    assert np.diff(times_s[chosen]).min() >= 0.7 and scores[chosen].min() > 0.8
    for at in set(np.flatnonzero(scores > 0.8).tolist()) - set(chosen.tolist()):
        near = chosen[abs(times_s[chosen] - times_s[at]) < 0.7]
        assert scores[near].max() > scores[at]


@pytest.mark.parametrize(
    ("found", "true", "hits"),
    [
        ([1.0, 2.0], [1.5, 2.5], 2),  # both ends of the tolerance count
        ([1.0, 2.0], [1.51], 1),
        ([1.0, 1.1, 1.2], [1.1], 1),  # a true one is found once
        ([1.1], [1.0, 1.2], 1),
        # The first takes 0.6, though 1.0 is as near: 1.4 reaches 1.0 alone.
        ([0.8, 1.4], [0.6, 1.0], 2),
        ([], [1.0], 0),
        ([1.0], [], 0),
        ([], [], 0),
    ],
)
def test_boundaries_are_matched_one_to_one(found, true, hits):
    counts = BoundaryCounts.of(found, true, tolerance_s=0.5)
    assert counts == BoundaryCounts(len(found), len(true), hits)


def test_precision_recall_and_f1_are_those_of_all_videos_together():
    total = sum((BoundaryCounts(4, 5, 3), BoundaryCounts(1, 5, 1)), BoundaryCounts())
    assert total == BoundaryCounts(5, 10, 4)
    assert (total.precision, total.recall, total.f1) == (0.8, 0.4, pytest.approx(2 * 0.8 * 0.4 / 1.2))
    assert (BoundaryCounts().precision, BoundaryCounts().recall, BoundaryCounts().f1) == (0, 0, 0)


def test_uniform_cuts_part_a_video_evenly():
    assert uniform_cuts(3, 8.0) == [2.0, 4.0, 6.0]
    assert uniform_cuts(0, 8.0) == []
