"""Synthetic clips whose events happen at exactly known times: the world behind the demo data and the tiny model.

A world is a dim, textured room with four corners. Coloured shapes appear in a corner, drift a little, and vanish; when
they do is drawn at random, so no prior over times answers a query. White shapes are scenery: they come and go, and
nobody asks for them.
"""

from dataclasses import dataclass

import numpy as np

COLORS = {
    "red": (230, 40, 40),
    "green": (40, 200, 70),
    "blue": (50, 90, 240),
    "yellow": (240, 220, 50),
    "magenta": (220, 60, 220),
    "cyan": (50, 220, 225),
}
SHAPES = ("circle", "square", "triangle", "cross")
SCENERY = (235, 235, 235)
# Three frames at the 2 a second of sampling: shorter events could fall between them.
MIN_EVENT_S = 1.5


@dataclass(frozen=True, slots=True)
class Event:
    """A shape that is visible at times `start_s <= t < end_s`. `x`, `y`, `radius` are shares of the frame."""

    color: str
    shape: str
    start_s: float
    end_s: float
    x: float
    y: float
    radius: float

    @property
    def is_scenery(self) -> bool:
        return self.color == "white"

    def center(self, time_s: float) -> tuple[float, float]:
        """Where it is at a time, x and y as shares of the frame."""
        # Shapes that move a little give every frame other pixels, as in a real video.
        return self.x + 0.02 * float(np.sin(2.0 * (time_s - self.start_s) + self.x * 40)), self.y


@dataclass(frozen=True, slots=True)
class World:
    """All that happens in one clip of `duration_s` seconds; `seed` fixes the texture of the room."""

    duration_s: float
    events: tuple[Event, ...]
    seed: int

    @property
    def queries(self) -> tuple[Event, ...]:
        """The events one can ask for: no two share colour and shape."""
        return tuple(event for event in self.events if not event.is_scenery)


def make_world(rng: np.random.Generator, *, duration_s: float, events: int, scenery: int = 1) -> World:
    """A random world. Events in one corner never overlap in time; colours or shapes repeat, pairs do not."""
    placed: list[Event] = []
    pairs: set[tuple[str, str]] = set()
    for kind in ["event"] * events + ["scenery"] * scenery:
        # A crowded world has room for no more: after 50 draws it has one event fewer.
        for _ in range(50):
            start_s, end_s = _interval(rng, duration_s)
            corner = int(rng.integers(4))
            color = str(rng.choice(list(COLORS))) if kind == "event" else "white"
            shape = str(rng.choice(SHAPES))
            # Half a second apart, so that two events in a corner are told apart at two frames a second.
            clash = any(
                _corner(other) == corner and start_s < other.end_s + 0.5 and other.start_s < end_s + 0.5
                for other in placed
            )
            if clash or (color, shape) in pairs:
                continue
            pairs.add((color, shape))
            x, y = 0.25 + 0.5 * (corner % 2), 0.25 + 0.5 * (corner // 2)
            x, y = (float(at + rng.uniform(-0.04, 0.04)) for at in (x, y))
            placed.append(Event(color, shape, start_s, end_s, x, y, float(rng.uniform(0.15, 0.2))))
            break
    return World(duration_s, tuple(sorted(placed, key=lambda event: event.start_s)), int(rng.integers(2**31)))


def render(world: World, times_s: np.ndarray, *, size: int) -> np.ndarray:
    """Frames of the world at `times_s` (T,), as (T, size, size, 3) uint8."""
    rng = np.random.default_rng(world.seed)
    # Dim and smooth with grain: compression and resizing act on it as on a real room, and shapes stand out.
    coarse = rng.uniform(20, 75, (4, 4, 3))
    rows = np.linspace(0, 3, size)
    low = np.floor(rows).astype(int).clip(0, 2)
    share = rows - low
    room = coarse[low] * (1 - share)[:, None, None] + coarse[low + 1] * share[:, None, None]
    room = room[:, low] * (1 - share)[None, :, None] + room[:, low + 1] * share[None, :, None]
    room = room + rng.normal(0, 4, (size, size, 1))
    frames = np.broadcast_to(room.clip(0, 255).astype(np.uint8), (len(times_s), size, size, 3)).copy()
    grid = (np.arange(size) + 0.5) / size
    pixels = frames.view("V3")[..., 0]  # one value a pixel: NumPy assigns these five times as fast as three bytes
    for event in world.events:
        color = np.array(SCENERY if event.is_scenery else COLORS[event.color], np.uint8).view("V3")
        for index in np.flatnonzero((times_s >= event.start_s) & (times_s < event.end_s)):
            x, y = event.center(float(times_s[index]))
            # Shapes are small: only the pixels that one may cover are looked at.
            across, down = (slice(*grid.searchsorted((at - event.radius, at + event.radius))) for at in (x, y))
            pixels[index, down, across][_mask(event, grid[None, across] - x, grid[down, None] - y)] = color
    return frames


def _interval(rng: np.random.Generator, duration_s: float) -> tuple[float, float]:
    length_s = float(rng.uniform(MIN_EVENT_S, max(2.5, 0.45 * duration_s)))
    start_s = float(rng.uniform(0, duration_s - length_s))
    return round(start_s, 2), round(start_s + length_s, 2)


def _corner(event: Event) -> int:
    return int(event.x > 0.5) + 2 * int(event.y > 0.5)


def _mask(event: Event, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(H, W) bool: the pixels the shape covers; `x` (1, W) and `y` (H, 1) are offsets from its centre."""
    r = event.radius
    if event.shape == "circle":
        return x**2 + y**2 < r**2
    if event.shape == "square":
        return (abs(x) < 0.85 * r) & (abs(y) < 0.85 * r)
    if event.shape == "triangle":
        return (y < 0.8 * r) & (y > -r + 2 * abs(x))
    return ((abs(x) < 0.3 * r) | (abs(y) < 0.3 * r)) & (abs(x) < r) & (abs(y) < r)
