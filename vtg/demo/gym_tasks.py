"""Rows of other tasks than spans about the gym's worlds: points, tracks, counts, questions and captions. The truth of
each is exact."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vtg.demo.gym_texts import caption, dense_caption, questions
from vtg.demo.gym_world import Kind, occurrences
from vtg.demo.world import Event, World

TASKS = ("points", "tracks", "count", "qa", "caption", "dense_caption")
"""Each split has a file of rows for each: train_points.jsonl and so on."""

# Of a track: a clip of 80 s is asked about every five seconds, in which the shortest event is seen once or not at all.
TRACK_TIMES = 16
SHORTEST_STEP_S = 1.0


@dataclass(frozen=True)
class _Shown:
    """A world as its frames show it; `frames_s` (T,) are their times."""

    world: World
    frames_s: np.ndarray

    def at(self, events: Sequence[tuple[int, Event]], time_s: float) -> list[dict[str, Any]]:
        """The points of (object id, event) that are to be seen at a time: what the last frame until then shows."""
        frame_s = float(self.frames_s[np.searchsorted(self.frames_s, time_s + 1e-9, side="right") - 1])
        points: list[dict[str, Any]] = []
        for object_id, event in events:
            if event.start_s <= frame_s < event.end_s:
                x, y = event.center(frame_s)
                points.append({"x": round(x, 4), "y": round(y, 4), "timestamp": time_s, "object_id": object_id})
        return points


def task_rows(
    world: World, rng: np.random.Generator, *, frames_s: np.ndarray, crowded: bool
) -> dict[str, list[dict[str, Any]]]:
    """Of each of `TASKS`, rows about a world, but for what names their clip and themselves.

    Args:
        frames_s: (T,) the times of the video's frames.
        crowded: the world is one of `make_gym_world`, and is asked for what needs its repetitions and look-alikes.
    """
    shown, found = _Shown(world, frames_s), occurrences(world)
    kind = list(found)[int(rng.integers(len(found)))]
    event = world.queries[int(rng.integers(len(world.queries)))]
    absent = _absent(found, rng)
    if crowded:
        points = [_instant(shown, _middle_s(event)), _appearances(shown, kind, found[kind])]
        points.append(_appearances(shown, absent, []))
        count = [_times(shown, kind, found[kind]), _times(shown, absent, []), _colours(found, kind[1])]
    else:
        points = [_instant(shown, _middle_s(event)), _place(shown, kind, found[kind][0])]
        count = [_number(shown, _middle_s(event)), _appearing(world)]
    return {
        "points": points,
        "tracks": [_tracks(shown, found, kind[1])],
        "count": count,
        "qa": questions(world, rng),
        "caption": [caption(world)],
        "dense_caption": [dense_caption(world)],
    }


def _instant(shown: _Shown, time_s: float) -> dict[str, Any]:
    """Everything that is to be seen at one time."""
    points = shown.at(list(enumerate(shown.world.queries)), time_s)
    return {"sentence": f"Point to every coloured shape at {time_s:.1f} seconds.", "label": "shapes", "points": points}


def _place(shown: _Shown, kind: Kind, event: Event) -> dict[str, Any]:
    """Where a kind is at one time."""
    name, time_s = " ".join(kind), _middle_s(event)
    sentence = f"Point to the {name} at {time_s:.1f} seconds."
    return {"sentence": sentence, "label": name, "points": shown.at([(0, event)], time_s)}


def _appearances(shown: _Shown, kind: Kind, events: list[Event]) -> dict[str, Any]:
    """A point in the middle of each appearance of a kind; Molmo2's points of what is counted are of this sort."""
    name = " ".join(kind)
    points = [point for at, event in enumerate(events) for point in shown.at([(at, event)], _middle_s(event))]
    return {"sentence": f"Point to the {name} each time it appears.", "label": name, "points": points}


def _tracks(shown: _Shown, found: dict[Kind, list[Event]], shape: str) -> dict[str, Any]:
    """All kinds of a shape at equal steps; one that comes back is the object that it was."""
    duration_s = shown.world.duration_s
    step_s = max(SHORTEST_STEP_S, _tenth(duration_s / TRACK_TIMES))
    times_s = [_tenth(step * step_s) for step in range(int(duration_s / step_s) + 1)]
    events = [(at, event) for at, kind in enumerate(found) if kind[1] == shape for event in found[kind]]
    tracks = [point for time_s in times_s if time_s < duration_s for point in shown.at(events, time_s)]
    return {
        "sentence": f"Track every coloured {shape}, every {step_s:.1f} seconds.",
        "label": f"coloured {shape}",
        "tracks": tracks,
    }


def _times(shown: _Shown, kind: Kind, events: list[Event]) -> dict[str, Any]:
    """How often a kind appears, with a point for each time."""
    made = _appearances(shown, kind, events)
    return made | {"sentence": f"How many times does the {' '.join(kind)} appear?", "count": len(made["points"])}


def _number(shown: _Shown, time_s: float) -> dict[str, Any]:
    """How many are to be seen at one time."""
    count = len(shown.at(list(enumerate(shown.world.queries)), time_s))
    return {"sentence": f"How many coloured shapes are there at {time_s:.1f} seconds?", "count": count}


def _appearing(world: World) -> dict[str, Any]:
    """How many appear in all, where each comes once."""
    return {"sentence": "How many coloured shapes appear?", "count": len(world.queries)}


def _colours(found: dict[Kind, list[Event]], shape: str) -> dict[str, Any]:
    """In how many colours a shape appears: a number alone."""
    count = sum(kind[1] == shape for kind in found)
    return {"sentence": f"In how many colours, white aside, does a {shape} appear?", "count": count}


def _absent(found: dict[Kind, list[Event]], rng: np.random.Generator) -> Kind:
    """A colour and a shape that are both in the clip, but never together; if all are, a colour that is not."""
    colors, shapes = sorted({color for color, _ in found}), sorted({shape for _, shape in found})
    apart = [(color, shape) for color in colors for shape in shapes if (color, shape) not in found]
    return apart[int(rng.integers(len(apart)))] if apart else ("orange", shapes[0])


def _middle_s(event: Event) -> float:
    return _tenth((event.start_s + event.end_s) / 2)


def _tenth(time_s: float) -> float:
    # As answers write times.
    return round(time_s, 1)
