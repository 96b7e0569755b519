"""What a row of the tasks `points`, `tracks` and `count` holds, and what may be wrong with it.

    {"video": "a.mp4", "duration": 9.0, "sentence": "Point to the red cars.", "label": "red cars",
     "points": [{"x": 0.25, "y": 0.31, "timestamp": 0.5, "object_id": 0}, …]}

`x` and `y` are shares of the frame, 0 to 1; `timestamp` is in seconds of the clip; `object_id` is a whole number, as a
rule from 0. A point without `timestamp` is in a still picture: the row's first one, or the one of `image`, counted from
0. Points need no `object_id`: without, each is an object of its own. `occluded: true` says that the object is hidden.
`tracks` holds points likewise, each with its `object_id`. `count` is how many there are; `points` beside it, which show
what was counted, are as many objects.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

from vtg.annotations.point import Point
from vtg.annotations.row_target import Row, RowFault, list_of, number_of, shown, text_of

# The longest tracks that are published have some hundred frames and a dozen objects.
MOST_POINTS = 4096

# Times of points are written with one decimal: so far behind the clip's end they are at its end.
EDGE_S = 0.1

# Of the usual step between the times of tracks, which differ a little from frame to frame.
LONG_STEP = 1.5


@dataclass(frozen=True, slots=True)
class _Marked:
    """Points under the first of `keys`.

    Attributes:
        points: none where somebody looked and there are none.
        label: what they are, as the answer says it; None: as the question does.
        stills: the clip is of still pictures, and `at` of the points is their number.
    """

    keys: ClassVar[tuple[str, ...]]
    asks: ClassVar[bool] = True
    spans: ClassVar[tuple[tuple[float, float], ...]] = ()

    points: tuple[Point, ...]
    label: str | None = None
    stills: bool = False

    @classmethod
    def of_row(cls, row: Row, *, duration_s: float) -> Self:
        """The target of a row. Raises RowFault."""
        key = cls.keys[0]
        points, stills = points_of(row.get(key), key, duration_s=duration_s, numbered=key == "tracks")
        _check_distinct(points, key)
        return cls(points, _label_of(row), stills)

    def row(self) -> Row:
        """The keys again."""
        return {self.keys[0]: rows_of(self.points, stills=self.stills), **_given(label=self.label)}


@dataclass(frozen=True, slots=True)
class Points(_Marked):
    """The places asked for."""

    kind: ClassVar[str] = "points"
    task: ClassVar[str] = "points"
    keys: ClassVar[tuple[str, ...]] = ("points", "label")


@dataclass(frozen=True, slots=True)
class Tracks(_Marked):
    """The places of objects over time; an object has one at a time."""

    kind: ClassVar[str] = "tracks"
    task: ClassVar[str] = "tracks"
    keys: ClassVar[tuple[str, ...]] = ("tracks", "label")


@dataclass(frozen=True, slots=True)
class Count:
    """How many there are; `points` show what was counted, where the row has them (None: it has not)."""

    kind: ClassVar[str] = "count"
    task: ClassVar[str] = "count"
    keys: ClassVar[tuple[str, ...]] = ("count", "points", "label")
    asks: ClassVar[bool] = True
    spans: ClassVar[tuple[tuple[float, float], ...]] = ()

    count: int
    points: Points | None = None

    @classmethod
    def of_row(cls, row: Row, *, duration_s: float) -> Self:
        """The target of a row. Raises RowFault."""
        count = row.get("count")
        if isinstance(count, bool) or not isinstance(count, int):
            raise RowFault("count", "count-type", f"must be a whole number, not {shown(count)}; correct it")
        if not 0 <= count < 10**6:
            raise RowFault("count", "count-range", f"must be from 0 to 999999, not {shown(count)}; correct it")
        points = None if row.get("points") is None else Points.of_row(row, duration_s=duration_s)
        objects = None if points is None else len({point.object_id for point in points.points})
        if objects not in (None, count):
            text = f"is {count}, but points has {objects} objects; correct one of them, or leave points out"
            raise RowFault("count", "count-points", text)
        return cls(count, points)

    def row(self) -> Row:
        """The keys again."""
        return {"count": self.count, **({} if self.points is None else self.points.row())}


def points_of(value: object, field: str, *, duration_s: float, numbered: bool) -> tuple[tuple[Point, ...], bool]:
    """The points of a row's key, and whether they are in still pictures.

    Args:
        duration_s: of the clip; of still pictures, how many they are.
        numbered: each needs its `object_id`.

    Raises:
        RowFault: the first thing wrong with them.
    """
    given = list_of(value, field, what="points {x, y, timestamp, object_id}")
    if len(given) > MOST_POINTS:
        text = f"holds {len(given)} points, the most is {MOST_POINTS}; sample fewer times, or split the row"
        raise RowFault(field, f"{field}-many", text)
    for at, point in enumerate(given):
        if not isinstance(point, dict):
            raise RowFault(f"{field}[{at}]", f"{field}-type", f"must be an object with x and y, not {shown(point)}")
    stills = bool(given) and all(point.get("timestamp") is None for point in given)
    has_ids = numbered or any(point.get("object_id") is not None for point in given)
    points: list[Point] = []
    for number, point in enumerate(given):
        place = f"{field}[{number}]"
        at = _picture(point, place, count=duration_s) if stills else _time_s(point, place, duration_s=duration_s)
        object_id = _whole(point.get("object_id"), f"{place}.object_id") if has_ids else number
        x, y = (_share(point.get(axis), f"{place}.{axis}") for axis in ("x", "y"))
        points.append(Point(x, y, at, object_id, _flag(point.get("occluded"), f"{place}.occluded")))
    return tuple(points), stills


def picture_fault(target: object, *, is_still: bool) -> RowFault | None:
    """What is wrong with points in view of what they are in: a time in a picture, or none in a video."""
    marked = target.points if isinstance(target, Count) else target
    if not isinstance(marked, Points | Tracks) or not marked.points or marked.stills == is_still:
        return None
    key = marked.keys[0]
    why = "has no meaning in a still picture; leave it out" if is_still else "is missing; give its second of the clip"
    return RowFault(f"{key}[0].timestamp", f"{key}-time", why)


def gaps(target: object) -> list[int]:
    """The objects of tracks that are left out between two of their own times: at one at which others are, or for
    longer than the row's usual step.
    """
    if not isinstance(target, Tracks):
        return []
    times: dict[int, set[float]] = {}
    for point in target.points:
        times.setdefault(point.object_id, set()).add(point.at)
    every = sorted(set().union(*times.values()))
    steps = sorted(later - earlier for earlier, later in pairwise(every))
    # The lower of two in the middle: of three times one step is a gap, and the other is not.
    longest_s = LONG_STEP * steps[(len(steps) - 1) // 2] if steps else math.inf
    return [object_id for object_id, own in times.items() if _has_gap(sorted(own), every, longest_s)]


def _has_gap(own: Sequence[float], every: Sequence[float], longest_s: float) -> bool:
    of_others = set(every) - set(own)
    return any(own[0] < at < own[-1] for at in of_others) or any(
        later - earlier > longest_s for earlier, later in pairwise(own)
    )


def rows_of(points: Iterable[Point], *, stills: bool) -> list[dict[str, Any]]:
    """Points as the JSON values of a row."""
    return [
        {
            "x": point.x,
            "y": point.y,
            **({"image": round(point.at) - 1} if stills else {"timestamp": point.at}),
            "object_id": point.object_id,
            **({"occluded": True} if point.occluded else {}),
        }
        for point in points
    ]


def _check_distinct(points: Iterable[Point], field: str) -> None:
    seen: set[tuple[float, int]] = set()
    for number, point in enumerate(points):
        if (point.at, point.object_id) in seen:
            text = f"object {point.object_id} has a place at {point.at:.10g} already; give it one, or another object_id"
            raise RowFault(f"{field}[{number}]", f"{field}-twice", text)
        seen.add((point.at, point.object_id))


def _label_of(row: Row) -> str | None:
    return None if row.get("label") is None else text_of(row["label"], "label")


def _given(**values: object) -> Row:
    return {key: value for key, value in values.items() if value is not None}


def _share(value: object, field: str) -> float:
    number = number_of(value, field)
    if not 0 <= number <= 1:
        text = (
            f"{number:.10g} is outside the frame; give a share of its width or height, 0 to 1 (not pixels or percent)"
        )
        raise RowFault(field, f"{_key(field)}-outside", text)
    return number


def _time_s(point: Row, place: str, *, duration_s: float) -> float:
    field = f"{place}.timestamp"
    if point.get("timestamp") is None:
        raise RowFault(
            field, f"{_key(field)}-time", "is missing, and other points have one; give its second of the clip"
        )
    time_s = number_of(point["timestamp"], field)
    if not 0 <= time_s <= duration_s + EDGE_S:
        text = f"{time_s:.10g} s is outside the clip of {duration_s:.10g} s; give times relative to the clip"
        raise RowFault(field, f"{_key(field)}-time", text)
    return min(time_s, duration_s)


def _picture(point: Row, place: str, *, count: float) -> float:
    picture = 0 if point.get("image") is None else _whole(point["image"], f"{place}.image")
    if picture >= count:
        text = f"{picture} is none of the row's {count:.10g} pictures, which are counted from 0; correct it"
        raise RowFault(f"{place}.image", f"{_key(place)}-image", text)
    return 1.0 + picture


def _whole(value: object, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        text = f"must be a whole number from 0, not {shown(value)}; correct it"
        raise RowFault(field, f"{_key(field)}-type", text)
    return value


def _flag(value: object, field: str) -> bool:
    if not isinstance(value, bool | None):
        raise RowFault(field, f"{_key(field)}-type", f"must be true or false, not {shown(value)}; correct it")
    return bool(value)


def _key(field: str) -> str:
    return field.partition("[")[0]
