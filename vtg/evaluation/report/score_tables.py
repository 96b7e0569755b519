"""The scores of a run in its report: the table of columns, what was gained over the base, and how IoUs are spread."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtg.evaluation.metrics import PRESETS, Interval, paired_bootstrap, row_ious
from vtg.evaluation.report.charts import histogram, legend, text_of
from vtg.evaluation.report.run_reader import Row, Run, is_number
from vtg.evaluation.report.timelines import BASE, TUNED

QUICK_RESAMPLES = 2_000
"""For the gains beside that of mIoU, which is drawn as often as in the run's closing table."""

FIRST = ("R1@0.3", "R1@0.5", "R1@0.7", "mIoU", "set_mIoU", "parse_failures", "samples", "missing")
"""Metrics in the order of a table; others follow."""

LESS_IS_BETTER = ("parse_failures", "missing")


@dataclass(frozen=True)
class Gain:
    """What `paired_bootstrap` says of a metric, in percent points, and on how many samples."""

    interval: Interval
    samples: int

    def __str__(self) -> str:
        return f"{self.interval.difference:+.1f}"

    @property
    def bounds(self) -> str:
        """The 95 % interval."""
        return f"{self.interval.low:+.1f} to {self.interval.high:+.1f}"

    @property
    def is_certain(self) -> bool:
        """Whether the interval leaves out zero."""
        return not self.interval.low <= 0 <= self.interval.high

    def document(self) -> dict[str, float | int]:
        """For `--json`."""
        bounds = self.interval
        return {"difference": bounds.difference, "low": bounds.low, "high": bounds.high, "samples": self.samples}


def gains(before: Sequence[Row], after: Sequence[Row]) -> dict[str, Gain]:
    """Metric → gain of `after` over `before`, on the samples that both answered, joined by qid."""
    other = {str(row["qid"]): row for row in after if "qid" in row}
    pairs = [(row, other[str(row["qid"])]) for row in before if "qid" in row and str(row["qid"]) in other]
    if not pairs:
        return {}
    base, tuned = (row_ious([pair[side] for pair in pairs]) for side in (0, 1))
    preset = PRESETS["vtg"]

    def gain(score: Callable[[NDArray[np.float64]], NDArray[Any]], resamples: int) -> Gain:
        found = paired_bootstrap(100.0 * score(base), 100.0 * score(tuned), resamples=resamples)
        return Gain(found, len(pairs))

    of_hits = {f"R1@{t}": gain(lambda ious, t=t: preset.hits(ious, t), QUICK_RESAMPLES) for t in preset.thresholds}
    return of_hits | {"mIoU": gain(lambda ious: ious, 10_000)}


def metric_names(columns: Sequence[dict[str, Any]]) -> list[str]:
    """All metrics of the columns, in the order of a table."""
    there = {name for column in columns for name, value in column.items() if is_number(value)}
    return [name for name in FIRST if name in there] + sorted(there - set(FIRST))


def cell(value: Any) -> str:
    """A metric as text; empty where it is missing."""
    if not is_number(value):
        return ""
    return str(value) if isinstance(value, int) else f"{value:.1f}"


def results_table(run: Run, gained: dict[str, Gain]) -> str:
    """Metrics as rows, base, tuned and control as columns, and the gain with its interval."""
    if not run.metrics:
        return ""
    heads = "".join(f"<th>{text_of(name)}</th>" for name in run.metrics)
    heads += "<th>gain</th><th>95 % interval</th>" if gained else ""
    lines = []
    for name in metric_names(list(run.metrics.values())):
        values = "".join(f"<td>{cell(column.get(name))}</td>" for column in run.metrics.values())
        lines.append(f"<tr><th>{text_of(name)}</th>{values}{_gain_cells(gained.get(name)) if gained else ''}</tr>")
    said = f"{PRESETS['vtg'].convention}. Shares in percent." + (" " + _explain(run, gained) if gained else "")
    return f"<table><thead><tr><th></th>{heads}</tr></thead>{''.join(lines)}</table><p class=said>{text_of(said)}</p>"


def spread(run: Run) -> str:
    """A histogram of IoUs, base beside tuned."""
    found = [("base", run.base, BASE), ("tuned" if run.base else "answers", run.tuned, TUNED)]
    scores = [(name, row_ious(rows), color) for name, rows, color in found if rows]
    if not scores:
        return ""
    entries = legend([(name, color) for name, _, color in scores])
    caption = "<figcaption><b>IoU of the samples</b><small>percent of samples, by IoU</small></figcaption>"
    return f"<figure>{caption}{histogram(scores)}{entries}</figure>"


def comparison_table(runs: Sequence[Run], swatches: Sequence[str]) -> str:
    """A row for each run: its tuned metrics, what the base had, and how far it is from the first run on its samples."""
    tuned = [_main_column(run) for run in runs]
    names = metric_names(tuned)
    if not names:
        return ""
    tested = {frozenset(str(row.get("qid")) for row in run.tuned) for run in runs}
    is_fair = len(tested) == 1
    best = {name: _best(name, [column.get(name) for column in tuned]) if is_fair else None for name in names}
    heads = "".join(f"<th>{text_of(name)}</th>" for name in names)
    lines = []
    for run, swatch, column in zip(runs, swatches, tuned, strict=True):
        cells = "".join(
            f"<td{' class=best' if column.get(name) == best[name] else ''}>{cell(column.get(name))}</td>"
            for name in names
        )
        base = cell(run.metrics.get("base", {}).get("mIoU"))
        over = gains(run.base, run.tuned).get("mIoU")
        against = gains(runs[0].tuned, run.tuned).get("mIoU") if run is not runs[0] else None
        lines.append(
            f"<tr><th>{swatch}{text_of(run.name)}</th>{cells}<td>{base}</td>{_gain_cells(over)}{_gain_cells(against)}</tr>"
        )
    heads += "<th>base mIoU</th><th>gain</th><th>95 %</th><th>mIoU against the first</th><th>95 %</th>"
    said = "" if is_fair else "The runs were tested on different samples: only the gains, on shared ones, compare them."
    return f"<table><thead><tr><th></th>{heads}</tr></thead>{''.join(lines)}</table><p class=said>{said}</p>"


def summary(runs: Sequence[Run]) -> str:
    """The same in short, as text: a row for each run, with mIoU of base and tuned, the gain and its 95 % interval."""
    rows: list[list[str]] = [["run", "base", "tuned", "gain", "95 % interval"]]
    for run in runs:
        over = gains(run.base, run.tuned).get("mIoU")
        base, tuned = (cell(column.get("mIoU")) for column in (run.metrics.get("base", {}), _main_column(run)))
        rows.append([run.name, base, tuned, str(over or ""), over.bounds if over else ""])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join([name.ljust(widths[0]), *(text.rjust(width) for text, width in zip(cells, widths[1:], strict=True))])
        for name, *cells in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _main_column(run: Run) -> dict[str, Any]:
    """The tuned scores, or the only ones there are."""
    return run.metrics.get("tuned") or next(iter(run.metrics.values()), {})


def _best(name: str, values: Sequence[Any]) -> Any:
    there = [value for value in values if is_number(value)]
    if name == "samples" or len(set(there)) < 2:
        return None
    return min(there) if name in LESS_IS_BETTER else max(there)


def _gain_cells(gain: Gain | None) -> str:
    if gain is None:
        return "<td></td><td></td>"
    better = ("good" if gain.interval.difference > 0 else "bad") if gain.is_certain else "unsure"
    return f"<td class={better}>{gain}</td><td>{gain.bounds}</td>"


def _explain(run: Run, gained: dict[str, Gain]) -> str:
    count = next(iter(gained.values())).samples
    said = f"Gain: tuned over base on the same {count} samples, with a paired bootstrap interval."
    if "shuffled" in run.metrics:
        said += " shuffled: the tuned model, each sample shown another video: what a guess without looking gets."
    return said
