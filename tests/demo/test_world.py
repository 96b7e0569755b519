from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtg.demo.world import COLORS, MIN_EVENT_S, SCENERY, SHAPES, Event, World, make_world, render

worlds = st.builds(
    lambda seed, duration_s, events, scenery: make_world(
        np.random.default_rng(seed), duration_s=duration_s, events=events, scenery=scenery
    ),
    seed=st.integers(0, 2**32 - 1),
    duration_s=st.floats(4.0, 60.0).map(lambda value: round(value, 2)),
    events=st.integers(1, 6),
    scenery=st.integers(0, 3),
)


def corner(event: Event) -> tuple[bool, bool]:
    return event.x > 0.5, event.y > 0.5


@given(world=worlds)
def test_events_lie_in_the_clip_and_no_two_share_a_corner_and_a_time(world):
    assert world.events
    for event in world.events:
        assert 0 <= event.start_s < event.end_s <= world.duration_s + 0.01
        assert event.end_s - event.start_s >= MIN_EVENT_S - 0.01
        assert event.color in [*COLORS, "white"] and event.shape in SHAPES
    for one, other in combinations(world.events, 2):
        if corner(one) == corner(other):
            assert one.end_s < other.start_s or other.end_s < one.start_s


@given(world=worlds)
def test_queries_are_unambiguous_and_scenery_is_not_asked_for(world):
    pairs = [(event.color, event.shape) for event in world.queries]
    assert len(set(pairs)) == len(pairs)
    assert all(color in COLORS for color, _ in pairs)
    assert sorted(world.events, key=lambda event: event.start_s) == list(world.events)


@settings(max_examples=25, deadline=None)
@given(world=worlds, size=st.sampled_from([64, 112]))
def test_an_event_is_drawn_exactly_while_start_is_reached_and_end_is_not(world, size):
    for event in world.events:
        times_s = np.array(
            [event.start_s - 1e-6, event.start_s, (event.start_s + event.end_s) / 2, event.end_s - 1e-6, event.end_s]
        )
        color = SCENERY if event.is_scenery else COLORS[event.color]
        frames = render(world, times_s, size=size)
        row, column = round(event.y * size), round(event.x * size)
        visible = (frames[:, row, column] == color).all(-1)
        assert visible.tolist() == [False, True, True, True, False]


def test_a_shape_keeps_to_its_own_corner_and_the_room_is_dim():
    event = Event("red", "square", 1.0, 2.0, 0.25, 0.75, 0.2)
    frames = render(World(3.0, (event,), seed=5), np.array([0.5, 1.5]), size=64)
    assert frames.shape == (2, 64, 64, 3) and frames.dtype == np.uint8
    changed = (frames[0] != frames[1]).any(-1)
    assert changed[32:, :32].sum() > 100
    changed[32:, :32] = False
    assert not changed.any()
    assert frames[0].max() < 110


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_world_is_the_same_picture_and_shapes_differ(shape):
    def picture(drawn: str) -> np.ndarray:
        return render(World(3.0, (Event("cyan", drawn, 0.0, 3.0, 0.25, 0.25, 0.2),), seed=1), np.array([1.0]), size=64)

    assert np.array_equal(picture(shape), picture(shape))
    assert all(not np.array_equal(picture(shape), picture(other)) for other in SHAPES if other != shape)


def test_the_seed_draws_the_world():
    def drawn(seed: int) -> World:
        return make_world(np.random.default_rng(seed), duration_s=20.0, events=4)

    assert drawn(3) == drawn(3) != drawn(4)
