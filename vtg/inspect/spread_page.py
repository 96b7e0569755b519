"""The page of `vtg.inspect --html`: histograms, columns, samples, a sheet, and what cannot be read."""

import base64
import json
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtg.inspect.inspection import Inspection, Report
from vtg.report.charts import COLORS, Figure, distribution
from vtg.report.html_page import Section, Tile, render
from vtg.report.value_bins import value_edges

# Keys of reports that stand in sections of their own, and so in no table of facts.
APART = ("kind", "path", "columns", "samples", "shown_samples", "problems", "broken", "broken_files", "error")
TILES = (
    "rows",
    "samples",
    "videos",
    "episodes",
    "frames",
    "hours",
    "duration",
    "duration_s",
    "broken_rows",
    "broken_videos",
)


def spread_page(title: str, parts: Mapping[str, Inspection], sheet: Image.Image | None) -> str:
    """The page of all parts of what was looked into, as HTML. `parts`: name → what is in it."""
    sections = []
    for name, found in parts.items():
        of = f"{name}: " if len(parts) > 1 else ""
        named = {
            "cannot be read": ("text_table", _table((), list(enumerate(_problems(found.report), 1)))),
            "how values are spread": ("figures", {"figures": list(_figures(found.spreads))}),
            "columns": ("text_table", _columns(found.report)),
            "samples": ("text_table", _samples(found.report)),
            "facts": ("text_table", _facts(found.report)),
        }
        sections += [
            Section(f"{of}{title}" if of else title.capitalize(), template, content)
            for title, (template, content) in named.items()
        ]
    sections.insert(0, Section("Frames", "picture", {} if sheet is None else {"source": _source(sheet)}))
    failed = any(found.failed for found in parts.values())
    tiles = [tile for found in parts.values() for tile in _tiles(found.report)] if len(parts) == 1 else []
    return render(
        "run",
        title=title,
        sections=sections,
        notes=[],
        source=" · ".join(dict.fromkeys(str(found.report["path"]) for found in parts.values())),
        chips=["something cannot be read" if failed else "all can be read"],
        tiles=tiles,
    )


def _problems(report: Report) -> Iterator[str]:
    for key in ("problems", "broken", "broken_files"):
        yield from report.get(key, ())
    if "error" in report:
        yield report["error"]


def _figures(spreads: Mapping[str, NDArray[np.float64]]) -> Iterator[Figure]:
    for name, values in spreads.items():
        values = values[np.isfinite(values)]
        if len(values):
            plot = distribution([("all", values, COLORS[0])], edges=value_edges(name, values), name=name)
            yield Figure(name, plot, f"percent of {len(values):,} values")


def _columns(report: Report) -> dict[str, Any]:
    columns = report.get("columns") or {}
    rows = [(name, *_column(column)) for name, column in columns.items()]
    return _table(("column", "type", "what its values are"), rows)


def _column(column: Any) -> tuple[str, str]:
    if isinstance(column, str):
        return column, ""
    if "types" in column:  # of JSON rows, whose types may differ from row to row
        return ", ".join(column["types"]), ", ".join(f"{count:,} {name}" for name, count in column["types"].items())
    known = {name: value for name, value in column.items() if name not in ("type", "of")}
    unit = f" {column['of']}" if "of" in column else ""
    return column["type"], ", ".join(f"{name} {value:,}" for name, value in known.items()) + unit


def _samples(report: Report) -> dict[str, Any]:
    samples = report.get("shown_samples", report.get("samples"))
    if not isinstance(samples, list):
        return {}
    rows = [
        (
            at,
            " · ".join(
                f"{name}: {value if isinstance(value, str) else json.dumps(value)}" for name, value in one.items()
            ),
        )
        for at, one in enumerate(samples, 1)
    ]
    return _table((), rows)


def _facts(report: Report) -> dict[str, Any]:
    rows = [(name, _fact(value)) for name, value in report.items() if name not in APART]
    return _table((), rows)


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_fact(one)}" for name, one in value.items())
    if isinstance(value, list):
        more = f" … ({len(value):,} in all)" if len(value) > 12 else ""
        return ", ".join(map(str, value[:12])) + more
    return "unknown" if value is None else str(value)


def _tiles(report: Report) -> Iterator[Tile]:
    for name in TILES:
        value = report.get(name)
        if isinstance(value, dict) and name.startswith("duration"):
            yield Tile("median duration", f"{value['median']:,.4g} s", f"{value['min']} to {value['max']} s")
        elif isinstance(value, int | float):
            yield Tile(name.replace("_", " "), f"{value:,.6g}")


def _table(head: tuple[str, ...], rows: list[Any]) -> dict[str, Any]:
    # Without rows a section has nothing in it, and is left out.
    return {"head": head, "rows": rows} if rows else {}


def _source(sheet: Image.Image) -> str:
    """The picture within the page, which so is one file."""
    data = BytesIO()
    sheet.convert("RGB").save(data, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
