"""The geometry of charts: lines and stacked shares over steps, and a histogram.

`templates/charts.html.jinja` draws it. Coordinates are in units of the SVG viewBox (`FRAME`), with y pointing down.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# A longer curve is averaged over this many stretches of steps: one point per 2 pixels, and a page of 100,000 logged
# steps stays under 300 kB.
MAX_POINTS = 200

# Up to so many points are marked by dots: without them a curve of a single point would be invisible.
MAX_DOTS = 12

# A noisy curve of at least so many points is drawn faint, under its running mean.
SMOOTHED_FROM = 24

# Line colors, by the position of a series in its chart. Mid-tones: readable on the light and on the dark page.
COLORS = ("#1f77b4", "#f0932b", "#2a9d6f", "#c8385a", "#7d5ba6", "#8c6d46", "#17a2b8", "#6b7785")

# One hue from light to dark, for shares of ordered ranges (the lowest IoU first).
SHADES = ("#e8edf3", "#bcd3e8", "#86b3d8", "#4a8cc0", "#1d5c92")


@dataclass(frozen=True)
class Frame:
    """The size of a chart, and the edges of the rectangle that its axes span. Outside of that are the labels."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int


# Left: room for a label such as `-2.5e-07`; right: half of the last step's label.
FRAME = Frame(width=460, height=240, left=58, right=440, top=10, bottom=196)


@dataclass(frozen=True)
class Series:
    """A curve to draw: `values` by step. An empty name is left out of the legend and of tooltips."""

    name: str
    values: Mapping[int, float] | Mapping[float, float]
    color: str


@dataclass(frozen=True)
class Tick:
    """A labelled value of an axis, at an x or a y coordinate."""

    position: float
    label: str


@dataclass(frozen=True)
class Line:
    """A polyline in SVG's `points` syntax; `dots` are its points where they are few. A smoothed one is over a faint."""

    points: str
    color: str
    dots: tuple[tuple[float, float], ...] = ()
    is_faint: bool = False


@dataclass(frozen=True)
class Area:
    """A filled polygon in SVG's `points` syntax. `is_band`: the minimum-to-maximum band behind an averaged line."""

    points: str
    color: str
    is_band: bool = False


@dataclass(frozen=True)
class Bar:
    """A bar of a histogram."""

    x: float
    y: float
    width: float
    height: float
    color: str
    tip: str


@dataclass(frozen=True)
class HoverStrip:
    """An invisible strip around a step at `x`: pointing at it shows `tip` and a vertical line."""

    left: float
    width: float
    x: float
    tip: str


@dataclass(frozen=True)
class Plot:
    """All shapes of one chart, back to front. `x_name`: what the x axis counts."""

    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    x_name: str = "step"
    areas: Sequence[Area] = ()
    lines: Sequence[Line] = ()
    bars: Sequence[Bar] = ()
    strips: Sequence[HoverStrip] = ()


@dataclass(frozen=True)
class Figure:
    """A plot with its caption. `legend`: (name, color) of each series."""

    title: str
    plot: Plot
    hint: str = ""
    legend: Sequence[tuple[str, str]] = field(default=())


@dataclass(frozen=True)
class _Axes:
    """Maps values to coordinates. x runs from `x0` to `x1`, y from the first of `y_ticks` to the last."""

    x0: float
    x1: float
    y_ticks: Sequence[float]

    def x(self, value: float) -> float:
        return FRAME.left + (value - self.x0) / (self.x1 - self.x0) * (FRAME.right - FRAME.left)

    def y(self, value: float) -> float:
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return FRAME.bottom - (value - low) / (high - low) * (FRAME.bottom - FRAME.top)

    def points(self, xs: Sequence[float] | NDArray[np.float64], ys: Sequence[float] | NDArray[np.float64]) -> str:
        """Values as SVG's `points` syntax."""
        return " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in zip(xs, ys, strict=True))

    def between(self, xs: NDArray[np.float64], lower: NDArray[np.float64], upper: NDArray[np.float64]) -> str:
        """The outline of the area between two curves, as SVG's `points` syntax."""
        return self.points(np.concatenate([xs, xs[::-1]]), np.concatenate([upper, lower[::-1]]))


def format_number(value: float) -> str:
    """A number for a label: four significant digits, thousands separated."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:.3g}"


def line_chart(
    series: Sequence[Series], *, low: float | None = None, high: float | None = None, x_name: str = "step"
) -> Plot | None:
    """Curves over steps, or what else is `x_name`, on shared axes; None where all are empty. The y axis includes `low`
    and `high`."""
    downsampled = [(curve, *_downsample(curve.values)) for curve in series if curve.values]
    if not downsampled:
        return None
    all_steps = np.concatenate([steps for _, steps, _ in downsampled])
    bounds = np.array([bound for bound in (low, high) if bound is not None])
    all_values = np.concatenate([*(bands.ravel() for _, _, bands in downsampled), bounds])
    axes = _step_axes(all_steps, float(all_values.min()), float(all_values.max()))
    areas, lines = [], []
    labels: dict[float, list[str]] = {}
    for curve, steps, (lowest, mean, highest) in downsampled:
        if len(steps) < len(curve.values):
            areas.append(Area(axes.between(steps, lowest, highest), curve.color, is_band=True))
        dots = tuple((axes.x(x), axes.y(y)) for x, y in zip(steps, mean, strict=True)) if len(steps) <= MAX_DOTS else ()
        # A longer curve is one of means already, with the band behind it.
        is_noisy = SMOOTHED_FROM <= len(steps) == len(curve.values) and _is_noisy(mean)
        lines.append(Line(axes.points(steps, mean), curve.color, dots, is_faint=is_noisy))
        if is_noisy:
            lines.append(Line(axes.points(steps, _smoothed(mean)), curve.color))
        for step, value in zip(steps.tolist(), mean.tolist(), strict=True):
            label = format_number(value)
            labels.setdefault(step, []).append(f"{curve.name}: {label}" if curve.name else label)
    tips = {step: "\n".join([f"{x_name} {step:.10g}", *entries]) for step, entries in labels.items()}
    strips = _hover_strips(axes, tips)
    return Plot(_step_ticks(axes), _value_ticks(axes), x_name, areas=areas, lines=lines, strips=strips)


def _is_noisy(values: NDArray[np.float64]) -> bool:
    """Whether a curve turns at most of its points."""
    turns = np.diff(np.sign(np.diff(values)))
    return bool(np.count_nonzero(turns) > 0.4 * len(turns))


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean (P,) of a tenth of the points around each; at the ends of those that are there."""
    reach = max(1, len(values) // 20)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low, high = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def stacked_chart(shares: Sequence[tuple[str, Mapping[int, float]]], colors: Sequence[str]) -> Plot | None:
    """Shares that add up to 1, stacked over steps, the first at the bottom; None without any step.

    A share that is missing at a step counts as 0 there.
    """
    steps = sorted({step for _, values in shares for step in values})
    if not steps:
        return None
    downsampled = [_downsample({step: values.get(step, 0.0) for step in steps}) for _, values in shares]
    xs, layers = downsampled[0][0], np.array([bands[1] for _, bands in downsampled])
    if len(xs) == 1:  # a single step would be an area of no width
        xs, layers = np.array([xs[0], xs[0] + 1]), layers.repeat(2, axis=1)
    edges = np.concatenate([np.zeros((1, len(xs))), np.cumsum(layers, axis=0)])
    axes = _step_axes(xs, 0.0, 1.0)
    layer_edges = zip(pairwise(edges), colors, strict=True)
    areas = [Area(axes.between(xs, lower, upper), color) for (lower, upper), color in layer_edges]
    names = [name for name, _ in shares]
    tips = {}
    for step, column in zip(xs.tolist(), layers.T, strict=True):
        # The list of the tooltip has the order of the stack, from its top.
        entries = [f"{name}: {100 * share:.1f} %" for name, share in zip(names, column, strict=True)]
        tips[step] = "\n".join([f"step {step:.0f}", *reversed(entries)])
    y_ticks = [Tick(axes.y(value), f"{100 * value:.0f} %") for value in axes.y_ticks]
    return Plot(_step_ticks(axes), y_ticks, areas=areas, strips=_hover_strips(axes, tips))


def histogram(scores: Sequence[tuple[str, NDArray[np.float64], str]]) -> Plot:
    """Percent of IoUs in each tenth from 0 to 1, groups side by side. `scores`: (name, IoUs (N,), color) each."""
    return distribution(scores, edges=np.linspace(0, 1, 11), name="IoU", number="{:.1f}".format)


def distribution(
    groups: Sequence[tuple[str, NDArray[np.float64], str]],
    *,
    edges: NDArray[np.float64],
    name: str,
    number: Callable[[float], str] = format_number,
) -> Plot:
    """Percent of the values in each of the bins between `edges` (B + 1,), groups side by side; what lies beyond the
    last edge counts in the last bin. `groups`: (name, values (N,), color) each; `name`: of the values, for tooltips.
    """
    last = float(edges[-1])
    counts = [np.histogram(np.minimum(values, last), bins=edges)[0] for _, values, _ in groups]
    percents = [100 * count / max(1, len(values)) for count, (_, values, _) in zip(counts, groups, strict=True)]
    axes = _Axes(float(edges[0]), last, round_values(0.0, float(np.max(percents)) or 1.0))
    width = (axes.x(edges[1]) - axes.x(edges[0]) - 4) / len(groups)
    bars = []
    for column, ((group, _, color), count, percent) in enumerate(zip(groups, counts, percents, strict=True)):
        for at, (low, high) in enumerate(pairwise(edges.tolist())):
            x, y = axes.x(low) + 2 + width * column, axes.y(percent[at])
            tip = f"{name} {number(low)} to {number(high)}\n{group}: {count[at]} ({percent[at]:.1f} %)"
            bars.append(Bar(x, y, max(width - 1, 0.5), axes.y(0) - y, color, tip))
    ticks = [value for value in round_values(axes.x0, axes.x1, 5) if axes.x0 <= value <= axes.x1 * (1 + 1e-9)]
    return Plot([Tick(axes.x(value), format_number(value)) for value in ticks], _value_ticks(axes), name, bars=bars)


def _downsample(values: Mapping[int, float] | Mapping[float, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps (P,) and the minimum, mean and maximum (3, P) over at most `MAX_POINTS` stretches of a curve."""
    steps, logged = np.array(list(values), dtype=np.float64), np.array(list(values.values()), dtype=np.float64)
    if len(steps) <= MAX_POINTS:
        return steps, np.stack([logged] * 3)
    starts = np.linspace(0, len(steps), MAX_POINTS, endpoint=False).astype(int)
    sizes = np.diff([*starts, len(steps)])
    means = np.add.reduceat(logged, starts) / sizes
    last = starts + sizes - 1
    return steps[last], np.stack([np.minimum.reduceat(logged, starts), means, np.maximum.reduceat(logged, starts)])


def _step_axes(steps: NDArray[np.float64], low: float, high: float) -> _Axes:
    first, last = float(steps.min()), float(steps.max())
    if first == last:
        first, last = first - 1, last + 1
    return _Axes(first, last, round_values(low, high))


def round_values(low: float, high: float, wanted: int = 4) -> list[float]:
    """About `wanted` + 1 evenly spaced round numbers, from `low` or below to `high` or above."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # a constant curve: an axis needs a height
        margin = abs(high) / 10 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / wanted
    magnitude = 10.0 ** math.floor(math.log10(rough))
    # 0.999 and 1e-9 absorb rounding errors, which would double the spacing or add a tick beyond the data.
    spacing = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough * 0.999)
    first, last = math.floor(low / spacing + 1e-9), math.ceil(high / spacing - 1e-9)
    return [index * spacing for index in range(first, last + 1)]


def _value_ticks(axes: _Axes) -> list[Tick]:
    return [Tick(axes.y(value), format_number(value)) for value in axes.y_ticks]


def _step_ticks(axes: _Axes) -> list[Tick]:
    """Round steps within the plot. A run of few steps has no ticks at halves."""
    steps = [value for value in round_values(axes.x0, axes.x1, 5) if axes.x0 <= value <= axes.x1]
    return [Tick(axes.x(step), f"{step:,.0f}") for step in steps if step == int(step)]


def _hover_strips(axes: _Axes, tips: Mapping[float, str]) -> list[HoverStrip]:
    """One strip a step, each reaching halfway to its neighbours, so that the pointer need not hit a point."""
    steps = sorted(tips)
    halfway = [(axes.x(a) + axes.x(b)) / 2 for a, b in pairwise(steps)]
    edges = [FRAME.left, *halfway, FRAME.right]
    return [
        # Steps of several runs may lie closer than half a unit; a strip of no width could not be pointed at.
        HoverStrip(left, max(right - left, 0.5), axes.x(step), tips[step])
        for step, (left, right) in zip(steps, pairwise(edges), strict=True)
    ]
