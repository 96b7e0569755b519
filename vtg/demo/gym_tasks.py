"""Rows of other tasks than spans about the gym's worlds: points, tracks and counts, whose truth is exact."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vtg.demo.gym_world import Kind, occurrences
from vtg.demo.world import Event, World

TASKS = ("points", "tracks", "count")
"""Each split has a file of rows for each: train_points.jsonl and so on."""

# Of a track: a clip of 80 s is asked about every five seconds, in which the shortest event is seen once or not at all.
TRACK_TIMES = 16


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


def task_rows(world: World, rng: np.random.Generator, *, frames_s: np.ndarray) -> dict[str, list[dict[str, Any]]]:
    """Of each of `TASKS`, rows about a world, but for what names their clip and themselves.

    Args:
        frames_s: (T,) the times of the video's frames.
    """
    shown, found = _Shown(world, frames_s), occurrences(world)
    kind = list(found)[int(rng.integers(len(found)))]
    event = world.queries[int(rng.integers(len(world.queries)))]
    absent = _absent(found, rng)
    return {
        "points": [
            _instant(shown, _middle_s(event)),
            _appearances(shown, kind, found[kind]),
            _appearances(shown, absent, []),
        ],
        "tracks": [_tracks(shown, found, kind[1])],
        "count": [_times(shown, kind, found[kind]), _times(shown, absent, []), _colours(found, kind[1])],
    }


def _instant(shown: _Shown, time_s: float) -> dict[str, Any]:
    """Everything that is to be seen at one time."""
    points = shown.at(list(enumerate(shown.world.queries)), time_s)
    return {"sentence": f"Point to every coloured shape at {time_s:.1f} seconds.", "label": "shapes", "points": points}


def _appearances(shown: _Shown, kind: Kind, events: list[Event]) -> dict[str, Any]:
    """A point in the middle of each appearance of a kind; Molmo2's points of what is counted are of this sort."""
    name = " ".join(kind)
    points = [point for at, event in enumerate(events) for point in shown.at([(at, event)], _middle_s(event))]
    return {"sentence": f"Point to the {name} each time it appears.", "label": name, "points": points}


def _tracks(shown: _Shown, found: dict[Kind, list[Event]], shape: str) -> dict[str, Any]:
    """All kinds of a shape at equal steps; one that comes back is the object that it was."""
    duration_s = shown.world.duration_s
    step_s = max(0.1, _tenth(duration_s / TRACK_TIMES))
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
