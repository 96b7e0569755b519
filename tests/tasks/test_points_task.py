import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtg.annotations.point import Point
from vtg.annotations.point_targets import Count, Points, Tracks
from vtg.annotations.sample import Sample
from vtg.config.task_settings import TaskConfig
from vtg.tasks.answer import Status
from vtg.tasks.count_task import CountTask, read_count
from vtg.tasks.points_task import PointsTask, TracksTask
from vtg.tasks.task import Reading

CARS = (Point(0.25, 0.31, 0.5, 4), Point(0.64, 0.118, 0.5, 2), Point(0.26, 0.3, 1.0, 4))
TASKS = [(PointsTask, Points), (TracksTask, Tracks), (CountTask, Count)]


def sample(target, query="Point to the red cars."):
    return Sample(video="a.mp4", duration_s=9.0, target=target, query=query, qid="1")


def predicted(task, asked, text):
    reading = task.read(text, asked)
    return asked.row() | asked.target.row() | {"prediction": reading.value, "status": reading.status, "text": text}


def target(kind, points=CARS):
    return Count(len({point.object_id for point in points})) if kind is Count else kind(points, "red cars")


@pytest.mark.parametrize(("made", "kind"), TASKS)
def test_the_target_scores_everything_and_what_cannot_be_read_nothing(made, kind):
    task = made(TaskConfig())
    for points in (CARS, ()):
        asked = sample(target(kind, points))
        text = task.write(asked)
        assert task.reward(task.read(text, asked), asked) == 1
        right, wrong = predicted(task, asked, text), predicted(task, asked, "over there")
        scores = task.metrics([right])
        assert scores[task.headline] == 100 and scores["parse_failures"] == 0
        assert task.metrics([right, wrong])[task.headline] == 50
        assert task.metrics([wrong]) == dict.fromkeys(scores, 0.0) | {"parse_failures": 100, "samples": 1}
        assert task.reward(task.read("over there", asked), asked) == 0


@pytest.mark.parametrize(("made", "kind"), TASKS)
@given(
    text=st.text() | st.lists(st.sampled_from(['<points coords="', "1 1 500 500", '">', "three", " 4 "])).map("".join)
)
def test_every_text_has_a_finite_reward_and_a_value_that_metrics_take(made, kind, text):
    task, asked = made(TaskConfig()), sample(target(kind))
    reward = task.reward(task.read(text, asked), asked)
    assert math.isfinite(reward) and 0 <= reward <= 1
    assert all(map(math.isfinite, task.metrics([predicted(task, asked, text)]).values()))


def test_the_question_is_the_row_s_own_first_with_the_form_of_its_answer():
    asked, plain = TracksTask(TaskConfig()).prompts(sample(target(Tracks)))
    assert asked.startswith('Point to the red cars\nAnswer as <tracks coords="t id x y id x y;t id x y">label</tracks>')
    assert plain == "Point to the red cars"


def test_an_answer_is_labelled_as_the_row_says_or_in_the_words_of_the_question():
    task, point = PointsTask(TaskConfig()), Point(0.5, 0.5, 1, 0)
    assert task.write(sample(Points((point,), "a car"))) == '<points coords="1.0 1 500 500">a car</points>'
    assert task.write(sample(Points((point,)))) == '<points coords="1.0 1 500 500">Point to the red cars</points>'


def test_hidden_objects_are_neither_written_nor_missed():
    task, hidden = TracksTask(TaskConfig()), Point(0.9, 0.9, 2.0, 4, occluded=True)
    asked = sample(Tracks((*CARS, hidden)))
    assert task.metrics([predicted(task, asked, task.write(asked))])["HOTA"] == 100


def test_an_object_named_twice_at_one_time_is_two_points_and_one_track():
    text = '<points coords="0.5 1 250 310 1 640 118;1.0 2 260 300">cars</points>'
    for made, kind, headline in ((PointsTask, Points, 100), (TracksTask, Tracks, None)):
        scores = made(TaskConfig()).metrics([predicted(made(TaskConfig()), sample(target(kind)), text)])
        assert (scores["F1"] == headline) if headline else (scores["DetA"] == pytest.approx(200 / 3))


def test_a_nearer_point_is_worth_more():
    task, asked = PointsTask(TaskConfig()), sample(Points((Point(0.5, 0.5, 1, 0),)))
    rewards = [
        task.reward(task.read(f'<points coords="1 1 {x} 500">', asked), asked) for x in (500, 520, 600, 700, 900)
    ]
    assert rewards == [1.0, 0.8, 0.4, 0.2, 0.0]


def test_counted_points_are_shown_before_the_total():
    asked = sample(Count(2, Points(CARS[:2], "red cars")), query="How many red cars are there?")
    text = CountTask(TaskConfig()).write(asked)
    assert text == 'Counting the <points coords="0.5 1 250 310 2 640 118">red cars</points> shows a total of 2.'
    assert read_count(text) == 2


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("3", 3),
        (" 3.\n", 3),
        ("There are three dogs.", 3),
        ("There are none.", 0),
        ("0", 0),
        ("The 2 cats and 3 dogs make a total of 5.", 5),
        ('There are 3 <points coords="1 1 100 100">2 red cars</points>.', 3),
        ('<points coords="1 1 100 100 2 300 300;2 2 310 310">cars</points>', 2),
        ("3 or 4", None),
        ("3, 3 of them", 3),
        ("-3", None),
        ("1,200", None),
        ("2.5", None),
        ("1234567", None),
        ("a total of many", None),
        ("", None),
    ],
)
def test_a_count_is_the_total_the_only_number_or_the_objects_pointed_at(text, count):
    assert read_count(text) == count


def test_counts_are_scored_exactly_within_one_and_by_molmo2s_margin():
    rows = [
        {"count": true, "prediction": said, "status": Status.OK} for true, said in ((3, 3), (3, 4), (40, 43), (3, None))
    ]
    scores = CountTask(TaskConfig()).metrics(rows)
    assert (scores["accuracy"], scores["within_1"], scores["close"]) == (25, 50, 75)
    asked = sample(Count(3))
    assert [CountTask(TaskConfig()).reward(Reading(said, Status.OK, ""), asked) for said in (3, 2, 5)] == [
        1,
        1 / 2,
        1 / 3,
    ]
