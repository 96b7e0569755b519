import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtg.annotations.point import Point
from vtg.annotations.point_targets import MOST_POINTS, Count, Points, Tracks
from vtg.annotations.row_target import RowFault

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["x", "y", "timestamp", "object_id", "image", "occluded"]), inner, max_size=6)
    ),
)
shares, ids = st.floats(0, 1), st.integers(0, 5)
unique = {"unique_by": lambda point: (point.at, point.object_id), "max_size": 9}
timed = st.lists(st.builds(Point, shares, shares, st.floats(0, 9), ids, st.booleans()), **unique)
still = st.lists(st.builds(Point, shares, shares, st.integers(1, 9).map(float), ids), min_size=1, **unique)
labels = st.none() | st.text(min_size=1).filter(str.strip)


def marked(kind):
    return st.builds(kind, timed.map(tuple), labels) | st.builds(kind, still.map(tuple), labels, st.just(True))


counted = marked(Points).map(lambda points: Count(len({point.object_id for point in points.points}), points))


@given(marked(Points) | marked(Tracks) | counted | st.builds(Count, st.integers(0, 99)))
def test_the_row_of_a_target_gives_it_back(target):
    assert type(target).of_row(target.row(), duration_s=9.0) == target


def test_a_row_as_it_is_published_is_read():
    row = {
        "points": [
            {"x": 0.5, "y": 0.3, "timestamp": 1.2, "object_id": 0},
            {"x": 0.5, "y": 0.3, "timestamp": 1.4, "object_id": 0},
        ]
    }
    assert Points.of_row(row, duration_s=9.0) == Points((Point(0.5, 0.3, 1.2, 0), Point(0.5, 0.3, 1.4, 0)))
    # Of a picture: no times, and every point an object of its own.
    row = {"points": [{"x": 0, "y": 1}, {"x": 1, "y": 0, "image": 1}], "label": "cats"}
    assert Points.of_row(row, duration_s=2.0) == Points((Point(0, 1, 1, 0), Point(1, 0, 2, 1)), "cats", stills=True)
    # A time in the last frame, rounded up.
    assert Points.of_row({"points": [{"x": 0, "y": 0, "timestamp": 9.05}]}, duration_s=9.0).points[0].at == 9.0


GOOD = {"x": 0.5, "y": 0.5, "timestamp": 1.0, "object_id": 0}


@pytest.mark.parametrize(
    ("target", "row", "kind", "message"),
    [
        (
            Points,
            {"points": "x"},
            "points-type",
            "points: must be a list of points {x, y, timestamp, object_id}, not the",
        ),
        (Points, {"points": [7]}, "points-type", r"points\[0\]: must be an object with x and y, not 7"),
        (
            Points,
            {"points": [GOOD | {"x": 1.2}]},
            "points-outside",
            r"points\[0\].x: 1.2 is outside the frame; give a share",
        ),
        (
            Points,
            {"points": [GOOD | {"y": "1"}]},
            "points-type",
            r"points\[0\].y: must be a number, not the string '1'",
        ),
        (
            Points,
            {"points": [GOOD | {"timestamp": 9.2}]},
            "points-time",
            "9.2 s is outside the clip of 9 s; give times",
        ),
        (
            Points,
            {"points": [GOOD, {"x": 0, "y": 0, "object_id": 1}]},
            "points-time",
            r"points\[1\].timestamp: is missing",
        ),
        (
            Points,
            {"points": [GOOD, {"x": 0, "y": 0, "timestamp": 1}]},
            "points-type",
            r"points\[1\].object_id: must be a whole",
        ),
        (
            Points,
            {"points": [GOOD, GOOD | {"x": 0}]},
            "points-twice",
            "object 0 has a place at 1 already; give it one,",
        ),
        (
            Points,
            {"points": [GOOD | {"occluded": 1}]},
            "points-type",
            r"points\[0\].occluded: must be true or false, not 1",
        ),
        (Points, {"points": [], "label": " "}, "label-empty", "label: is empty"),
        (Points, {"points": [GOOD] * (MOST_POINTS + 1)}, "points-many", "holds 4097 points, the most is 4096"),
        (
            Tracks,
            {"tracks": [{"x": 0, "y": 0, "timestamp": 1}]},
            "tracks-type",
            r"tracks\[0\].object_id: must be a whole",
        ),
        (Tracks, {}, "tracks-type", "tracks: must be a list of points .*, not null"),
        (Count, {"count": True}, "count-type", "count: must be a whole number, not true"),
        (Count, {"count": -1}, "count-range", "count: must be from 0 to 999999, not -1"),
        (Count, {"count": 2, "points": [GOOD]}, "count-points", "count: is 2, but points has 1 objects; correct one"),
    ],
)
def test_what_is_wrong_with_a_row_is_named(target, row, kind, message):
    with pytest.raises(RowFault, match=message) as error:
        target.of_row(row, duration_s=9.0)
    assert error.value.kind == kind


@given(st.sampled_from([Points, Tracks, Count]), json_values | st.lists(json_values), json_values, json_values)
def test_no_values_make_it_fail_otherwise(target, points, count, label):
    try:
        made = target.of_row({"points": points, "tracks": points, "count": count, "label": label}, duration_s=9.0)
    except RowFault as fault:
        assert fault.field.partition("[")[0] in ("points", "tracks", "count", "label")
    else:
        assert target.of_row(made.row(), duration_s=9.0) == made
