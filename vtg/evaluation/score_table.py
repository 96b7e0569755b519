"""The scores of one or several sets of answers, as a table for the terminal."""

SHOWN = ("R1@0.3", "R1@0.5", "R1@0.7", "mIoU", "parse_failures", "samples")


def score_table(metrics: dict[str, dict[str, float | int]]) -> str:
    """Metrics side by side, a column for each set of answers."""
    width = max(len(name) for name in SHOWN)
    header = " " * width + "".join(f"{name:>10}" for name in metrics)
    lines = [header]
    for key in SHOWN:
        values = (column[key] for column in metrics.values())
        cells = "".join(f"{value:>10}" if isinstance(value, int) else f"{value:>10.1f}" for value in values)
        lines.append(f"{key:<{width}}{cells}")
    return "\n".join(lines)
