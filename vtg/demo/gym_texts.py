"""Rows of questions and captions about the gym's worlds, whose truth is exact."""

from typing import Any

import numpy as np

from vtg.demo.gym_world import Kind, gap_s, occurrences
from vtg.demo.world import COLORS, SHAPES, Event, World

MOST_CHOICES = 4


def questions(world: World, rng: np.random.Generator) -> list[dict[str, Any]]:
    """What colour a shape has, in words; which of some kinds is in the clip, and which of two comes first, by choices.

    The first and the last are left out where the world has two answers to them.
    """
    found = occurrences(world)
    kinds = list(found)
    present = kinds[int(rng.integers(len(kinds)))]
    absent = [(color, shape) for color in COLORS for shape in SHAPES if (color, shape) not in found]
    others = [absent[at] for at in rng.permutation(len(absent))[: MOST_CHOICES - 1]]
    rows = [_choice("Which of these is to be seen?", [present, *others], rng)]
    # White scenery has a colour as well.
    shapes = [event.shape for event in {(e.color, e.shape): e for e in world.events}.values()]
    if single := [kind for kind in kinds if shapes.count(kind[1]) == 1]:
        color, shape = single[int(rng.integers(len(single)))]
        rows.append({"question": f"What colour is the {shape}?", "answer": color})
    starts_s = {kind: events[0].start_s for kind, events in found.items()}
    apart_s = gap_s(world.duration_s)
    pairs = [(one, other) for one in kinds for other in kinds if starts_s[other] - starts_s[one] >= apart_s]
    if pairs:
        first, second = pairs[int(rng.integers(len(pairs)))]
        rows.append(_choice("Which appears first?", [first, second], rng))
    return rows


def caption(world: World) -> dict[str, Any]:
    """What appears, in order of time."""
    return {"caption": ", then ".join(_name(event) for event in world.queries).capitalize() + "."}


def dense_caption(world: World) -> dict[str, Any]:
    """What is to be seen, each with its times."""
    return {
        "captions": [{"timestamp": [event.start_s, event.end_s], "caption": _name(event)} for event in world.queries]
    }


def _choice(question: str, kinds: list[Kind], rng: np.random.Generator) -> dict[str, Any]:
    """A question by choices, of which the first is the right one."""
    choices = [" ".join(kind) for kind in kinds]
    shuffled = [choices[at] for at in rng.permutation(len(choices))]
    return {"question": question, "choices": shuffled, "answer": choices[0]}


def _name(event: Event) -> str:
    return f"a {event.color} {event.shape}"
