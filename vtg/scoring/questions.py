"""The questions of one budget in its folder: which are answered, which could not be asked, and what the answers score.

answers.jsonl      every answer so far; it stays, so that the same command asks nothing twice
predictions.jsonl  the answers in the order of the benchmark
skipped.jsonl      the questions that could not be asked
input.json         what the model was shown and asked
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vtg.annotations.sample import Sample
from vtg.config.score_settings import BenchmarkConfig
from vtg.data.answer_length import answer_room
from vtg.data.skip_report import SkipReport
from vtg.data.splits import read_split
from vtg.errors import ConfigError, RunError
from vtg.evaluation.input_record import input_record, write_input
from vtg.evaluation.partial_answers import PartialAnswers, stamps
from vtg.evaluation.presets.table import PUBLISHED
from vtg.models.checkpoint import Settings, resolve_checkpoint
from vtg.models.loading import load_processor
from vtg.scoring.answer_processes import Batch, Round
from vtg.scoring.score_document import budget_scores, task_scores
from vtg.storage.json_files import write_jsonl
from vtg.tasks.all_tasks import SPAN, task_name
from vtg.tasks.span_task import SpanTask


class Questions:
    """The questions of a benchmark at one budget.

    Args:
        folder: of this budget.
        rows_file: the annotations as a path, without the name of their form.

    Attributes:
        room: the most tokens of an answer, the same at every budget.

    Raises:
        ConfigError: no question can be asked; a published preset, which scores spans, is to score another task.
        TooManyBadRows: more than the benchmark's share cannot.
    """

    def __init__(self, name: str, settings: Settings, benchmark: BenchmarkConfig, *, folder: Path, rows_file: str):
        assert benchmark.annotation_file is not None
        self.name, self.settings, self.folder, self._benchmark = name, settings, folder, benchmark
        folder.mkdir(parents=True, exist_ok=True)
        self._report = SkipReport(folder / "skipped.jsonl", max_bad_share=benchmark.max_bad_share, group="benchmark")
        table = read_split(
            benchmark.annotation_file,
            video_dir=benchmark.video_dir,
            report=self._report,
            takes_sets=SpanTask(settings.task).takes_sets,
        )
        count = min(benchmark.max_samples or len(table), len(table))
        self.samples: list[Sample] = [table[at] for at in range(count)]
        _check_preset(benchmark.preset, self.samples)
        self.room = benchmark.max_new_tokens or answer_room(
            self.samples, task=SpanTask(settings.task), processor=load_processor(settings.model.path), most=None
        )
        self._shown = input_record(
            settings.video,
            settings.task,
            checkpoint=settings.model.path,
            max_new_tokens=self.room,
        )
        # Without batch_size: after memory ran out the answers go on with a smaller one.
        asked = {
            "checkpoint": stamps(resolve_checkpoint(settings.model.path), "*.safetensors"),
            "settings": asdict(settings),
            "rows": stamps(rows_file),
            "video_dir": benchmark.video_dir,
            "asked": [benchmark.max_samples, self.room],
        }
        self._partial = PartialAnswers(folder / "answers.jsonl", asked)
        self._report.add(list(self._partial.skipped.values()))

    @property
    def answered(self) -> int:
        """Questions that need not be asked again, those that could not be asked included."""
        return self._partial.count

    def round(self) -> Round:
        """What is left to ask."""
        asked = self._partial.rows.keys() | self._partial.skipped.keys()
        left = {at: sample for at, sample in enumerate(self.samples) if at not in asked}
        return Round(self.name, self.settings, left)

    def keep(self, batch: Batch) -> None:
        """Saves what was answered. Raises TooManyBadRows past the benchmark's share."""
        self._partial.rows |= batch.rows
        self._partial.skipped |= batch.skipped
        self._partial.add(batch.rows, batch.skipped)
        self._report.add(list(batch.skipped.values()))

    def scores(self, *, reads_text: bool) -> dict[str, Any]:
        """Writes the answers in the order of the benchmark, and scores them; see `budget_scores`.

        Raises RunError where there is none, or the preset's rules refuse them.
        """
        rows = [self._partial.rows[at] for at in sorted(self._partial.rows)]
        if not rows:
            raise RunError(f"not one of {len(self.samples)} questions could be asked; {self._report.path} says why")
        predictions = self.folder / "predictions.jsonl"
        write_jsonl(predictions, rows)
        write_input(self.folder, self._shown)
        left_out = len(self._report.skipped)
        if any(task_name(row) != SPAN for row in rows):
            return task_scores(rows, shown=self._shown, left_out=left_out)
        try:
            return budget_scores(
                predictions, preset=self._benchmark.preset, reads_text=reads_text, shown=self._shown, left_out=left_out
            )
        except ValueError as error:
            raise RunError(
                f"benchmark.preset = {self._benchmark.preset!r} cannot score these answers: {error}"
            ) from None


def _check_preset(preset: str, samples: Sequence[Sample]) -> None:
    """Raises ConfigError where a published preset is to score what is none of its spans."""
    sample = next((sample for sample in samples if sample.target.task != SPAN), None)
    if preset in PUBLISHED and sample is not None:
        raise ConfigError(
            f"benchmark.preset = {preset!r}: scores spans, and {sample.place} asks for another task "
            f"({sample.target.task}); set benchmark.preset=default, which scores each task by its own metrics"
        )
