"""A picture of predictions beside the truth: one timeline per sample, and how the IoUs are spread."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vtg.evaluation.metrics import Spans, row_ious, row_spans
from vtg.report.figures import INK, write_png
from vtg.storage.atomic import written_beside
from vtg.tasks.answer import NO_MOMENT, Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DrawnRow = Mapping[str, Any]

TRUTH, TUNED, BASE = "#2f3640", "#1f77b4", "#f0932b"
FAINT = "#dfe4ea"
COLORS = {"base": BASE, "tuned": TUNED, "predictions": TUNED}
LABEL_CHARACTERS, LABEL_LINES = 44, 2
HISTOGRAM_INCHES = 3.2
COLUMN = 0.06  # width of a column of IoUs, as a share of the axis

# Clips up to so many times as long as the shortest stand on one axis of seconds; of others each lane has its own, or
# the moments of short ones could not be seen.
SAME_SCALE = 3.0


def draw_predictions(
    rows: Sequence[DrawnRow],
    path: str | os.PathLike[str],
    *,
    base: Sequence[DrawnRow] = (),
    title: str = "",
    limit: int = 12,
) -> None:
    """Draw predictions into a PNG file, written under a temporary name and renamed.

    `rows` are rows of predictions.jsonl (`duration`, `timestamp`, `sentence`, `prediction`); `base` are those of the
    model before tuning, matched by `qid`. At most `limit` samples are shown: the best, the worst, and evenly between.
    Times are in seconds: on one axis where clips are about as long, else on an axis a lane. A prediction that leaves
    the clip is cut at its ends.
    Raises ValueError without rows.
    """
    from matplotlib.figure import Figure  # a second of import that --help and training need not wait for

    if not rows:
        raise ValueError("no predictions to draw: give at least one row")
    base_by_qid = {str(row["qid"]): row for row in base}
    befores = [base_by_qid.get(str(row["qid"])) if base else None for row in rows]
    ious = row_ious(rows)
    chosen = _spread(ious, limit)
    timelines_inches = 1.6 + 0.62 * len(chosen)
    figure = Figure(figsize=(13, timelines_inches + HISTOGRAM_INCHES), layout="constrained", facecolor="white")
    grid = figure.add_gridspec(2, 2, height_ratios=(timelines_inches, HISTOGRAM_INCHES))
    timelines, histogram = figure.add_subplot(grid[0, :]), figure.add_subplot(grid[1, 0])
    _draw_timelines(timelines, [rows[i] for i in chosen], [befores[i] for i in chosen], shown_of=len(rows))
    known = [row for row in befores if row is not None]
    scored = {"base": known, "tuned" if base else "predictions": rows}
    scored = {name: answers for name, answers in scored.items() if answers}
    _draw_histogram(histogram, {name: row_ious(answers) for name, answers in scored.items()})
    _draw_errors(figure.add_subplot(grid[1, 1]), scored)
    if title:
        figure.suptitle(title, fontsize=14, color=INK, fontweight="bold", parse_math=False)
    with written_beside(path) as beside:
        write_png(figure, beside, dpi=130)


def _draw_timelines(
    axes: "Axes", rows: Sequence[DrawnRow], befores: Sequence[DrawnRow | None], *, shown_of: int
) -> None:
    """One lane per sample, over its clip: the truth as a band, predictions as bars on it."""
    from matplotlib.patches import Patch

    with_base = any(before is not None for before in befores)
    durations_s = [float(row["duration"]) for row in rows]
    is_shared = max(durations_s) <= SAME_SCALE * min(durations_s)
    for lane, (row, before) in enumerate(zip(rows, befores, strict=True)):
        duration_s = float(row["duration"])
        # x is in seconds on a shared axis, else in clip lengths.
        unit_s, length = (1.0, duration_s) if is_shared else (duration_s, 1.0)
        axes.barh(lane, length, height=0.72, color="#f5f6fa", edgecolor=FAINT, linewidth=0.8, zorder=1)
        truth = row_spans(row["timestamp"])
        drawn = {"duration_s": duration_s, "unit_s": unit_s}
        _draw_spans(axes, truth, **drawn, y=lane, height=0.72, color=TRUTH, alpha=0.22)
        if not truth:
            # Before the bars: where a wrong answer lies over the words they must still be read.
            behind = {"facecolor": "#f5f6fa", "edgecolor": "none", "pad": 1.5}
            x = 0.99 * length
            axes.text(x, lane, NO_MOMENT, ha="right", va="center", fontsize=9, color=TRUTH, zorder=3, bbox=behind)
        tuned_y, thickness = (lane + 0.16, 0.22) if with_base else (lane, 0.3)
        _draw_spans(axes, row_spans(row["prediction"]), **drawn, y=tuned_y, height=thickness, color=TUNED)
        scores = [(row_ious([row])[0], TUNED)]
        _draw_none(axes, row, y=tuned_y, x=0.01 * length, color=TUNED)
        if before is not None:
            _draw_none(axes, before, y=lane - 0.16, x=0.01 * length, color=BASE)
            _draw_spans(axes, row_spans(before["prediction"]), **drawn, y=lane - 0.16, height=0.22, color=BASE)
            scores.insert(0, (row_ious([before])[0], BASE))
        for column, (iou, color) in enumerate(scores):
            x = 1.01 + COLUMN * (column + with_base - len(scores) + 1)
            at = axes.get_yaxis_transform()  # x as a share of the axis, y in lanes
            axes.text(x, lane, f"{iou:.2f}", va="center", fontsize=10, color=color, fontweight="bold", transform=at)
        if not is_shared:
            for share in (0.0, 0.25, 0.5, 0.75, 1.0):
                label = f"{share * duration_s:.0f}" + (" s" if share == 1 else "")
                align = "left" if share == 0 else "right" if share == 1 else "center"
                axes.text(share, lane + 0.37, label, ha=align, va="top", fontsize=7.5, color="#747d8c")
    for column, name in enumerate(("base", "tuned") if with_base else ("IoU",)):
        x, at = 1.01 + COLUMN * column, axes.get_yaxis_transform()
        axes.text(x, -0.62, name, va="center", fontsize=9, color=INK, transform=at)
    axes.set_yticks(range(len(rows)), [_label(str(row["sentence"])) for row in rows], fontsize=9.5, color=INK)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.set_ylim(len(rows) - 0.4, -0.9)
    axes.set_xlim(0, max(durations_s) if is_shared else 1)
    which = f"{len(rows)} of {shown_of} samples"
    if is_shared:
        axes.set_xlabel(f"seconds of the clip; {which}", color=INK)
    else:
        axes.set_xticks([])
        axes.set_xlabel(f"seconds of each clip, under its lane; {which}", color=INK)
    axes.tick_params(length=0, colors=INK)
    axes.spines[:].set_visible(False)
    handles = [Patch(color=TRUTH, alpha=0.22, label="ground truth"), Patch(color=TUNED, label="prediction")]
    if with_base:
        handles[1:] = [Patch(color=BASE, label="base"), Patch(color=TUNED, label="tuned")]
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, fontsize=10)


def _draw_spans(
    axes: "Axes",
    spans: Spans,
    *,
    duration_s: float,
    unit_s: float,
    y: float,
    height: float,
    color: str,
    alpha: float = 1.0,
) -> None:
    """Bars of the spans' part inside the clip, x in `unit_s`; a very short one keeps a width, a degenerate has none."""
    for start_s, end_s in spans:
        if not (np.isfinite([start_s, end_s]).all() and start_s < end_s):
            continue
        left_s, right_s = max(start_s, 0.0), min(end_s, duration_s)
        if left_s < right_s:
            width_s = max(right_s - left_s, 0.003 * duration_s)
            axes.barh(y, width_s / unit_s, left=left_s / unit_s, height=height, color=color, alpha=alpha, zorder=2)


def _draw_none(axes: "Axes", row: DrawnRow, *, x: float, y: float, color: str) -> None:
    if row.get("status") == Status.NONE:
        axes.text(x, y, NO_MOMENT, va="center", fontsize=8, color=color, fontweight="bold")


def _draw_histogram(axes: "Axes", scores: Mapping[str, np.ndarray]) -> None:
    """How the IoUs of all samples are spread, in tenths, side by side, with their means."""
    edges = np.linspace(0, 1, 11)
    width = 0.08 / len(scores)
    for column, (name, ious) in enumerate(scores.items()):
        share = np.histogram(ious, bins=edges)[0] / len(ious) * 100
        axes.bar(edges[:-1] + 0.01 + width * column, share, width=width, align="edge", color=COLORS[name])
        axes.axvline(float(ious.mean()), color=COLORS[name], linewidth=1.4, linestyle="--")
        means = f"{name}: mIoU {ious.mean() * 100:.1f}, R1@0.5 {(ious >= 0.5).mean() * 100:.1f}"
        axes.text(0, 1.02 + 0.06 * (len(scores) - 1 - column), means, color=COLORS[name], transform=axes.transAxes)
    axes.set_xlim(0, 1)
    axes.set_xlabel("IoU")
    axes.set_ylabel("samples (%)", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)


def _draw_errors(axes: "Axes", scored: Mapping[str, Sequence[DrawnRow]]) -> None:
    """How early or late starts and ends are, in seconds, as cumulative shares; of the first moment of each sample."""
    for name, rows in scored.items():
        errors_s = np.array(
            [
                (span[0] - truth[0][0], span[1] - truth[0][1])
                for row in rows
                if (truth := row_spans(row["timestamp"])) and (spans := row_spans(row["prediction"]))
                for span in spans[:1]
                if np.isfinite(span).all()
            ]
        )
        if not len(errors_s):
            continue
        for column, (end, style) in enumerate((("start", "-"), ("end", "--"))):
            values = np.sort(errors_s[:, column])
            shares = 100 * np.arange(1, len(values) + 1) / len(values)
            label = f"{name}, {end}: median {np.median(values):+.1f} s"
            axes.plot(values, shares, style, color=COLORS[name], linewidth=1.5, label=label)
    axes.axvline(0, color=FAINT, linewidth=1, zorder=0)
    axes.set_xscale("symlog", linthresh=1.0)
    axes.set_xlabel("predicted - true, in seconds (below 0: too early)", color=INK)
    axes.set_ylabel("samples with less (%)", color=INK)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
    if axes.lines[:-1]:
        axes.legend(frameon=False, fontsize=9)


def _spread(ious: np.ndarray, limit: int) -> list[int]:
    """At most `limit` samples from the best to the worst, evenly spaced in rank."""
    order = np.argsort(-ious, kind="stable")
    ranks = np.unique(np.linspace(0, len(order) - 1, min(limit, len(order))).round().astype(int))
    return order[ranks].tolist()


def _label(query: str) -> str:
    """A query in at most two lines; what does not fit ends in an ellipsis."""
    from textwrap import wrap

    lines = wrap(" ".join(query.split()), LABEL_CHARACTERS) or [""]
    if len(lines) > LABEL_LINES:
        lines = [*lines[: LABEL_LINES - 1], lines[LABEL_LINES - 1][: LABEL_CHARACTERS - 1] + "…"]
    return "\n".join(lines)
