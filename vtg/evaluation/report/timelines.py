"""Samples as timelines: the truth and what was answered, as bars over the length of the clip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vtg.evaluation.metrics import Spans, row_ious, row_spans
from vtg.evaluation.report.charts import text_of
from vtg.evaluation.report.run_reader import Row, Run, is_number, read_rows, scorable

TRUTH, BASE, TUNED = "#2f3640", "#f0932b", "#1f77b4"
SHOWN_TEXT = 400
SAMPLES_EACH = 5
GROUPS_EACH, LANES_EACH = 3, 16


@dataclass(frozen=True)
class Lane:
    """One line of a timeline; `cells` are the short texts after it, `text` the raw answer."""

    name: str
    spans: Spans
    color: str
    cells: tuple[str, ...] = ()
    text: str = ""
    tip: str = ""


@dataclass(frozen=True)
class Timeline:
    """A sample: its sentence, its clip, and its lanes, of which the first is the truth."""

    row: Row
    lanes: Sequence[Lane]
    columns: tuple[str, ...] = field(default=("IoU",))

    def html(self) -> str:
        duration_s = float(self.row["duration"])
        where = " · ".join(str(self.row[key]) for key in ("video", "qid") if self.row.get(key) is not None)
        heads = "".join(f"<span class=cell>{text_of(name)}</span>" for name in self.columns)
        lines = [
            f"<h4>{text_of(self.row.get('sentence', ''))}</h4><p class=where>{text_of(where)}</p>",
            f"<div class=lane><span class=name></span><div class=scale><span>0</span><span>{duration_s:.1f} s</span>"
            f"</div>{heads}<span class=raw></span></div>",
            *(_lane(lane, duration_s, width=len(self.columns)) for lane in self.lanes),
        ]
        return f"<article>{''.join(lines)}</article>"


def sample_sections(run: Run) -> list[tuple[str, list[Timeline]]]:
    """(title, samples): best and worst answers, and those that training changed most."""
    if not run.tuned:
        return []
    rows, scores = run.tuned, row_ious(run.tuned)
    before = {str(row.get("qid")): row for row in run.base if "qid" in row}
    bases = [before.get(str(row["qid"])) if "qid" in row else None for row in rows]
    first = row_ious([row if base is None else base for row, base in zip(rows, bases, strict=True)])
    order, change = np.argsort(-scores, kind="stable"), scores - first
    changed = np.argsort(-change, kind="stable")
    chosen = {
        "Gained most over the base": [at for at in changed if change[at] > 0],
        "Lost most against the base": [at for at in changed[::-1] if change[at] < 0],
        "Worst": list(order[::-1]),
        "Best": list(order),
    }
    shown: set[int] = set()
    sections = []
    for title, places in chosen.items():
        picked = [int(at) for at in places if int(at) not in shown][:SAMPLES_EACH]
        shown |= set(picked)
        if picked:
            sections.append((title, [_answered(rows[at], bases[at]) for at in picked]))
    return sections


def completion_sections(run: Run, notes: list[str]) -> list[tuple[str, list[Timeline]]]:
    """(title, groups) of the first, the middle and the last logged step: the truth and all completions."""
    steps = sorted(run.completions)
    sections = []
    for step in sorted({steps[0], steps[len(steps) // 2], steps[-1]}) if steps else []:
        rows = [row for row in read_rows(run.completions[step], notes) if scorable(row)]
        groups: dict[str, list[Row]] = {}
        for row in rows:
            groups.setdefault(str(row.get("qid")), []).append(row)
        ranked = sorted(groups.values(), key=_mean_reward)
        places = np.unique(np.linspace(len(ranked) - 1, 0, min(GROUPS_EACH, len(ranked))).round().astype(int))
        if len(places):
            sections.append((f"Step {step:,}", [_group(ranked[at]) for at in places[::-1]]))
    return sections


def _answered(row: Row, base: Row | None) -> Timeline:
    answers = [("base", base, BASE), ("tuned", row, TUNED)] if base is not None else [("answer", row, TUNED)]
    lanes = [
        Lane(name, row_spans(found["prediction"]), color, (f"{row_ious([found])[0]:.2f}",), _said(found))
        for name, found, color in answers
        if found is not None
    ]
    return Timeline(row, [Lane("truth", row_spans(row["timestamp"]), TRUTH), *lanes])


def _group(rows: Sequence[Row]) -> Timeline:
    """Completions of one sample, the best reward first."""
    ranked = sorted(rows, key=lambda row: -_value(row, "reward"))[:LANES_EACH]
    lanes = [Lane("truth", row_spans(rows[0]["timestamp"]), TRUTH)]
    for at, row in enumerate(ranked, 1):
        rewards = row.get("rewards")
        parts = {**rewards} if isinstance(rewards, Mapping) else {}
        parts |= {key: row[key] for key in ("reward", "advantage") if key in row}
        cells = tuple(_figures(row.get(key)) for key in ("iou", "reward", "advantage"))
        tip = "\n".join(f"{name}: {_figures(value)}" for name, value in parts.items())
        lanes.append(Lane(f"{at}", row_spans(row["prediction"]), TUNED, cells, _said(row), tip))
    return Timeline(rows[0], lanes, ("IoU", "reward", "adv."))


def _said(row: Row) -> str:
    """The raw answer, after its status where that is not ok."""
    text, status = str(row.get("text") or ""), row.get("status", "ok")
    return text if status == "ok" else f"{status}: {text}"


def _figures(value: Any) -> str:
    return f"{value:.2f}" if is_number(value) else ""


def _value(row: Row, key: str) -> float:
    return float(row[key]) if is_number(row.get(key)) else 0.0


def _mean_reward(rows: Sequence[Row]) -> float:
    return sum(_value(row, "reward") for row in rows) / len(rows)


def _lane(lane: Lane, duration_s: float, *, width: int) -> str:
    bars = "".join(_bar(start_s, end_s, duration_s, lane.color) for start_s, end_s in lane.spans)
    cells = "".join(f"<span class=cell>{text_of(cell)}</span>" for cell in (*lane.cells, *[""] * width)[:width])
    text = text_of(lane.text if len(lane.text) <= SHOWN_TEXT else f"{lane.text[:SHOWN_TEXT]}…")
    tip = f' title="{text_of(lane.tip)}"' if lane.tip else ""
    track = "track truth" if lane.color == TRUTH else "track"
    return (
        f'<div class=lane{tip}><span class=name>{text_of(lane.name)}</span><div class="{track}">{bars}</div>{cells}'
        f'<span class=raw title="{text}">{text}</span></div>'
    )


def _bar(start_s: float, end_s: float, duration_s: float, color: str) -> str:
    """The span's part inside the clip. A very short one keeps a visible width; a degenerate one has none."""
    if not (np.isfinite([start_s, end_s]).all() and start_s < end_s):
        return ""
    left, right = max(start_s / duration_s, 0.0), min(end_s / duration_s, 1.0)
    if left >= right:
        return ""
    place = f"left:{100 * left:.2f}%;width:{100 * (right - left):.2f}%;background:{color}"
    return f'<i style="{place}" title="{start_s:.2f} to {end_s:.2f} s"></i>'
