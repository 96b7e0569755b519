"""Samples as timelines: ground truth and predicted spans as bars over the length of the clip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vtg.evaluation.metrics import Spans, row_ious, row_spans
from vtg.report.run_reader import JsonRow, Run, is_number, is_scorable, read_rows
from vtg.tasks.answer import NO_MOMENT, Status, is_answer

# In timelines and in the histogram alike. The ground truth has the color of text, on the light and the dark page.
BASE_COLOR, TUNED_COLOR = "#f0932b", "#1f77b4"

# Characters of an answer: an untrained model may repeat itself up to the token limit.
MAX_TEXT = 400

SAMPLES_PER_SECTION = 5

# Groups: the best, the median and the worst of a step. 16 completions are twice the default `num_generations`.
GROUPS_PER_STEP, COMPLETIONS_PER_GROUP = 3, 16


@dataclass(frozen=True)
class SpanBar:
    """The part of a span inside the clip, in percent of its duration."""

    left: float
    width: float
    tip: str


@dataclass(frozen=True)
class Lane:
    """One line of a timeline. An empty `color` marks the ground truth.

    `cells`: numbers shown after the bars, as text. `text`: the model's answer. `tip`: shown under the pointer. `note`:
    stands where bars would, for a sample or an answer without a moment.
    """

    name: str
    bars: Sequence[SpanBar]
    color: str = ""
    cells: tuple[str, ...] = ()
    text: str = ""
    tip: str = ""
    note: str = ""


@dataclass(frozen=True)
class Timeline:
    """A sample with its lanes, the ground truth first. `columns`: the headings of the lanes' `cells`."""

    query: str
    source: str
    duration_s: float
    columns: tuple[str, ...]
    lanes: Sequence[Lane]


@dataclass(frozen=True)
class TimelineGroup:
    """Timelines under one heading."""

    title: str
    timelines: Sequence[Timeline]


def sample_groups(run: Run) -> list[TimelineGroup]:
    """The test samples that training changed most, some without a moment, and the worst and the best answers.

    None is shown twice.
    """
    if not run.tuned:
        return []
    rows, tuned_ious = run.tuned, row_ious(run.tuned)
    base_rows = {str(row.get("qid")): row for row in run.base if "qid" in row}
    bases = [base_rows.get(str(row["qid"])) if "qid" in row else None for row in rows]
    # A sample that the base was not asked counts as unchanged.
    base_ious = row_ious([row if base is None else base for row, base in zip(rows, bases, strict=True)])
    # Stable sorts: the same run gives the same page.
    best_first, change = np.argsort(-tuned_ious, kind="stable"), tuned_ious - base_ious
    gained_first = np.argsort(-change, kind="stable")
    candidates = {
        "Gained most over the base": [at for at in gained_first if change[at] > 0],
        "Lost most against the base": [at for at in gained_first[::-1] if change[at] < 0],
        # Else they would drown among all that score 0.
        "Without a moment": [at for at in best_first if not row_spans(rows[at]["timestamp"])],
        "Worst": list(best_first[::-1]),
        "Best": list(best_first),
    }
    shown: set[int] = set()
    groups = []
    for title, order in candidates.items():
        picked = [int(at) for at in order if int(at) not in shown][:SAMPLES_PER_SECTION]
        shown |= set(picked)
        if picked:
            groups.append(TimelineGroup(title, [_sample_timeline(rows[at], bases[at]) for at in picked]))
    return groups


def completion_groups(run: Run, notes: list[str]) -> list[TimelineGroup]:
    """Sampled completions at the first, the middle and the last logged step of GRPO. Broken lines become `notes`."""
    steps = sorted(run.completions)
    shown_steps = sorted({steps[0], steps[len(steps) // 2], steps[-1]}) if steps else []
    sections = []
    for step in shown_steps:
        rows = [row for row in read_rows(run.completions[step], notes) if is_scorable(row)]
        by_sample: dict[str, list[JsonRow]] = {}
        for row in rows:
            by_sample.setdefault(str(row.get("qid")), []).append(row)
        ranked = sorted(by_sample.values(), key=_mean_reward)
        # Evenly spaced ranks, the first and the last among them; unique where there are fewer groups than that.
        shown = np.unique(np.linspace(len(ranked) - 1, 0, min(GROUPS_PER_STEP, len(ranked))).round().astype(int))
        if len(shown):
            timelines = [_completions_timeline(ranked[at]) for at in shown[::-1]]
            sections.append(TimelineGroup(f"Step {step:,}", timelines))
    return sections


def _sample_timeline(row: JsonRow, base: JsonRow | None) -> Timeline:
    answers = [("base", base, BASE_COLOR), ("tuned", row, TUNED_COLOR)] if base else [("answer", row, TUNED_COLOR)]
    duration_s = float(row["duration"])
    lanes = [
        Lane(
            name,
            _span_bars(row_spans(answer["prediction"]), duration_s),
            color,
            cells=(f"{row_ious([answer])[0]:.2f}",),
            text=_answer_text(answer),
            note=_answer_note(answer),
        )
        for name, answer, color in answers
    ]
    return _timeline(row, lanes, columns=("IoU",))


def _completions_timeline(rows: Sequence[JsonRow]) -> Timeline:
    """The completions of one prompt, the highest reward first."""
    ranked = sorted(rows, key=lambda row: -_number_at(row, "reward"))[:COMPLETIONS_PER_GROUP]
    lanes = []
    for rank, row in enumerate(ranked, 1):
        rewards = row.get("rewards")
        parts = {**rewards} if isinstance(rewards, Mapping) else {}
        parts |= {key: row[key] for key in ("reward", "advantage") if key in row}
        lanes.append(
            Lane(
                f"{rank}",
                _span_bars(row_spans(row["prediction"]), float(rows[0]["duration"])),
                TUNED_COLOR,
                cells=tuple(_two_decimals(row.get(key)) for key in ("iou", "reward", "advantage")),
                text=_answer_text(row),
                tip="\n".join(f"{name}: {_two_decimals(value)}" for name, value in parts.items()),
                note=_answer_note(row),
            )
        )
    return _timeline(rows[0], lanes, columns=("IoU", "reward", "adv."))


def _timeline(row: JsonRow, lanes: Sequence[Lane], *, columns: tuple[str, ...]) -> Timeline:
    duration_s = float(row["duration"])
    spans = row_spans(row["timestamp"])
    note = "" if spans else NO_MOMENT
    truth = Lane("truth", _span_bars(spans, duration_s), cells=("",) * len(columns), note=note)
    source = " · ".join(str(row[key]) for key in ("video", "qid") if row.get(key) is not None)
    return Timeline(str(row.get("sentence", "")), source, duration_s, columns, [truth, *lanes])


def _span_bars(spans: Spans, duration_s: float) -> list[SpanBar]:
    """Bars of the spans that have a part inside the clip; a reversed, empty or infinite span has none."""
    bars = []
    for start_s, end_s in spans:
        if not (np.isfinite([start_s, end_s]).all() and start_s < end_s):
            continue
        left, right = max(start_s / duration_s, 0.0), min(end_s / duration_s, 1.0)
        if left < right:
            bars.append(SpanBar(100 * left, 100 * (right - left), f"{start_s:.2f} to {end_s:.2f} s"))
    return bars


def _answer_text(row: JsonRow) -> str:
    """The model's answer, after its parse status where it could not be read."""
    # A completion may be missing or null in files of other tools.
    text, status = str(row.get("text") or ""), row.get("status", "ok")
    text = text if is_answer(str(status)) else f"{status}: {text}"
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def _answer_note(row: JsonRow) -> str:
    return NO_MOMENT if row.get("status") == Status.NONE else ""


def _two_decimals(value: Any) -> str:
    return f"{value:.2f}" if is_number(value) else ""


def _number_at(row: JsonRow, key: str) -> float:
    return float(row[key]) if is_number(row.get(key)) else 0.0


def _mean_reward(rows: Sequence[JsonRow]) -> float:
    return sum(_number_at(row, "reward") for row in rows) / len(rows)
