"""Reports as lines for a terminal."""

import json
from typing import Any

# At either end of a list: two lines of a terminal, where an hour of video has 100,000 times.
SHOWN_TIMES = 6
# Items of a list that are longer get a line each.
LONG = 40


def report_lines(report: dict[str, Any]) -> list[str]:
    """The report for a terminal: one `key: value` a line, long lists shortened."""
    lines = []
    for key, value in report.items():
        if isinstance(value, dict):
            lines.append(f"{key}:")
            lines += [f"  {name}: {_shown(entry)}" for name, entry in value.items()]
        elif isinstance(value, list) and any(isinstance(one, dict) or len(str(one)) > LONG for one in value):
            lines.append(f"{key}:")
            lines += [f"  {one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)}" for one in value]
        else:
            lines.append(f"{key}: {_shown(value)}")
    return lines


def _shown(value: Any) -> str:
    if isinstance(value, list):
        items = [str(item) for item in value]
        if len(items) > 2 * SHOWN_TIMES:
            items = [*items[:SHOWN_TIMES], "...", *items[-SHOWN_TIMES:]]
        return ", ".join(items) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(entry)}" for name, entry in value.items())
    return "unknown" if value is None else str(value)
