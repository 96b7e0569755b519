"""The scores of one or several sets of answers, as a table for the terminal."""

SHOWN = ("R1@0.3", "R1@0.5", "R1@0.7", "mIoU", "parse_failures", "samples")
OF_SETS = ("F1@0.5", "count_accuracy", "none_recall", "none_precision")
"""Shown where there are any: some question has no moment, or several."""


def score_table(metrics: dict[str, dict[str, float | int]]) -> str:
    """Metrics side by side, a column for each set of answers."""
    of_sets = [key for key in OF_SETS if any(key in column for column in metrics.values())]
    # Of tasks other than spans: `caption/rouge_L`.
    of_tasks = [key for key in dict.fromkeys(key for column in metrics.values() for key in column) if "/" in key]
    has_spans = any("mIoU" in column for column in metrics.values())
    shown = [*((*SHOWN[:4], *of_sets, *SHOWN[4:]) if has_spans else ()), *of_tasks, *(["score"] if of_tasks else [])]
    width = max(len(name) for name in shown)
    header = " " * width + "".join(f"{name:>10}" for name in metrics)
    lines = [header]
    for key in shown:
        values = (column.get(key, "-") for column in metrics.values())
        cells = "".join(f"{value:>10.1f}" if isinstance(value, float) else f"{value:>10}" for value in values)
        lines.append(f"{key:<{width}}{cells}")
    return "\n".join(lines)
