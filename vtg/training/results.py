"""What a run shows for itself: predictions, metrics.json, the picture, and the table of base against tuned."""

from pathlib import Path
from typing import Any

from vtg.evaluation.generate import score
from vtg.evaluation.metrics import paired_bootstrap, row_ious
from vtg.evaluation.picture import draw_predictions
from vtg.output import read_jsonl, write_json, write_jsonl
from vtg.training.processes import is_main_process

FILES = {
    "base": "base_predictions.jsonl",
    "tuned": "predictions.jsonl",
    "shuffled": "shuffled_predictions.jsonl",
}
"""Where the answers of the base model, the tuned one, and the tuned one to shuffled videos are kept."""

SHOWN = ("R1@0.3", "R1@0.5", "R1@0.7", "mIoU", "parse_failures", "samples")

Rows = list[dict[str, Any]]


class Results:
    """The answers of a run, kept in its directory, so that a resumed run does not ask the base model again."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def has(self, name: str) -> bool:
        """Whether the answers `name` (a key of `FILES`) were kept before."""
        return (self.run_dir / FILES[name]).is_file()

    def keep(self, name: str, rows: Rows) -> None:
        """Writes the answers `name`; the main process alone does."""
        if is_main_process():
            write_jsonl(self.run_dir / FILES[name], rows)

    def finish(self, *, title: str, skipped: int) -> str:
        """Writes metrics.json and the picture of what was kept, and returns the closing table."""
        answers = {name: read_jsonl(self.run_dir / file) for name, file in FILES.items() if self.has(name)}
        metrics = {name: score(rows) for name, rows in answers.items()}
        write_json(self.run_dir / "metrics.json", metrics)
        picture = self.run_dir / "predictions.png"
        draw_predictions(answers["tuned"], picture, base=answers["base"], title=title)
        lines = ["", table(metrics), "", _gain(answers)]
        if "shuffled" in answers:
            lines.append(
                "shuffled: the tuned model, each sample shown another video: what a guess without looking gets"
            )
        if skipped:
            lines.append(f"{skipped} rows were skipped: {self.run_dir / 'skipped.jsonl'}")
        files = ("metrics.json", FILES["tuned"], picture.name)
        return "\n".join([*lines, "", *(str(self.run_dir / name) for name in files)])


def table(metrics: dict[str, dict[str, float | int]]) -> str:
    """Metrics side by side, a column for each set of answers."""
    width = max(len(name) for name in SHOWN)
    header = " " * width + "".join(f"{name:>10}" for name in metrics)
    lines = [header]
    for key in SHOWN:
        values = (column[key] for column in metrics.values())
        cells = "".join(f"{value:>10}" if isinstance(value, int) else f"{value:>10.1f}" for value in values)
        lines.append(f"{key:<{width}}{cells}")
    return "\n".join(lines)


def _gain(answers: dict[str, Rows]) -> str:
    tuned = {row["qid"]: row for row in answers["tuned"]}
    pairs = [(row, tuned[row["qid"]]) for row in answers["base"] if row["qid"] in tuned]
    base, after = (row_ious([pair[side] for pair in pairs]) for side in (0, 1))
    gain = paired_bootstrap(base, after)
    interval = f"{gain.low * 100:+.1f} to {gain.high * 100:+.1f}"
    return f"mIoU {gain.difference * 100:+.1f} over the base (95 % interval {interval})"
