"""What a run drew of each source of its mixture against what was wanted, and how each is answered, as a table."""

from collections.abc import Sequence
from typing import Any

from vtg.report.run_reader import JsonRow, Run
from vtg.report.score_tables import format_metric


def source_table(run: Run) -> dict[str, Any]:
    """Heads and rows of text; {} where the run has no mixture."""
    if not run.sources:
        return {}
    columns = list(dict.fromkeys(name for source in run.sources for name in source["compared"]))
    heads = ["rows", "share wanted", "drawn", "samples", "tokens", *columns]
    return {"heads": heads, "rows": [_row(source, columns) for source in run.sources]}


def _row(source: JsonRow, columns: Sequence[str]) -> list[str]:
    scores = [source["compared"].get(name, ("", None)) for name in columns]
    return [
        str(source.get("name")),
        f"{source['rows']:,}",
        *(f"{100 * source[key]:.2f} %" for key in ("wanted", "drawn")),
        *(f"{source[key]:,}" for key in ("samples", "tokens")),
        *(f"{metric} {format_metric(value)}".strip() for metric, value in scores),
    ]
