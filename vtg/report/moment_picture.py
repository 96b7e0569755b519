"""A picture of moments in one clip: bars below frames that the model saw, on an axis of seconds."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vtg.config.video_settings import VideoConfig
from vtg.evaluation.metrics import Spans
from vtg.report.figures import INK, write_png
from vtg.report.film_strips import film_cells, side_by_side
from vtg.report.timelines import TICKS, TUNED_COLOR, span_bars
from vtg.video.video_window import VideoWindow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image

TRUTH, TRACK = "#57606b", "#eef2f6"

# Inches, at `DPI`: a strip and its bars fill the width of a notebook.
WIDTH, FILM_HEIGHT, LANE_HEIGHT, REST = 10.0, 0.95, 0.34, 0.95
DPI = 110

# Frames are shown larger than in a page of many strips.
CELL_HEIGHT, SQUARE_CELLS = 128, 10


@dataclass(frozen=True)
class AnswerLane:
    """One line of bars: `spans` in seconds of the clip; `note` stands in place of bars where there are none."""

    name: str
    spans: Spans
    note: str = ""
    is_truth: bool = False


def moment_picture(
    window: VideoWindow, video: VideoConfig, *, duration_s: float, title: str, lanes: Sequence[AnswerLane]
) -> "Image":
    """The picture; it decodes the frames that it shows.

    Args:
        video: how the model samples frames: only such are shown.
        duration_s: the length of the clip, which the axis spans.

    Raises:
        SampleError: the video cannot be read.
    """
    from matplotlib.figure import Figure
    from PIL import Image

    cells = film_cells(window, video, duration_s=duration_s, height=CELL_HEIGHT, square=SQUARE_CELLS)
    bars_height = LANE_HEIGHT * len(lanes)
    figure = Figure(figsize=(WIDTH, REST + FILM_HEIGHT + bars_height), dpi=DPI, layout="constrained", facecolor="white")
    film, bars = figure.subplots(2, 1, sharex=True, height_ratios=(FILM_HEIGHT, bars_height))
    film.imshow(side_by_side(cells.frames), extent=(0, duration_s, 0, 1), aspect="auto", interpolation="bilinear")
    film.set_axis_off()
    film.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold", parse_math=False)
    for at, lane in enumerate(lanes):
        _draw_lane(bars, lane, y=-at, duration_s=duration_s)
    bars.set_yticks([-at for at in range(len(lanes))], [lane.name for lane in lanes], fontsize=9.5, color=INK)
    for label in bars.get_yticklabels():
        label.set_parse_math(False)
    bars.set_ylim(-len(lanes) + 0.5, 0.5)
    bars.set_xlim(0, duration_s)
    bars.locator_params(axis="x", nbins=2 * TICKS)
    bars.set_xlabel(f"seconds of the clip ({duration_s:.2f} s; the model saw {cells.seen} frames)", color=INK)
    bars.tick_params(length=0, colors=INK, labelsize=9)
    bars.spines[:].set_visible(False)
    drawn = io.BytesIO()
    write_png(figure, drawn)
    return Image.open(drawn)


def _draw_lane(axes: "Axes", lane: AnswerLane, *, y: float, duration_s: float) -> None:
    axes.barh(y, duration_s, height=0.7, color=TRACK, zorder=1)
    color = TRUTH if lane.is_truth else TUNED_COLOR
    shown = span_bars(lane.spans, duration_s)
    for bar in shown:
        left_s, width_s = bar.left / 100 * duration_s, max(bar.width / 100, 0.003) * duration_s
        axes.barh(y, width_s, left=left_s, height=0.7, color=color, zorder=2)
        label = f"{bar.start_s:.2f} to {bar.end_s:.2f}"
        # Inside where there is room for it, else beside, on the side that has more.
        if width_s > 0.13 * duration_s:
            at_s, align, ink = left_s + width_s / 2, "center", "white"
        elif left_s < duration_s / 2:
            at_s, align, ink = left_s + width_s + 0.006 * duration_s, "left", INK
        else:
            at_s, align, ink = left_s - 0.006 * duration_s, "right", INK
        axes.text(at_s, y, label, ha=align, va="center", fontsize=8.5, color=ink, zorder=3)
    if not shown and lane.note:
        axes.text(0.01 * duration_s, y, lane.note, va="center", fontsize=9, color=INK, parse_math=False)
