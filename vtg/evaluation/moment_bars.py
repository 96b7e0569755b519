"""Moments as bars of characters over the length of a clip, for a terminal or a log: plain text, no colours."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vtg.evaluation.metrics import Spans, row_ious, row_spans
from vtg.report.charts import round_values
from vtg.tasks.answer import NO_MOMENT, Status

# Columns where nobody tells how wide it is, as in a pipe; and the most that are used.
COLUMNS, MOST_COLUMNS = 100, 140

# Characters right of a bar, for its times, and the least of the bar itself.
TIMES_WIDTH, LEAST_WIDTH = 24, 12

SAMPLES = 3


@dataclass(frozen=True)
class BarLane:
    """A line: `spans` in seconds of the clip; `note` is written where there are none to draw."""

    name: str
    spans: Spans
    note: str = ""


def answer_lane(name: str, row: Mapping[str, Any]) -> BarLane:
    """Of a row of predictions.jsonl."""
    status = str(row.get("status", Status.OK))
    note = NO_MOMENT if status == Status.NONE else status if status != Status.OK else ""
    return BarLane(name, row_spans(row["prediction"]), note)


def moment_bars(
    lanes: Sequence[BarLane], *, duration_s: float, columns: int | None = None, encoding: str | None = None
) -> list[str]:
    """The lanes below each other, and an axis of seconds.

    Args:
        columns, encoding: of what it is written to; None: those of standard output. An encoding without block
            characters gets `#` and `-`.
    """
    if columns is None:
        columns = shutil.get_terminal_size((COLUMNS, 24)).columns
    full, empty = _marks(encoding or sys.stdout.encoding or "ascii")
    names = max(len(lane.name) for lane in lanes)
    width = max(LEAST_WIDTH, min(columns, MOST_COLUMNS) - names - TIMES_WIDTH - 6)
    lines = []
    for lane in lanes:
        cells = [empty] * width
        for start_s, end_s in lane.spans:
            if np.isfinite([start_s, end_s]).all() and start_s < end_s:
                # At least one cell of a moment that has a part in the clip.
                first = int(np.floor(width * max(0.0, start_s) / duration_s + 0.5))
                last = int(np.floor(width * min(duration_s, end_s) / duration_s + 0.5))
                first = min(first, width - 1) if start_s < duration_s else width
                for at in range(first, min(width, max(last, first + 1 if end_s > 0 else first))):
                    cells[at] = full
        lines.append(f"  {lane.name:<{names}}  {''.join(cells)}  {_times(lane)}".rstrip())
    return [*lines, f"  {'':<{names}}  {_axis(duration_s, width)}"]


def sample_bars(rows: Sequence[Mapping[str, Any]], *, base: Sequence[Mapping[str, Any]] = ()) -> list[str]:
    """Some annotated rows of predictions, from the best answer to the worst, each with its true moments.

    Args:
        base: answers of the model before tuning, matched by qid.
    """
    if not rows:
        return []
    before = {str(row["qid"]): row for row in base}
    order = np.argsort(-row_ious(rows), kind="stable")
    ranks = np.unique(np.linspace(0, len(order) - 1, min(SAMPLES, len(order))).round().astype(int))
    columns = shutil.get_terminal_size((COLUMNS, 24)).columns
    which = "from the best answer to the worst" if len(ranks) > 1 else "the only one"
    lines = [f"{len(ranks)} of {len(rows)} samples, {which}:"]
    for at in order[ranks].tolist():
        row = rows[at]
        truth = row_spans(row["timestamp"])
        lanes = [BarLane("truth", truth, "" if truth else NO_MOMENT)]
        if (answer := before.get(str(row["qid"]))) is not None:
            lanes.append(answer_lane("base", answer))
        lanes.append(answer_lane("tuned" if base else "answer", row))
        sentence = " ".join("".join(c if c.isprintable() else " " for c in str(row["sentence"])).split())
        lines.append(sentence if len(sentence) <= columns else f"{sentence[: columns - 3]}...")
        lines += moment_bars(lanes, duration_s=float(row["duration"]))
    return lines


def _marks(encoding: str) -> tuple[str, str]:
    """The characters of a moment and of the rest."""
    try:
        "█─".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return "#", "-"
    return "█", "─"


def _times(lane: BarLane) -> str:
    if not lane.spans:
        return lane.note
    (start_s, end_s), *others = lane.spans
    more = f" and {len(others)} more" if others else ""
    return f"{start_s:.2f} to {end_s:.2f} s{more}" + (f" ({lane.note})" if lane.note else "")


def _axis(duration_s: float, width: int) -> str:
    """Round seconds below their cells, as many as fit, and the end of the clip."""
    end = f"{duration_s:.1f} s"
    line = [" "] * (width - len(end)) + list(end)
    free_from = 0
    for tick in round_values(0.0, duration_s, max(1, width // 10)):
        label, at = f"{tick:g}", round(width * tick / duration_s)
        if at >= free_from and at + len(label) + 1 <= width - len(end):
            line[at : at + len(label)] = label
            free_from = at + len(label) + 1
    return "".join(line)
