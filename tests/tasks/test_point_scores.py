import pytest

from vtg.annotations.point import Point
from vtg.tasks.point_scores import point_agreement, track_agreement


def track(object_id, times, *, x=0.2, y=0.2):
    return [Point(x, y, at, object_id) for at in times]


def test_points_count_where_they_are_near_in_the_same_frame():
    true = [Point(0.2, 0.2, 1.0, 0), Point(0.8, 0.8, 1.0, 1), Point(0.8, 0.8, 2.0, 2)]
    predicted = [Point(0.25, 0.2, 1.2, 9), Point(0.8, 0.87, 1.0, 9), Point(0.8, 0.8, 3.0, 9)]
    agreement = point_agreement(predicted, true)
    assert (agreement.precision, agreement.recall, agreement.f1) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert point_agreement(true, true).f1 == point_agreement([], []).f1 == 1
    assert point_agreement([], true).f1 == point_agreement(true, []).f1 == 0


def test_a_true_point_is_found_once():
    assert point_agreement([Point(0.5, 0.5, 1, at) for at in range(4)], [Point(0.5, 0.5, 1, 0)]).precision == 0.25


def test_hota_tells_a_track_that_is_lost_from_one_that_takes_the_number_of_another():
    true = track(0, [0, 1, 2, 3]) + track(1, [0, 1, 2, 3], x=0.8)
    half = track(5, [0, 1]) + track(6, [0, 1], x=0.8)
    swapped = track(5, [0, 1]) + track(6, [2, 3]) + track(6, [0, 1], x=0.8) + track(5, [2, 3], x=0.8)
    assert track_agreement(true, true).hota == track_agreement([], []).hota == 1
    lost = track_agreement(half, true)
    assert (lost.detection, lost.association, lost.points.f1) == pytest.approx((0.5, 0.5, 0.5))
    # Every point is found; each pair agrees in 2 of the 6 frames that either has.
    mixed = track_agreement(swapped, true)
    assert (mixed.detection, mixed.association, mixed.points.f1) == pytest.approx((1, 1 / 3, 1))
    assert mixed.hota == pytest.approx((1 / 3) ** 0.5)
    assert track_agreement(true, []).hota == track_agreement([], true).hota == 0


def test_a_frame_in_which_neither_sees_anything_is_none_and_a_second_point_of_a_track_counts_once():
    true = track(0, [0, 1])
    agreement = track_agreement([*true, Point(0.9, 0.9, 1.0, 0)], true)
    assert (agreement.hota, agreement.points.precision) == (1, 1)
