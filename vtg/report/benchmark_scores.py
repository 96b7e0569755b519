"""scores.json of `vtg.score` as tables: a checkpoint on a benchmark at each budget, beside published numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from vtg.report.run_reader import Run

COLUMNS = ("score", "R1@0.1", "R1@0.3", "R1@0.5", "R1@0.7", "mIoU", "Precision", "Recall", "IoU")
"""In the order of papers; the last three are the areas that VUE-TR is measured by. Those of other tasks than spans
follow: `qa/accuracy`."""

MEASURED = "measured"
"""The source of what a checkpoint scored here, among those of what others have published."""


def benchmark_tables(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """For each run with a scores.json: its title, the heads and rows of its table, and how each budget was shown."""
    tables = []
    for run in runs:
        if run.scores:
            heads, rows = score_rows(run.scores)
            title = f"{run.scores.get('checkpoint')} on {run.scores.get('benchmark')}"
            rules = f"Scored as {run.scores.get('preset')} does; answers read by {run.scores.get('parser')}."
            inputs = {name: _input(one.get("input")) for name, one in run.scores["budgets"].items()}
            tables.append({"title": title, "rules": rules, "heads": heads, "rows": rows, "inputs": inputs})
    return tables


def score_rows(document: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The table of scores.json: its heads, and rows of text.

    A row for each budget, with its interval under each score; below it what others have published at that budget; last
    what they have published at budgets that were not asked.
    """
    budgets, published = document["budgets"], document["published"]
    measured = [name for one in (*(b["scores"] for b in budgets.values()), *published) for name in one]
    columns = [name for name in COLUMNS if name in measured]
    columns += dict.fromkeys(name for name in measured if "/" in name)
    rows = []
    for name, one in budgets.items():
        bounds = one["statistics"]["intervals"]
        cells = [_with_interval(one["scores"].get(column), bounds.get(column)) for column in columns]
        rows.append([name, str(one["questions"]), *cells, MEASURED])
        rows += [_published(row, columns) for row in published if row.get("budget") == name]
    rows += [_published(row, columns) for row in published if row.get("budget") not in budgets]
    return ["budget", "questions", *columns, "source"], rows


def _with_interval(value: float | None, bounds: Sequence[float] | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if bounds is None else f"{value:.1f} [{bounds[0]:.1f}, {bounds[1]:.1f}]"


def _published(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    cells = [f"{row[column]:.1f}" if column in row else "-" for column in columns]
    at = f" at {row['budget']}" if "budget" in row else ""
    return [f"  {row.get('model')}, published{at}", "", *cells, str(row.get("source", "not said"))]


def _input(record: Any) -> str:
    """A budget in words."""
    if not isinstance(record, dict):
        return ""
    frames = f"{record.get('fps')} fps, at most {record.get('max_frames')} frames"
    pixels = f"{record.get('min_pixels')} to {record.get('max_pixels')} pixels, {record.get('total_pixels')} together"
    prompts = record.get("prompts")
    asked = f"; asked: {prompts[0]}" if isinstance(prompts, list) and prompts else ""
    return f"{frames} of {pixels}{asked}"
