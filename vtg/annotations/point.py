"""A place in a frame: what the tasks `points` and `tracks` mark."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """An object's place in one frame.

    Attributes:
        x, y: shares of the frame's width and height, from its upper left corner.
        at: seconds of the clip; of still pictures, which have no times, the number of the picture, from 1.
        object_id: the same for one object in every frame.
        occluded: the object is hidden there; such a place is known, and not answered.

    Raises:
        ValueError: a place outside the frame, or before the clip.
    """

    x: float
    y: float
    at: float
    object_id: int
    occluded: bool = False

    def __post_init__(self) -> None:
        # Written so that NaN fails too.
        if not (0 <= self.x <= 1 and 0 <= self.y <= 1 and 0 <= self.at < float("inf")):
            raise ValueError(f"{self}: x and y must be from 0 to 1, and the time 0 s or later")
