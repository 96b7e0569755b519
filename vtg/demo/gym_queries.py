"""What the gym asks about a world, and the exact moments of the answer: none, one or several.

Every question has one reading. Where English leaves two (does "after" count from the start or the end of the other
event?), it is asked only of worlds in which both give the same moment.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vtg.annotations.target import Span
from vtg.demo.gym_world import Kind, gap_s, occurrences
from vtg.demo.world import Event, World

ONCE = ("the {kind}", "a {kind} is visible", "the {kind} can be seen")
NTH = ("the {nth} time the {kind} appears", "the {nth} {kind}")
ORDER = ("the {kind} {order} the {other}", "{order} the {other}, the {kind}")
EVERY = ("every time the {kind} appears", "every {kind}")
ORDINALS = ("first", "second", "third", "fourth")

MOST = {"once": 2, "nth": 3, "order": 3, "every": 1, "none": 2}
"""Of each form of question, at most so many about a clip: no form is most of the set."""


@dataclass(frozen=True, slots=True)
class GymQuery:
    """A question and its moments in seconds, sorted; none where what is asked for does not happen.

    `form`: a key of `MOST`.
    """

    form: str
    sentence: str
    spans: tuple[Span, ...]


def gym_queries(world: World, rng: np.random.Generator) -> list[GymQuery]:
    """Questions about a world, at most `MOST` of a form, each sentence once."""
    by_form: dict[str, list[GymQuery]] = {form: [] for form in MOST}
    for query in _possible(world, rng):
        by_form[query.form].append(query)
    chosen = [
        queries[at] for form, queries in by_form.items() for at in rng.permutation(len(queries))[: MOST[form]].tolist()
    ]
    return list({query.sentence: query for query in chosen}.values())


def _possible(world: World, rng: np.random.Generator) -> Iterator[GymQuery]:
    found = occurrences(world)
    for kind, events in found.items():
        if len(events) == 1:
            yield GymQuery("once", _sentence(rng, ONCE, kind), _spans(events))
            continue
        for at, event in enumerate(events):
            yield GymQuery("nth", _sentence(rng, NTH, kind, nth=ORDINALS[at]), _spans([event]))
        yield GymQuery("nth", _sentence(rng, NTH, kind, nth="last"), _spans(events[-1:]))
        yield GymQuery("every", _sentence(rng, EVERY, kind), _spans(events))
        # Counting to what does not come: the shape is there, only not as often.
        yield GymQuery("none", _sentence(rng, NTH, kind, nth=ORDINALS[len(events)]), ())
    yield from _orders(world, found, rng)
    # Look-alikes: colour and shape are both in the clip, but never together.
    for color in sorted({color for color, _ in found}):
        for shape in sorted({shape for _, shape in found}):
            if (color, shape) not in found:
                yield GymQuery("none", _sentence(rng, ONCE, (color, shape)), ())


def _orders(world: World, found: dict[Kind, list[Event]], rng: np.random.Generator) -> Iterator[GymQuery]:
    """Questions for the event of a kind before or after the only event of another kind."""
    apart_s = gap_s(world.duration_s)
    for other, marks in found.items():
        for kind, events in found.items():
            if kind == other or len(marks) > 1:
                continue
            (mark,) = marks
            before = [event for event in events if event.end_s + apart_s <= mark.start_s]
            after = [event for event in events if event.start_s >= mark.end_s + apart_s]
            # An event that overlaps the other one is before or after it to nobody's certainty.
            if len(before) + len(after) < len(events):
                continue
            for order, there in (("before", before), ("after", after)):
                if len(there) <= 1:
                    form = "order" if there else "none"
                    sentence = _sentence(rng, ORDER, kind, order=order, other=" ".join(other))
                    yield GymQuery(form, sentence, _spans(there))


def _sentence(rng: np.random.Generator, templates: tuple[str, ...], kind: Kind, **words: str) -> str:
    return str(rng.choice(templates)).format(kind=" ".join(kind), **words)


def _spans(events: list[Event]) -> tuple[Span, ...]:
    return tuple((event.start_s, event.end_s) for event in events)
