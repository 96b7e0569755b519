"""Points and tracks as text, in Molmo2's form (`html-v2` of its code, arXiv 2601.10611), and back.

    <points coords="0.5 1 250 310 2 640 118;1.0 3 255 300">red cars</points>
    <tracks coords="0.5 1 250 310 2 640 118;1.0 1 255 300 2 633 120">red cars</tracks>

A group for each time, in order: the time in seconds with one decimal, then a number, x and y for each point. The number
tells objects apart: from 1, in order of their first times, then x, then y. x and y are thousandths of the frame, three
digits at least. Points of a group are in order of x, then y; those of tracks by number. Still pictures have no times:
their number, from 1, stands in its place. Objects that are hidden are left out. Where nothing is left, the answer is
`There are none.`
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from vtg.annotations.point import Point
from vtg.tasks.answer import TOLERANCE_S, Status

NONE = "There are none."
"""The answer where nothing is to be marked, as Molmo2 writes it."""

SCALE = 1000

# A model that repeats itself fills its answer with points, and some of very many always hit: more are `malformed`.
MAX_POINTS = 4096

_ELEMENT = re.compile(r"<(?:points|tracks)\b([^<>]*)>", re.IGNORECASE)
_COORDS = re.compile(r"""\bcoords\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
# Molmo2 parted groups by tabs in pretraining (`html-v1`), and its parser takes all of these.
_GROUPS = re.compile(r"[;\t:,]")
_TIME = re.compile(r"[0-9]{1,9}(?:\.[0-9]{0,9})?")
_NUMBER = re.compile(r"[0-9]{1,6}")
_PLACE = re.compile(r"[0-9]{1,4}")


@dataclass(frozen=True, slots=True)
class PointAnswer:
    """A parsed answer.

    - `ok`: all points that it names are in the frame and the clip;
    - `none`: it says that there are none;
    - `out_of_range`: some point is not; `points` are the others;
    - `malformed`: it has no points that can be read, or too many; no `points`.

    `object_id` of the points is the number that the answer gives them.
    """

    points: tuple[Point, ...]
    status: Status

    @property
    def is_read(self) -> bool:
        """Whether it says where something is, or that nothing is there."""
        return bool(self.points) or self.status == Status.NONE


def write_points(points: Iterable[Point], label: str, *, stills: bool = False) -> str:
    """Points as text. `stills`: the clip is of still pictures, whose numbers stand in place of times."""
    groups = [(time, sorted(group, key=lambda mark: mark[1:])) for time, group in _numbered(points, stills=stills)]
    return _element("points", groups, label)


def write_tracks(points: Iterable[Point], label: str, *, stills: bool = False) -> str:
    """The points of tracks as text."""
    groups = [(time, sorted(group)) for time, group in _numbered(points, stills=stills)]
    return _element("tracks", groups, label)


def read_points(text: str, *, duration_s: float, stills: bool = False) -> PointAnswer:
    """The points or tracks that an answer names. Never raises on a text, and takes time linear in its length.

    Args:
        duration_s: of the clip. stills: it is of still pictures, of which it is the number.
    """
    lists = [found for element in _ELEMENT.finditer(text) if (found := _COORDS.search(element[1]))]
    if not lists:
        return PointAnswer((), Status.NONE if says_none(text) else Status.MALFORMED)
    # Before they are made points: too many are not worth it.
    groups = [group.split() for found in lists for group in _GROUPS.split(found[1] or found[2] or "") if group.strip()]
    count = sum(len(group) // 3 for group in groups)
    if not 0 < count <= MAX_POINTS or not all(map(_is_group, groups)):
        return PointAnswer((), Status.MALFORMED)
    points = tuple(_points(groups, duration_s=duration_s, stills=stills))
    return PointAnswer(points, Status.OK if len(points) == count else Status.OUT_OF_RANGE)


def says_none(text: str) -> bool:
    """Whether a text says that there are none, in any case and spacing."""
    # Split, not matched: white space of any length stays linear in the text.
    return "there are none" in " ".join(text.lower().split())


Mark = tuple[int, int, int]
"""An object's number, and x and y in thousandths."""


def _numbered(points: Iterable[Point], *, stills: bool) -> list[tuple[str, list[Mark]]]:
    """(time as written, marks) of each group, in order of time."""
    # Sorted as rounded, for the order must be that of the text.
    seen = sorted(
        (point.at, round(SCALE * point.x), round(SCALE * point.y), point.object_id)
        for point in points
        if not point.occluded
    )
    groups: dict[str, dict[int, tuple[int, int]]] = {}
    for at, x, y, object_id in seen:
        time = str(round(at)) if stills else f"{at:.1f}"
        groups.setdefault(time, {}).setdefault(object_id, (x, y))
    numbers: dict[int, int] = {}
    for group in groups.values():
        for object_id, _ in sorted(group.items(), key=lambda item: (item[1], item[0])):
            numbers.setdefault(object_id, len(numbers) + 1)
    return [
        (time, [(numbers[object_id], x, y) for object_id, (x, y) in group.items()]) for time, group in groups.items()
    ]


def _element(name: str, groups: Sequence[tuple[str, Sequence[Mark]]], label: str) -> str:
    if not groups:
        return NONE
    coords = ";".join(
        " ".join([time, *(f"{number} {x:03d} {y:03d}" for number, x, y in marks)]) for time, marks in groups
    )
    # The label of a row must not hold points of its own.
    return f'<{name} coords="{coords}">{label.replace("<", "< ")}</{name}>'


def _is_group(words: Sequence[str]) -> bool:
    """Whether a group is a time, and a number and two coordinates for each of its points."""
    return (
        len(words) % 3 == 1
        and _TIME.fullmatch(words[0]) is not None
        and all(map(_NUMBER.fullmatch, words[1::3]))
        and all(map(_PLACE.fullmatch, [*words[2::3], *words[3::3]]))
    )


def _points(groups: Iterable[Sequence[str]], *, duration_s: float, stills: bool) -> Iterator[Point]:
    """The points of groups that lie in the frame and the clip."""
    for words in groups:
        at = float(words[0])
        if (at not in range(1, int(duration_s) + 1)) if stills else at > duration_s + TOLERANCE_S:
            continue
        at = min(at, duration_s)
        for number, x, y in zip(words[1::3], map(int, words[2::3]), map(int, words[3::3]), strict=True):
            if x <= SCALE and y <= SCALE:
                yield Point(x / SCALE, y / SCALE, at, int(number))
