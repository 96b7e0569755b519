"""Answers to questions of a mixture, source by source."""

from collections.abc import Iterable, Mapping
from typing import Any

from vtg.annotations.joined_tables import SOURCE
from vtg.console import aligned
from vtg.evaluation.task_scores import compared_by, score

Rows = list[dict[str, Any]]


def by_source(rows: Iterable[Mapping[str, Any]]) -> dict[str, Rows]:
    """Answers by the source of their question; {} where no mixture was asked about."""
    parts: dict[str, Rows] = {}
    for row in rows:
        if (name := row.get(SOURCE)) is not None:
            parts.setdefault(str(name), []).append(dict(row))
    return parts


def source_lines(of_sources: Mapping[str, Rows]) -> list[str]:
    """A table: the answers of each source, and the number by which they are compared."""
    rows = [["source", "rows", "score"]]
    for name, own in of_sources.items():
        compared, value = compared_by(score(own))
        rows.append([name, str(len(own)), f"{compared} {value:.1f}"])
    return aligned(rows)
