"""The page of `vtg.validate --html`: problems, what files share, and how lengths and places of moments are spread."""

from collections import defaultdict
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtg.doctor.audit import Report
from vtg.doctor.outliers import measures
from vtg.doctor.repeats import Comparison
from vtg.doctor.row_facts import RowFacts
from vtg.report.charts import COLORS, Figure, distribution
from vtg.report.html_page import Section, Tile, render
from vtg.report.value_bins import value_edges

QUANTILES = (0, 5, 25, 50, 75, 95, 100)

Groups = list[tuple[str, NDArray[np.float64], str]]


def spreads(facts: RowFacts, words: NDArray[np.int64]) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Measure → file → its values. `words`: (N,) of the query of each row."""
    columns = (facts.start_s, facts.end_s, facts.duration_s)
    start_s, end_s, duration_s = (np.frombuffer(column, np.float32).astype(np.float64) for column in columns)
    has = end_s > start_s
    lengths = {f"{name} ({unit})": values for name, (values, unit) in measures(facts, words).items()}
    shares = {
        "moment (share of its clip)": np.where(has, (end_s - start_s) / duration_s, np.nan),
        "middle of the moment (share of its clip)": np.where(has, (start_s + end_s) / 2 / duration_s, np.nan),
        "moments a row": np.frombuffer(facts.moments, np.uint16).astype(np.float64),
    }
    of_file = np.frombuffer(facts.file, np.uint16)
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    for name, values in (lengths | shares).items():
        parts = {path: values[(of_file == at) & np.isfinite(values)] for at, path in enumerate(facts.files)}
        found[name] = {path: part for path, part in parts.items() if len(part)}
    return found


def comparison_document(facts: RowFacts, comparison: Comparison) -> dict[str, Any]:
    """What comparing found beside problems, as JSON values."""
    return {
        "shared": [
            {"file": facts.files[later], "earlier_file": facts.files[earlier], **asdict(counts)}
            for (earlier, later), counts in comparison.shared.items()
        ],
        "quantiles": {
            name: {
                path: dict(zip(map(str, QUANTILES), np.percentile(values, QUANTILES).round(3).tolist(), strict=True))
                for path, values in parts.items()
            }
            for name, parts in spreads(facts, comparison.words).items()
        },
        "rows_left_out": facts.is_full,
    }


def audit_page(report: Report, facts: RowFacts, comparison: Comparison) -> str:
    """The page, as HTML."""
    remark = "Of more rows than fit in memory the first were compared." if facts.is_full else ""
    sections = [
        Section("Problems", "problems", {"kinds": _kinds(report)}),
        Section(
            "Between files",
            "plain_table",
            {
                "head": ("file", "earlier file", "videos", "rows", "near-equal rows", "queries word for word"),
                "rows": [
                    (facts.files[later], facts.files[earlier], *map("{:,}".format, asdict(counts).values()))
                    for (earlier, later), counts in comparison.shared.items()
                ],
                "remark": remark,
            },
        ),
        Section("How rows are spread", "figures", {"figures": _figures(facts, comparison)}),
    ]
    return render(
        "run",
        title="Annotations checked",
        sections=sections,
        notes=[],
        source=" · ".join(report.files),
        chips=["no errors" if not report.errors else "has errors"],
        tiles=[
            Tile("rows", f"{report.rows:,}", f"{report.good:,} good"),
            Tile("videos", f"{len(report.videos):,}"),
            Tile("errors", f"{report.errors.total():,}", "the row is lost"),
            Tile("warnings", f"{report.warnings.total():,}"),
            Tile("notes", f"{report.notes.total():,}", "unusual, not wrong"),
        ],
    )


def _kinds(report: Report) -> list[dict[str, Any]]:
    """Each kind of problem with its exact count and the problems that are shown, errors first."""
    shown = defaultdict(list)
    for problem in report.problems:
        shown[problem.severity, problem.kind].append(problem)
    return [
        {"severity": severity, "kind": kind, "count": count, "problems": shown[severity, kind]}
        for severity, counts in report.counts()
        for kind, count in counts.most_common()
    ]


def _figures(facts: RowFacts, comparison: Comparison) -> list[Figure]:
    """A histogram a measure, files side by side; of more files than there are colors, all together."""
    together = len(facts.files) > len(COLORS)
    figures = []
    for name, parts in spreads(facts, comparison.words).items():
        if not parts:
            continue
        everything = np.concatenate(list(parts.values()))
        named = {"all files": everything} if together else parts
        groups: Groups = [(path, values, COLORS[at]) for at, (path, values) in enumerate(named.items())]
        legend = [(path, color) for path, _, color in groups] if len(groups) > 1 else []
        plot = distribution(groups, edges=value_edges(name, everything), name=name)
        figures.append(Figure(name, plot, "percent of rows", legend))
    return figures
