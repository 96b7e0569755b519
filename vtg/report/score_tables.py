"""The scores in a report: metrics of a run, gains over the base with confidence intervals, how IoUs are spread."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtg.console import aligned
from vtg.evaluation.metrics import PRESETS, Interval, paired_bootstrap, row_ious
from vtg.report.charts import COLORS, Figure, histogram
from vtg.report.reference_columns import reference_columns
from vtg.report.run_reader import JsonRow, Run, is_number
from vtg.report.timelines import BASE_COLOR, TUNED_COLOR

# As in the table that a run prints at its end, so that both show the same interval for mIoU.
MIOU_RESAMPLES = 10_000

# For the gains in R1, which are printed nowhere else: a fifth of the time.
HIT_RESAMPLES = 2_000

# The order of papers, which readers compare with; other metrics follow by name.
METRIC_ORDER = (
    *("R1@0.3", "R1@0.5", "R1@0.7", "mIoU", "set_mIoU", "F1@0.3", "F1@0.5", "F1@0.7", "count_accuracy"),
    *("none_recall", "none_precision", "W1_s", "parse_failures", "samples", "missing"),
)

LESS_IS_BETTER = ("W1_s", "parse_failures", "missing")


@dataclass(frozen=True)
class Gain:
    """The difference of a metric between two models on the same samples, in percentage points, by paired bootstrap."""

    interval: Interval
    samples: int

    def __str__(self) -> str:
        return f"{self.interval.difference:+.1f}"

    @property
    def bounds(self) -> str:
        """The 95 % interval."""
        return f"{self.interval.low:+.1f} to {self.interval.high:+.1f}"

    @property
    def is_significant(self) -> bool:
        """Whether the interval excludes zero."""
        return not self.interval.low <= 0 <= self.interval.high

    @property
    def verdict(self) -> str:
        """`good`, `bad`, or `unsure` where the interval includes zero."""
        if not self.is_significant:  # a gain that may be chance is not coloured as one
            return "unsure"
        return "good" if self.interval.difference > 0 else "bad"

    def as_json(self) -> dict[str, float | int]:
        """For `--json`."""
        bounds = self.interval
        return {"difference": bounds.difference, "low": bounds.low, "high": bounds.high, "samples": self.samples}


@dataclass(frozen=True)
class MetricRow:
    """A metric with its value in each column, as text."""

    name: str
    cells: tuple[str, ...]
    gain: Gain | None


@dataclass(frozen=True)
class MetricTable:
    """Metrics as rows; base, tuned and control as columns; the gain of tuned over base last, where there is one."""

    columns: tuple[str, ...]
    rows: tuple[MetricRow, ...]
    has_gains: bool
    explanation: str


@dataclass(frozen=True)
class RunScores:
    """A run in a comparison: its metrics as (text, is the best of all runs), and two gains in mIoU."""

    name: str
    color: str
    cells: tuple[tuple[str, bool], ...]
    base_miou: str
    over_base: Gain | None
    over_first_run: Gain | None


@dataclass(frozen=True)
class ComparisonTable:
    """Runs as rows, metrics as columns."""

    metrics: tuple[str, ...]
    rows: tuple[RunScores, ...]
    explanation: str


def paired_gains(before: Sequence[JsonRow], after: Sequence[JsonRow]) -> dict[str, Gain]:
    """Metric → gain of `after` over `before` on the samples (by qid) that both have; empty where they share none."""
    # By qid, not by position: two runs may have been tested on other rows, or in another order.
    after_by_qid = {str(row["qid"]): row for row in after if "qid" in row}
    pairs = [(row, after_by_qid[str(row["qid"])]) for row in before if "qid" in row and str(row["qid"]) in after_by_qid]
    if not pairs:
        return {}
    ious_before, ious_after = (row_ious([pair[side] for pair in pairs]) for side in (0, 1))
    preset = PRESETS["vtg"]

    def gain(score: Callable[[NDArray[np.float64]], NDArray[Any]], resamples: int) -> Gain:
        interval = paired_bootstrap(100.0 * score(ious_before), 100.0 * score(ious_after), resamples=resamples)
        return Gain(interval, len(pairs))

    hit_gains = {f"R1@{t}": gain(lambda ious, t=t: preset.hits(ious, t), HIT_RESAMPLES) for t in preset.thresholds}
    return hit_gains | {"mIoU": gain(lambda ious: ious, MIOU_RESAMPLES)}


def format_metric(value: Any) -> str:
    """A metric as text: counts as integers, shares with one decimal; empty for what is no number."""
    if not is_number(value):
        return ""
    return str(value) if isinstance(value, int) else f"{value:.1f}"


def metric_table(run: Run, gains: dict[str, Gain]) -> MetricTable | None:
    """The metrics of a run; None where it has none yet."""
    if not run.metrics:
        return None
    # Behind the run's own, and only there: a reference is not among the runs that are compared.
    references, what_they_are = reference_columns(run.folder)
    metrics = run.metrics | references
    rows = tuple(
        MetricRow(name, tuple(format_metric(column.get(name)) for column in metrics.values()), gains.get(name))
        for name in _metric_names(list(metrics.values()))
    )
    explanation = f"{PRESETS['vtg'].convention}. Shares in percent."
    if gains:
        samples = next(iter(gains.values())).samples
        explanation += f" Gain: tuned over base on the same {samples} samples, with a paired bootstrap interval."
        # Without the explanation a low score in that column reads as a fault of the model.
        if "shuffled" in run.metrics:
            explanation += (
                " shuffled: the tuned model, each sample shown another video: what a guess without looking gets."
            )
    return MetricTable(tuple(metrics), rows, bool(gains), explanation + what_they_are)


def iou_histogram(run: Run) -> Figure | None:
    """How the IoUs of the test samples are spread, base beside tuned; None without predictions."""
    groups = [("base", run.base, BASE_COLOR), ("tuned" if run.base else "answers", run.tuned, TUNED_COLOR)]
    scores = [(name, row_ious(rows), color) for name, rows, color in groups if rows]
    if not scores:
        return None
    legend = [(name, color) for name, _, color in scores]
    return Figure("IoU of the samples", histogram(scores), "percent of samples, by IoU", legend)


def comparison_table(runs: Sequence[Run]) -> ComparisonTable | None:
    """Metrics of all runs, and the gain of each in mIoU over its base and over the first run; None without metrics."""
    columns = [run.main_metrics for run in runs]
    names = _metric_names(columns)
    if not names:
        return None
    tested_qids = {frozenset(str(row.get("qid")) for row in run.tuned) for run in runs}
    # Scores on different samples cannot be ranked: a run that was tested on easier ones would win.
    is_fair = len(tested_qids) == 1
    best = {name: _best(name, [column.get(name) for column in columns]) if is_fair else None for name in names}
    rows = tuple(
        RunScores(
            run.name,
            COLORS[at % len(COLORS)],
            tuple((format_metric(column.get(name)), _is_best(column.get(name), best[name])) for name in names),
            format_metric(run.metrics.get("base", {}).get("mIoU")),
            paired_gains(run.base, run.tuned).get("mIoU"),
            paired_gains(runs[0].tuned, run.tuned).get("mIoU") if at else None,
        )
        for at, (run, column) in enumerate(zip(runs, columns, strict=True))
    )
    unfair = "The runs were tested on different samples: only the gains, on shared ones, compare them."
    return ComparisonTable(tuple(names), rows, "" if is_fair else unfair)


def comparison_text(runs: Sequence[Run]) -> str:
    """mIoU of base and tuned, the gain and its 95 % interval: a line for each run, under a heading."""
    rows: list[list[str]] = [["run", "base", "tuned", "gain", "95 % interval"]]
    for run in runs:
        gain = paired_gains(run.base, run.tuned).get("mIoU")
        base, tuned = (format_metric(column.get("mIoU")) for column in (run.metrics.get("base", {}), run.main_metrics))
        rows.append([run.name, base, tuned, str(gain or ""), gain.bounds if gain else ""])
    return "\n".join(line.rstrip() for line in aligned(rows))


def _metric_names(columns: Sequence[dict[str, Any]]) -> list[str]:
    names = {name for column in columns for name, value in column.items() if is_number(value)}
    return [name for name in METRIC_ORDER if name in names] + sorted(names - set(METRIC_ORDER))


def _best(name: str, values: Sequence[Any]) -> float | None:
    """The best of the runs' values; None where all are the same, or where more is not better."""
    numbers = [value for value in values if is_number(value)]
    # More samples are no better, and a tie has no winner.
    if name == "samples" or len(set(numbers)) < 2:
        return None
    return min(numbers) if name in LESS_IS_BETTER else max(numbers)


def _is_best(value: Any, best: float | None) -> bool:
    return best is not None and value == best
