"""Worlds of the gym: longer than the demo's, with shapes that come back, overlap and look alike.

A kind is a colour and a shape. Some kinds appear once, others two or three times; the kinds of a clip share three
colours and three shapes, so that a colour or a shape alone finds nothing.
"""

import math

import numpy as np

from vtg.demo.world import COLORS, SHAPES, Event, World

Kind = tuple[str, str]
"""Colour and shape."""

# Of a clip. A clip of 120 s is seen in 32 to 64 frames, one each 2 to 4 s: shorter events would fall between them.
SHORTEST_SHARE = 0.05
LONGEST_SHARE = 0.3
GAP_SHARE = 0.04
MIN_GAP_S = 1.0


def gap_s(duration_s: float) -> float:
    """The least time between two events that a question tells apart: two of one kind, or one after another."""
    return max(MIN_GAP_S, GAP_SHARE * duration_s)


def make_gym_world(rng: np.random.Generator, *, duration_s: float) -> World:
    """A random world of `duration_s` seconds: 4 to 6 kinds, 7 to 12 events of them, 1 to 3 of scenery."""
    colors = rng.choice(list(COLORS), 3, replace=False)
    shapes = rng.choice(SHAPES, 3, replace=False)
    grid = [(str(color), str(shape)) for color in colors for shape in shapes]
    kinds = [grid[at] for at in rng.permutation(len(grid))[: int(rng.integers(4, 7))]]
    # One that appears once and one that comes back are in every clip; every form of question needs either.
    times = [1, int(rng.integers(2, 4)), *(int(rng.choice([1, 1, 2, 3])) for _ in kinds[2:])]
    wanted: list[Kind] = [kind for kind, count in zip(kinds, times, strict=True) for _ in range(count)]
    wanted += [("white", str(rng.choice(SHAPES))) for _ in range(int(rng.integers(1, 4)))]
    placed: list[Event] = []
    for kind in wanted:
        # A crowded world has room for no more: after 50 draws it has one event fewer.
        for _ in range(50):
            event = _event(rng, kind, duration_s)
            if not any(_clash(event, other, duration_s) for other in placed):
                placed.append(event)
                break
    return World(duration_s, tuple(sorted(placed, key=lambda event: event.start_s)), int(rng.integers(2**31)))


def occurrences(world: World) -> dict[Kind, list[Event]]:
    """The events of each kind that can be asked for, in order of time."""
    found: dict[Kind, list[Event]] = {}
    for event in world.queries:
        found.setdefault((event.color, event.shape), []).append(event)
    return found


def _event(rng: np.random.Generator, kind: Kind, duration_s: float) -> Event:
    # Log-uniform: short moments, which are the hard ones, are as frequent as long ones.
    share = math.exp(rng.uniform(math.log(SHORTEST_SHARE), math.log(LONGEST_SHARE)))
    length_s = share * duration_s
    start_s = round(float(rng.uniform(0, duration_s - length_s)), 2)
    end_s = min(round(start_s + length_s, 2), duration_s)
    corner = int(rng.integers(4))
    x, y = (float(0.25 + 0.5 * side + rng.uniform(-0.03, 0.03)) for side in (corner % 2, corner // 2))
    return Event(*kind, start_s, end_s, x, y, radius=float(rng.uniform(0.16, 0.2)))


def _clash(one: Event, other: Event, duration_s: float) -> bool:
    """Whether two events must not be in one world: in one corner, or of one kind, and too close in time."""
    same_kind = (one.color, one.shape) == (other.color, other.shape)
    same_corner = (one.x > 0.5, one.y > 0.5) == (other.x > 0.5, other.y > 0.5)
    # In a corner half a second parts them, as in the demo; a question must be able to tell two of a kind apart.
    apart_s = gap_s(duration_s) if same_kind else 0.5
    near = one.start_s < other.end_s + apart_s and other.start_s < one.end_s + apart_s
    return near and (same_kind or same_corner)
