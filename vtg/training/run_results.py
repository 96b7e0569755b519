"""What a run leaves to read: answers, metrics.json, the picture, and the table of base against tuned."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vtg.evaluation.metrics import paired_bootstrap, row_ious
from vtg.evaluation.moment_bars import sample_bars
from vtg.evaluation.score_table import score_table
from vtg.evaluation.source_scores import by_source
from vtg.evaluation.span_picture import draw_predictions
from vtg.evaluation.task_scores import compared_by, headlines, score, span_rows
from vtg.ranks import is_main_process
from vtg.storage.json_files import read_jsonl, write_json, write_jsonl
from vtg.tasks.all_tasks import TASKS
from vtg.tasks.task import flat_metrics
from vtg.training.mixture_record import MixtureRecord
from vtg.training.run_record import FILES

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

    def notes(self) -> list[str]:
        """Notes on the answers for a reader of their scores."""
        # Equal texts, not equal scores: a score can stay while the answers change.
        base, tuned = (
            {row["qid"]: row["text"] for row in read_jsonl(self.run_dir / FILES[name])} for name in ("base", "tuned")
        )
        if not tuned or base != tuned:
            return []
        return [f"the tuned model gives the base's answer to all {len(tuned)} questions: it learned nothing that shows"]

    def finish(self, *, title: str, skipped: int, notes: Sequence[str] = ()) -> str:
        """Writes metrics.json and the picture of what was kept, and returns the closing table, with `notes` below."""
        answers = {name: read_jsonl(self.run_dir / file) for name, file in FILES.items() if self.has(name)}
        metrics = {name: score(rows) for name, rows in answers.items()}
        write_json(self.run_dir / "metrics.json", metrics)
        spans = {name: span_rows(rows) for name, rows in answers.items()}
        files = ["metrics.json", FILES["tuned"]]
        if spans["tuned"]:
            draw_predictions(spans["tuned"], self.run_dir / "predictions.png", base=spans["base"], title=title)
            files.append("predictions.png")
        bars = sample_bars(spans["tuned"], base=spans["base"])
        lines = [
            "",
            *bars,
            *([""] if bars else []),
            score_table({name: flat_metrics(own) for name, own in metrics.items()}),
            "",
        ]
        lines += [_gain(spans)] if spans["tuned"] and spans["base"] else []
        lines += _gains_of_tasks(metrics)
        lines += self._sources(answers)
        if "shuffled" in answers:
            lines.append(
                "shuffled: the tuned model, each sample shown another video: what a guess without looking gets"
            )
        lines += [f"note: {note}" for note in notes]
        if skipped:
            lines.append(f"{skipped} rows were skipped: {self.run_dir / 'skipped.jsonl'}")
        return "\n".join([*lines, "", *(str(self.run_dir / name) for name in files)])

    def _sources(self, answers: Mapping[str, Rows]) -> list[str]:
        """The lines of a mixture's sources, whose scores are added to mixture.json; none without a mixture."""
        record = MixtureRecord.read(self.run_dir)
        if record is None:
            return []
        of_source = {name: by_source(rows) for name, rows in answers.items()}
        for source in record.sources:
            source.scores = {name: score(rows[source.name]) for name, rows in of_source.items() if source.name in rows}
            source.compared = {name: compared_by(metrics) for name, metrics in source.scores.items()}
        record.write(self.run_dir)
        return ["", record.table()]


def _gains_of_tasks(metrics: dict[str, dict[str, Any]]) -> list[str]:
    """A line for each task other than spans: the number it is compared by, tuned against base."""
    before, after = headlines(metrics["base"]), headlines(metrics["tuned"])
    shared = [name for name in after if name in before and name in TASKS]
    return [
        f"{name}: {TASKS[name].headline} {after[name] - before[name]:+.1f} over the base ({after[name]:.1f})"
        for name in shared
    ]


def _gain(answers: dict[str, Rows]) -> str:
    tuned = {row["qid"]: row for row in answers["tuned"]}
    pairs = [(row, tuned[row["qid"]]) for row in answers["base"] if row["qid"] in tuned]
    base, after = (row_ious([pair[side] for pair in pairs]) for side in (0, 1))
    gain = paired_bootstrap(base, after)
    # Paired by question: its difficulty is in both scores, and cancels out of the interval.
    interval = f"{gain.low * 100:+.1f} to {gain.high * 100:+.1f}"
    return f"mIoU {gain.difference * 100:+.1f} over the base (95 % interval {interval})"
