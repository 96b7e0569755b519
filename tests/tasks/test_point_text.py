import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtg.annotations.point import Point
from vtg.tasks.answer import Status
from vtg.tasks.point_text import MAX_POINTS, NONE, read_points, write_points, write_tracks

shares = st.integers(0, 1000).map(lambda share: share / 1000)
times_s = st.integers(0, 600).map(lambda tenths: tenths / 10)
points = st.lists(
    st.builds(Point, shares, shares, times_s, st.integers(0, 9)),
    max_size=30,
    unique_by=lambda point: (point.at, point.object_id),
)


def test_points_have_the_text_that_molmo2_writes():
    marks = [Point(0.911, 0.8, 0.2, 7), Point(0.9, 0.4, 1.25, 3), Point(0.05, 0.07, 1.25, 5)]
    assert write_points(marks, "red cars") == '<points coords="0.2 1 911 800;1.2 2 050 070 3 900 400">red cars</points>'
    # Sorted as rounded: 0.90001 and 0.9 are one column.
    marks = [Point(0.90001, 0.8, 1, 0), Point(0.9, 0.7, 1, 1)]
    assert write_points(marks, "tmp", stills=True) == '<points coords="1 1 900 700 2 900 800">tmp</points>'


def test_tracks_keep_the_number_of_their_first_frame_and_leave_hidden_objects_out():
    # The case of Molmo2's own tests in which objects come, go, come back and change places.
    frames = [
        {3: (500, 200), 2: (200, 800), 1: (200, 100)},
        {3: (50, 50), 1: (900, 900), 5: (100, 100), 4: (60, 60)},
        {3: (999, 999), 2: (1, 1), 1: (500, 500), 5: (400, 400), 4: (450, 450), 6: (425, 425)},
    ]
    marks = [Point(x / 1000, y / 1000, at, who) for at, frame in enumerate(frames) for who, (x, y) in frame.items()]
    assert write_tracks([*marks, Point(0.5, 0.5, 3, 1, occluded=True)], "debug") == (
        '<tracks coords="0.0 1 200 100 2 200 800 3 500 200;1.0 1 900 900 3 050 050 4 060 060 5 100 100;'
        '2.0 1 500 500 2 001 001 3 999 999 4 450 450 5 400 400 6 425 425">debug</tracks>'
    )


def test_nothing_to_mark_is_a_sentence():
    assert write_points([], "cars") == write_tracks([Point(0.5, 0.5, 1, 0, occluded=True)], "cars") == NONE
    assert read_points("there are  none", duration_s=9).status == Status.NONE


@pytest.mark.parametrize("write", [write_points, write_tracks])
@given(marks=points, label=st.text())
def test_reading_what_was_written_gives_the_points_back_and_the_same_text(write, marks, label):
    text = write(marks, label)
    answer = read_points(text, duration_s=60.0)
    assert answer.status == (Status.OK if marks else Status.NONE)
    assert sorted((p.at, p.x, p.y) for p in answer.points) == sorted((p.at, p.x, p.y) for p in marks)
    # Numbers stand for the same objects.
    assert len({p.object_id for p in answer.points}) == len({p.object_id for p in marks})
    assert write(answer.points, label) == text


@pytest.mark.parametrize(
    ("text", "status", "found"),
    [
        (
            '<points alt="a car" coords="0.5 1 100 200;1 2 300 400">cars</points>',
            "ok",
            [(0.5, 0.1, 0.2), (1, 0.3, 0.4)],
        ),
        ("<POINTS coords = '0.5 1 100 200\t1.0 2 300 1000'/>", "ok", [(0.5, 0.1, 0.2), (1.0, 0.3, 1.0)]),
        (
            'Counting the <points coords="1 1 900 400">there are none</points> shows a total of 1.',
            "ok",
            [(1, 0.9, 0.4)],
        ),
        ('<points coords="1 1 5 6"> and <points coords="2 2 7 8">', "ok", [(1, 0.005, 0.006), (2, 0.007, 0.008)]),
        ('<points coords="9.4 1 100 100">', "ok", [(9.0, 0.1, 0.1)]),
        ('<points coords="9.6 1 100 100;1 1 100 100">', "out_of_range", [(1, 0.1, 0.1)]),
        ('<points coords="1 1 1001 100 2 100 100">', "out_of_range", [(1, 0.1, 0.1)]),
        ("There are none.", "none", []),
        ('<points coords="0.5 1 100 20', "malformed", []),  # cut off
        ('<points coords="0.5 1 100">cars</points>', "malformed", []),
        ('<points coords="0.5 1 x 100">cars</points>', "malformed", []),
        ('<points coords="">cars</points>', "malformed", []),
        ('<points coords="' + ";".join(["1 1 1 1"] * (MAX_POINTS + 1)) + '">', "malformed", []),
        ("1 500 500", "malformed", []),
        ("", "malformed", []),
    ],
)
def test_the_status_says_what_became_of_an_answer(text, status, found):
    answer = read_points(text, duration_s=9.0)
    assert (answer.status, [(p.at, p.x, p.y) for p in answer.points]) == (status, found)


@given(st.lists(st.sampled_from(['<points coords="', '">', "1 2 300 400", ";", "</points>", "9" * 30, "\u0661", " "])))
def test_no_text_makes_it_fail(pieces):
    answer = read_points("".join(pieces), duration_s=60.0)
    assert answer.is_read == (bool(answer.points) or answer.status == Status.NONE)


@pytest.mark.parametrize("piece", ["<points ", '<points coords="', "coords = ", '">', "1 1 1 1;", "9", " "])
def test_reading_a_repeated_text_takes_no_longer_than_its_length(piece):
    # A square of the length would be minutes.
    started = time.thread_time()
    read_points(f'<points coords="{piece * (300_000 // len(piece))}', duration_s=9.0)
    assert time.thread_time() - started < 5
