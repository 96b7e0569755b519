from itertools import combinations

import numpy as np
from gym_reader import answer, appearances
from hypothesis import given, settings
from hypothesis import strategies as st

from vtg.demo.gym_queries import MOST, gym_queries
from vtg.demo.gym_world import SHORTEST_SHARE, gap_s, make_gym_world, occurrences
from vtg.demo.world import Event, World, render

worlds = st.builds(
    lambda seed, duration_s: make_gym_world(np.random.default_rng(seed), duration_s=duration_s),
    seed=st.integers(0, 2**32 - 1),
    duration_s=st.floats(20.0, 120.0).map(lambda value: round(value, 3)),
)


def corner(event: Event) -> tuple[bool, bool]:
    return event.x > 0.5, event.y > 0.5


@given(world=worlds)
def test_events_lie_in_the_clip_and_those_of_a_kind_can_be_told_apart(world):
    for event in world.events:
        assert 0 <= event.start_s < event.end_s <= world.duration_s
        assert event.end_s - event.start_s >= SHORTEST_SHARE * world.duration_s - 0.02
    for one, other in combinations(world.events, 2):
        apart_s = other.start_s - one.end_s  # sorted by start
        if (one.color, one.shape) == (other.color, other.shape):
            assert apart_s >= gap_s(world.duration_s)
        elif corner(one) == corner(other):
            assert apart_s >= 0.5


def test_worlds_have_what_makes_the_set_hard():
    made = [make_gym_world(np.random.default_rng(seed), duration_s=60.0) for seed in range(200)]
    repeated = [max(map(len, occurrences(world).values())) for world in made]
    assert np.mean([count >= 2 for count in repeated]) > 0.9 and max(repeated) == 3
    assert all(any(event.is_scenery for event in world.events) for world in made)
    # Colours and shapes repeat among the kinds of a clip: neither alone finds an event.
    kinds = [list(occurrences(world)) for world in made]
    alike = [any((a[0] == b[0]) != (a[1] == b[1]) for a, b in combinations(one, 2)) for one in kinds]
    assert np.mean(alike) > 0.95
    overlaps = [
        any(b.start_s < a.end_s for a, b in combinations(world.queries, 2) if a.start_s <= b.start_s) for world in made
    ]
    assert np.mean(overlaps) > 0.9


@settings(max_examples=15, deadline=None)
@given(world=worlds, seed=st.integers(0, 2**32 - 1))
def test_every_question_has_the_answer_that_its_words_have_in_the_pixels(world, seed):
    times_s = np.arange(0, world.duration_s, 0.5)
    found = appearances(render(world, times_s, size=64))
    for query in gym_queries(world, np.random.default_rng(seed)):
        moments = [(times_s >= start_s) & (times_s < end_s) for start_s, end_s in query.spans]
        expected = answer(query.sentence, found)
        assert len(moments) == len(expected), query
        assert all(np.array_equal(*pair) for pair in zip(moments, expected, strict=True)), query


@given(world=worlds, seed=st.integers(0, 2**32 - 1))
def test_questions_are_few_of_a_form_and_none_is_asked_twice(world, seed):
    queries = gym_queries(world, np.random.default_rng(seed))
    assert len({query.sentence for query in queries}) == len(queries)
    for form, most in MOST.items():
        counts = [len(query.spans) for query in queries if query.form == form]
        assert len(counts) <= most
        wanted = {"every": range(2, 4), "none": range(1)}.get(form, range(1, 2))
        assert all(count in wanted for count in counts), (form, counts)


def test_an_event_that_overlaps_another_is_neither_before_nor_after_it():
    blue = Event("blue", "cross", 20.0, 30.0, 0.25, 0.25, 0.18)
    red = Event("red", "circle", 5.0, 21.0, 0.75, 0.75, 0.18)
    world = World(60.0, (red, blue), seed=0)
    sentences = [q.sentence for seed in range(20) for q in gym_queries(world, np.random.default_rng(seed))]
    assert sentences and not any("before" in sentence or "after" in sentence for sentence in sentences)


def test_each_form_of_question_is_drawn():
    forms = [
        query.form
        for seed in range(10)
        for query in gym_queries(
            make_gym_world(np.random.default_rng(seed), duration_s=60.0), np.random.default_rng(seed)
        )
    ]
    assert {form: forms.count(form) > 5 for form in MOST} == dict.fromkeys(MOST, True)
