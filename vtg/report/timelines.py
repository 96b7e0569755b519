"""Samples as timelines: ground truth and predicted spans as bars over the length of the clip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vtg.evaluation.metrics import Spans, row_ious, row_spans
from vtg.report.charts import COLORS, round_values
from vtg.report.film_strips import FilmStrip, FilmStrips
from vtg.report.miss_reasons import why_wrong
from vtg.report.run_reader import JsonRow, Run, is_number, is_scorable, read_rows
from vtg.tasks.answer import NO_MOMENT, Status, is_answer

# In timelines and in the histogram alike. The ground truth has the color of text, on the light and the dark page.
BASE_COLOR, TUNED_COLOR = "#f0932b", "#1f77b4"

# Characters of an answer: an untrained model may repeat itself up to the token limit.
MAX_TEXT = 400

SAMPLES_PER_SECTION = 5

# Of a run that is going on: prompts of its last step.
NEWEST_PROMPTS = 2

# Of a time axis.
TICKS = 6

# Groups: the best, the median and the worst of a step. 16 completions are twice the default `num_generations`.
GROUPS_PER_STEP, COMPLETIONS_PER_GROUP = 3, 16


@dataclass(frozen=True)
class SpanBar:
    """The part of a span inside the clip, in percent of its duration; `start_s`, `end_s`: the span itself."""

    left: float
    width: float
    start_s: float
    end_s: float

    @property
    def tip(self) -> str:
        return f"{self.start_s:.2f} to {self.end_s:.2f} s"


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
    """A sample with its lanes, the ground truth first.

    `columns`: the headings of the lanes' `cells`. `reason`: why the last answer is wrong. `film`: frames of the clip.
    """

    query: str
    source: str
    duration_s: float
    columns: tuple[str, ...]
    lanes: Sequence[Lane]
    reason: str = ""
    film: FilmStrip | None = None

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """(percent of the clip, label) of round seconds on the time axis, its end last."""
        seconds = [tick for tick in round_values(0.0, self.duration_s, TICKS) if tick < 0.9 * self.duration_s]
        places = [(100 * tick / self.duration_s, f"{tick:g}") for tick in seconds]
        return [*places, (100.0, f"{self.duration_s:.1f} s")]


@dataclass(frozen=True)
class TimelineGroup:
    """Timelines under one heading."""

    title: str
    timelines: Sequence[Timeline]


def sample_groups(run: Run, films: FilmStrips) -> list[TimelineGroup]:
    """The test samples that training changed most, some without a moment, and the worst and the best answers.

    The worst by kind: answers that cannot be read, short and long moments, the rest. None is shown twice.
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
    lengths_s = np.array([_length_s(row_spans(row["timestamp"])) for row in rows])
    # Thirds; none where lengths hardly differ, and samples without a moment are in neither.
    short_s, long_s = np.quantile(lengths_s[lengths_s > 0], (1 / 3, 2 / 3)) if (lengths_s > 0).any() else (0.0, 0.0)
    lengths_s[lengths_s == 0] = np.nan
    if not short_s < long_s:
        lengths_s[:] = np.nan
    candidates = {
        "Gained most over the base": [at for at in gained_first if change[at] > 0],
        "Lost most against the base": [at for at in gained_first[::-1] if change[at] < 0],
        # Else they would drown among all that score 0.
        "Without a moment": [at for at in best_first if not row_spans(rows[at]["timestamp"])],
        "Cannot be read": [at for at in best_first if not is_answer(str(rows[at].get("status", Status.OK)))],
        "Worst of the short moments": [at for at in best_first[::-1] if lengths_s[at] <= short_s],
        "Worst of the long moments": [at for at in best_first[::-1] if lengths_s[at] >= long_s],
        "Worst": list(best_first[::-1]),
        "Best": list(best_first),
    }
    shown: set[int] = set()
    groups = []
    for title, order in candidates.items():
        picked = [int(at) for at in order if int(at) not in shown][:SAMPLES_PER_SECTION]
        shown |= set(picked)
        if picked:
            groups.append(TimelineGroup(title, [_sample_timeline(rows[at], bases[at], films) for at in picked]))
    return groups


def compared_groups(runs: Sequence[Run], films: FilmStrips) -> list[TimelineGroup]:
    """The samples of all runs whose answers differ most, with a lane a run."""
    by_qid = [{str(row["qid"]): row for row in run.tuned if "qid" in row} for run in runs]
    shared = [qid for qid in by_qid[0] if all(qid in rows for rows in by_qid)]
    if not shared:
        return []
    ious = np.array([row_ious([rows[qid] for qid in shared]) for rows in by_qid])
    spread = ious.max(axis=0) - ious.min(axis=0)
    widest_first = np.argsort(-spread, kind="stable")[: 2 * SAMPLES_PER_SECTION]
    picked = [shared[at] for at in widest_first if spread[at] > 0]
    timelines = []
    for qid in picked:
        answers = [(run.name, rows[qid]) for run, rows in zip(runs, by_qid, strict=True)]
        lanes = [_answer_lane(name, row, COLORS[at % len(COLORS)]) for at, (name, row) in enumerate(answers)]
        timelines.append(_timeline(answers[0][1], lanes, columns=("IoU",), film=films.of(answers[0][1])))
    return [TimelineGroup("Where the runs differ most", timelines)] if timelines else []


def completion_groups(run: Run, films: FilmStrips, notes: list[str]) -> list[TimelineGroup]:
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
            timelines = [_completions_timeline(ranked[at], films) for at in shown[::-1]]
            sections.append(TimelineGroup(f"Step {step:,}", timelines))
    return sections


def newest_group(run: Run, films: FilmStrips) -> list[TimelineGroup]:
    """The last answers of a run that is going on: completions of its last step, of its test, or the base model's."""
    notes: list[str] = []  # a line that is being written is no fault
    if run.completions and not list(run.folder.glob("*.part*")):
        step = max(run.completions)
        rows = [row for row in read_rows(run.completions[step], notes) if is_scorable(row)]
        by_sample: dict[str, list[JsonRow]] = {}
        for row in rows:
            by_sample.setdefault(str(row.get("qid")), []).append(row)
        last = list(by_sample.values())[-NEWEST_PROMPTS:]
        timelines = [_completions_timeline(group, films) for group in last]
        return [TimelineGroup(f"Sampled at step {step:,}", timelines)] if timelines else []
    parts = sorted(run.folder.glob("*predictions.jsonl.part*"))
    answers = [row for path in parts for row in _partial_rows(path, notes)]
    title = "Of the test that is going on"
    if not answers and not run.tuned:
        answers, title = list(run.base), "Of the base model"
    timelines = [_sample_timeline(row, None, films) for row in answers[-SAMPLES_PER_SECTION:]]
    return [TimelineGroup(title, timelines)] if timelines else []


def _partial_rows(path: Path, notes: list[str]) -> list[JsonRow]:
    """Rows of a file of partial answers, whose lines are batches (`vtg.evaluation.partial_answers`)."""
    batches = [line.get("rows") for line in read_rows(path, notes)]
    rows = [row for batch in batches if isinstance(batch, dict) for row in batch.values()]
    return [row for row in rows if isinstance(row, dict) and is_scorable(row)]


def _sample_timeline(row: JsonRow, base: JsonRow | None, films: FilmStrips) -> Timeline:
    answers = [("base", base, BASE_COLOR), ("tuned", row, TUNED_COLOR)] if base else [("answer", row, TUNED_COLOR)]
    lanes = [_answer_lane(name, answer, color) for name, answer, color in answers]
    reason = f"{answers[-1][0]}: {why}" if (why := why_wrong(row)) else ""
    return _timeline(row, lanes, columns=("IoU",), reason=reason, film=films.of(row))


def _answer_lane(name: str, row: JsonRow, color: str) -> Lane:
    return Lane(
        name,
        span_bars(row_spans(row["prediction"]), float(row["duration"])),
        color,
        cells=(f"{row_ious([row])[0]:.2f}",),
        text=_answer_text(row),
        note=_answer_note(row),
    )


def _completions_timeline(rows: Sequence[JsonRow], films: FilmStrips) -> Timeline:
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
                span_bars(row_spans(row["prediction"]), float(rows[0]["duration"])),
                TUNED_COLOR,
                cells=tuple(_two_decimals(row.get(key)) for key in ("iou", "reward", "advantage")),
                text=_answer_text(row),
                tip="\n".join(f"{name}: {_two_decimals(value)}" for name, value in parts.items()),
                note=_answer_note(row),
            )
        )
    return _timeline(rows[0], lanes, columns=("IoU", "reward", "adv."), film=films.of(rows[0]))


def _timeline(
    row: JsonRow, lanes: Sequence[Lane], *, columns: tuple[str, ...], reason: str = "", film: FilmStrip | None = None
) -> Timeline:
    duration_s = float(row["duration"])
    spans = row_spans(row["timestamp"])
    note = "" if spans else NO_MOMENT
    truth = Lane("truth", span_bars(spans, duration_s), cells=("",) * len(columns), note=note)
    source = " · ".join(str(row[key]) for key in ("video", "qid") if row.get(key) is not None)
    return Timeline(str(row.get("sentence", "")), source, duration_s, columns, [truth, *lanes], reason, film)


def span_bars(spans: Spans, duration_s: float) -> list[SpanBar]:
    """Bars of the spans that have a part inside the clip; a reversed, empty or infinite span has none."""
    bars = []
    for start_s, end_s in spans:
        if not (np.isfinite([start_s, end_s]).all() and start_s < end_s):
            continue
        left, right = max(start_s / duration_s, 0.0), min(end_s / duration_s, 1.0)
        if left < right:
            bars.append(SpanBar(100 * left, 100 * (right - left), float(start_s), float(end_s)))
    return bars


def _answer_text(row: JsonRow) -> str:
    """The model's answer, after its parse status where it could not be read."""
    # A completion may be missing or null in files of other tools.
    text, status = str(row.get("text") or ""), row.get("status", "ok")
    text = text if is_answer(str(status)) else f"{status}: {text}"
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def _answer_note(row: JsonRow) -> str:
    return NO_MOMENT if row.get("status") == Status.NONE else ""


def _length_s(spans: Spans) -> float:
    return float(sum(end_s - start_s for start_s, end_s in spans))


def _two_decimals(value: Any) -> str:
    return f"{value:.2f}" if is_number(value) else ""


def _number_at(row: JsonRow, key: str) -> float:
    return float(row[key]) if is_number(row.get(key)) else 0.0


def _mean_reward(rows: Sequence[JsonRow]) -> float:
    return sum(_number_at(row, "reward") for row in rows) / len(rows)
