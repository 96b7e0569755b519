"""Charts as SVG text: lines over steps, stacked shares over steps, a histogram. Values show under the pointer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

MAX_POINTS = 200
"""A longer line is drawn through the means of so many stretches of steps, on a band from their least to their most."""

WIDTH, HEIGHT = 460, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 20, 10, 28

COLORS = ("#1f77b4", "#f0932b", "#2a9d6f", "#c8385a", "#7d5ba6", "#8c6d46", "#17a2b8", "#6b7785")
"""Of series, in their order."""

SHADES = ("#e8edf3", "#bcd3e8", "#86b3d8", "#4a8cc0", "#1d5c92")
"""Of ordered shares, from the least to the most."""


@dataclass(frozen=True)
class Series:
    """A named line, `values` by step."""

    name: str
    values: Mapping[int, float]
    color: str


@dataclass(frozen=True)
class _Axes:
    x0: float
    x1: float
    y0: float
    y1: float
    y_ticks: Sequence[float]

    def x(self, value: float) -> float:
        return LEFT + (value - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM)


def text_of(value: object) -> str:
    """Any text, safe between tags and in quoted attributes; what UTF-8 cannot hold is replaced."""
    return escape(str(value).encode("utf-8", "replace").decode())


def number(value: float) -> str:
    """A number as a chart shows it: four figures, thousands parted."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:.3g}"


def line_chart(series: Sequence[Series], *, low: float | None = None, high: float | None = None) -> str:
    """Lines over steps in one frame. `low` and `high`: values that the axis must reach."""
    thinned = [(one, *_thin(one.values)) for one in series if one.values]
    if not thinned:
        return ""
    steps = np.concatenate([steps for _, steps, _ in thinned])
    bounds = [np.array([bound for bound in (low, high) if bound is not None])]
    values = np.concatenate([bands.ravel() for _, _, bands in thinned] + bounds)
    axes = _axes(steps, float(values.min()), float(values.max()))
    parts = [_grid(axes)]
    said: dict[float, list[tuple[Series, float]]] = {}
    for one, at, bands in thinned:
        points = [(axes.x(step), axes.y(mean)) for step, mean in zip(at, bands[1], strict=True)]
        if len(at) < len(one.values):
            edge = [*zip(at, bands[2], strict=True), *reversed(list(zip(at, bands[0], strict=True)))]
            shape = _points([(axes.x(step), axes.y(value)) for step, value in edge])
            parts.append(f'<polygon points="{shape}" fill="{one.color}" opacity=".15"/>')
        parts.append(f'<polyline points="{_points(points)}" stroke="{one.color}" class="line"/>')
        if len(points) <= 12:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{one.color}"/>' for x, y in points]
        for step, mean in zip(at.tolist(), bands[1].tolist(), strict=True):
            said.setdefault(step, []).append((one, mean))
    parts.append(_hits(axes, {step: _said(step, entries) for step, entries in said.items()}))
    return _svg(parts)


def stacked_chart(shares: Sequence[tuple[str, Mapping[int, float]]], colors: Sequence[str]) -> str:
    """Shares that add up to 1, stacked over steps, the first at the bottom. A share missing at a step is 0 there."""
    steps = sorted({step for _, values in shares for step in values})
    if not steps:
        return ""
    filled = [{step: values.get(step, 0.0) for step in steps} for _, values in shares]
    thinned = [_thin(values) for values in filled]
    at, layers = thinned[0][0], np.array([bands[1] for _, bands in thinned])
    if len(at) == 1:  # an area needs a width
        at, layers = np.array([at[0], at[0] + 1]), layers.repeat(2, axis=1)
    tops = np.cumsum(layers, axis=0)
    axes = _axes(at, 0.0, 1.0)
    parts = [_grid(axes, percent=True)]
    floor = np.zeros(len(at))
    for top, color in zip(tops, colors, strict=False):
        edge = [*zip(at, top, strict=True), *reversed(list(zip(at, floor, strict=True)))]
        shape = _points([(axes.x(step), axes.y(value)) for step, value in edge])
        parts.append(f'<polygon points="{shape}" fill="{color}" stroke="#fff" stroke-width=".6"/>')
        floor = top
    names = [name for name, _ in shares]
    tips = {
        float(step): f"step {step:.0f}\n"
        + "\n".join(f"{name}: {100 * share:.1f} %" for name, share in reversed(list(zip(names, column, strict=True))))
        for step, column in zip(at, layers.T, strict=True)
    }
    parts.append(_hits(axes, tips))
    return _svg(parts)


def histogram(scores: Sequence[tuple[str, NDArray[np.float64], str]]) -> str:
    """How scores from 0 to 1 are spread, in tenths, side by side: (name, scores, color) each."""
    edges = np.linspace(0, 1, 11)
    counts = [np.histogram(values, bins=edges)[0] for _, values, _ in scores]
    shares = [100 * found / max(1, len(values)) for found, (_, values, _) in zip(counts, scores, strict=True)]
    ticks = _ticks(0.0, float(np.max(shares)) or 1.0)
    axes = _Axes(0.0, 1.0, 0.0, ticks[-1], ticks)
    parts = [_grid(axes, x_ticks=[0, 0.2, 0.4, 0.6, 0.8, 1.0])]
    width = (axes.x(0.1) - axes.x(0.0) - 4) / len(scores)
    for column, ((name, _, color), found, share) in enumerate(zip(scores, counts, shares, strict=True)):
        for tenth in range(10):
            x, y = axes.x(edges[tenth]) + 2 + width * column, axes.y(share[tenth])
            tip = f"IoU {edges[tenth]:.1f} to {edges[tenth + 1]:.1f}\n{name}: {found[tenth]} ({share[tenth]:.1f} %)"
            parts.append(
                f'<rect class="tip" x="{x:.1f}" y="{y:.1f}" width="{width - 1:.1f}" height="{axes.y(0) - y:.1f}" '
                f'fill="{color}"><title>{text_of(tip)}</title></rect>'
            )
    return _svg(parts)


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """(name, color) of each line or area."""
    items = (f'<span><i style="background:{color}"></i>{text_of(name)}</span>' for name, color in entries)
    return f'<div class="legend">{"".join(items)}</div>'


def _said(step: float, entries: Sequence[tuple[Series, float]]) -> str:
    lines = (f"{one.name}: {number(value)}" if one.name else number(value) for one, value in entries)
    return "\n".join([f"step {step:.0f}", *lines])


def _thin(values: Mapping[int, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps (P,) and the least, mean and most value (3, P) of at most `MAX_POINTS` stretches of them."""
    steps, found = np.array(list(values), dtype=np.float64), np.array(list(values.values()), dtype=np.float64)
    if len(steps) <= MAX_POINTS:
        return steps, np.stack([found] * 3)
    starts = np.linspace(0, len(steps), MAX_POINTS, endpoint=False).astype(int)
    sizes = np.diff([*starts, len(steps)])
    means = np.add.reduceat(found, starts) / sizes
    last = starts + sizes - 1
    return steps[last], np.stack([np.minimum.reduceat(found, starts), means, np.maximum.reduceat(found, starts)])


def _axes(steps: NDArray[np.float64], low: float, high: float) -> _Axes:
    first, last = float(steps.min()), float(steps.max())
    if first == last:
        first, last = first - 1, last + 1
    ticks = _ticks(low, high)
    return _Axes(first, last, ticks[0], ticks[-1], ticks)


def _ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers that reach from `low` or below to `high` or above."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # a constant: some room around it
        room = abs(high) / 10 or 1.0
        low, high = low - room, high + room
    rough = (high - low) / wanted
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def _grid(axes: _Axes, *, x_ticks: Sequence[float] | None = None, percent: bool = False) -> str:
    parts = []
    for value in axes.y_ticks:
        y, shown = axes.y(value), f"{100 * value:.0f} %" if percent else number(round(value, 12))
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{shown}</text>')
    for value in x_ticks if x_ticks is not None else _step_ticks(axes):
        shown = number(value) if x_ticks is not None else f"{value:,.0f}"
        parts.append(f'<text x="{axes.x(value):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{shown}</text>')
    return "".join(parts)


def _step_ticks(axes: _Axes) -> list[float]:
    return [value for value in _ticks(axes.x0, axes.x1, 5) if axes.x0 <= value <= axes.x1 and value == int(value)]


def _hits(axes: _Axes, tips: Mapping[float, str]) -> str:
    """One invisible strip for each step, which shows its values and a line when pointed at."""
    steps = sorted(tips)
    between = [(axes.x(a) + axes.x(b)) / 2 for a, b in pairwise(steps)]
    edges = [LEFT, *between, WIDTH - RIGHT]
    parts = []
    for step, left, right in zip(steps, edges[:-1], edges[1:], strict=True):
        x = axes.x(step)
        parts.append(
            f'<g class="hit tip"><rect x="{left:.1f}" y="{TOP}" width="{max(right - left, 0.5):.1f}" '
            f'height="{HEIGHT - TOP - BOTTOM}"/><line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
            f"<title>{text_of(tips[step])}</title></g>"
        )
    return "".join(parts)


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)


def _svg(parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'
