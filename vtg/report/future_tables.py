"""Predicted latents in a report: errors by seconds ahead, as a curve and as a table."""

from collections.abc import Sequence
from typing import Any

from vtg.report.charts import COLORS, Figure, Series, format_number, line_chart
from vtg.report.run_reader import JsonRow, Run, is_number

PREDICTORS = ("model", "copy_last", "mean", "linear")
"""Names in metrics.json of the trained predictor, and of what nothing is trained for."""

SHOWN = "l2"
"""The error that is drawn, and by which weights are chosen."""

ALL = "all"

# The line of linear extrapolation leaves the chart, or the others would lie on its floor.
ROOM = 1.5
"""The chart is so many times as high as the largest error of the others."""


def future_table(run: Run) -> dict[str, Any]:
    """Heads and rows of text of the table of errors; {} of a run that predicts no latents."""
    rows = _rows(run.futures)
    heads = ["seconds ahead", "latents", *PREDICTORS, "model / copy_last", "95 % interval"]
    return {"heads": heads, "rows": rows} if rows else {}


def _rows(document: JsonRow) -> list[list[str]]:
    rows = []
    for horizon in horizons(document, "model"):
        errors = [_error(document, name, horizon) for name in PREDICTORS]
        ratio = _ratio(document, horizon)
        latents = _of(document, "latents").get(horizon)
        shown = ["" if error is None else format_number(error) for error in errors]
        rows.append([horizon, str(latents), *shown, *((f"{ratio[0]:.3f}", ratio[1]) if ratio else ("", ""))])
    return rows


def ratio_of(run: Run) -> tuple[float, str] | None:
    """The model's error over copy_last's, at all horizons, and its 95 % interval as text, empty over one clip."""
    return _ratio(run.futures, ALL)


def shown_clips(run: Run, notes: list[str]) -> list[JsonRow]:
    """The clips of shown_futures.json; none, and a note, where the file is not as it was written."""
    clips = run.shown_futures.get("clips", [])
    if isinstance(clips, list) and all(isinstance(clip, dict) and _is_shown(clip) for clip in clips):
        return clips
    notes.append("shown_futures.json: is not what train_latents.py writes")
    return []


def _is_shown(clip: JsonRow) -> bool:
    times_s, rows = clip.get("times_s"), clip.get("rows")
    return (
        isinstance(times_s, list)
        and isinstance(rows, list)
        and all(map(is_number, (clip.get("start_s"), clip.get("seen"), *times_s)))
        and all(isinstance(row, list) and len(row) == 2 and _are_pictures(row[1], len(times_s)) for row in rows)
    )


def _are_pictures(pictures: object, count: int) -> bool:
    if not isinstance(pictures, list) or len(pictures) != count:
        return False
    # An address would be fetched by whoever opens the page.
    return all(one is None or (isinstance(one, str) and one.startswith("data:image/")) for one in pictures)


def future_figures(runs: Sequence[Run]) -> list[Figure]:
    """Errors over seconds ahead: of one run beside the baselines, of several beside each other."""
    if len(runs) == 1:
        lines = [(name, _curve(runs[0].futures, name)) for name in PREDICTORS]
    else:
        # Baselines are those of an encoder and of test clips, in which runs may differ.
        lines = [(run.name, _curve(run.futures, "model")) for run in runs]
    lines = [(name, curve) for name, curve in lines if curve]
    if not lines:
        return []
    others = [max(curve.values()) for name, curve in lines if name != "linear"]
    limit = ROOM * max(others, default=float("inf"))
    # Points and not lines: up to where it leaves, a line is part of the picture.
    kept = {name: {at: error for at, error in curve.items() if error <= limit} for name, curve in lines}
    series = [Series(name, curve, COLORS[at % len(COLORS)]) for at, (name, curve) in enumerate(kept.items())]
    plot = line_chart(series, low=0.0, x_name="seconds ahead")
    if plot is None:
        return []
    hint = "squared error in variances of the training latents, at the end of each range; 1: always saying their mean"
    legend = [(line.name, line.color) for line in series]
    return [Figure("Error by seconds ahead", plot, hint, legend)]


def horizons(document: JsonRow, name: str) -> list[str]:
    """Ranges of seconds ahead, nearest first, `all` last."""
    # As JSON they are in any order, and by name 10-11 would come before 2-3.
    return sorted(_of(document, name), key=_end_s)


def _end_s(horizon: str) -> float:
    try:
        return float(horizon.rpartition("-")[2])
    except ValueError:
        return float("inf")


def _curve(document: JsonRow, name: str) -> dict[float, float]:
    found = {_end_s(horizon): _error(document, name, horizon) for horizon in horizons(document, name) if horizon != ALL}
    return {at: error for at, error in found.items() if error is not None}


def _error(document: JsonRow, name: str, horizon: str) -> float | None:
    error = _of(_of(document, name), horizon).get(SHOWN)
    return float(error) if is_number(error) else None  # type: ignore[arg-type]


def _ratio(document: JsonRow, horizon: str) -> tuple[float, str] | None:
    ratio = _of(_of(_of(document, "ratio"), horizon), SHOWN)
    value, low, high = (ratio.get(key) for key in ("value", "low", "high"))
    # Null where copy_last made no error: what does not move has nothing to be better at.
    if not is_number(value):
        return None
    has_interval = is_number(low) and is_number(high)  # not over one clip
    return float(value), f"{low:.3f} to {high:.3f}" if has_interval else ""  # type: ignore[arg-type]


def _of(document: JsonRow, key: str) -> JsonRow:
    """A mapping in another; empty where it is none, since a file may be edited by hand."""
    inner = document.get(key)
    return inner if isinstance(inner, dict) else {}
