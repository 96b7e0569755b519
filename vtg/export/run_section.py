"""What the model card tells of the run that trained a checkpoint: scores, data, command and versions.

A card may be published: of folders of this machine it keeps the last part of the name.
"""

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from huggingface_hub import EvalResult

from vtg.report.run_reader import RUN_FILES, Run, read_run
from vtg.report.score_tables import paired_gains

# Those that decide what a model computes; the rest of environment.json is of the machine.
CARD_PACKAGES = ("vtg", "torch", "transformers", "peft", "trl", "accelerate")

# As papers print them, in percent.
CARD_METRICS = ("R1@0.3", "R1@0.5", "R1@0.7", "mIoU")


@dataclass(frozen=True)
class TrainingRun:
    """The run directory that a checkpoint lies in.

    Attributes:
        is_scored: whether its scores are of these weights: the test is of best/ alone.
    """

    run: Run
    is_scored: bool

    @property
    def command(self) -> str:
        """As it was typed, with paths shortened to their last part."""
        return " ".join(["python", *map(_without_folder, self.run.environment.get("command", []))])

    @property
    def test_set(self) -> str:
        """The name of the file that was tested on."""
        data = self.run.config.get("data", {})
        return _name(data.get("test_file") or data.get("val_file") or data.get("annotation_file"))

    def eval_results(self) -> list[EvalResult]:
        """The tuned model's scores for the card's metadata; empty without a test of these weights."""
        tuned = self.run.metrics.get("tuned", {}) if self.is_scored else {}
        return [
            EvalResult(
                task_type="video-text-to-text",
                task_name="Video temporal grounding",
                dataset_type=self.test_set,
                dataset_name=self.test_set,
                dataset_split="test",
                metric_type=metric,
                metric_name=metric,
                metric_value=round(float(tuned[metric]), 2),
            )
            for metric in CARD_METRICS
            if metric in tuned
        ]

    def section(self) -> str:
        """Markdown: results, data and training."""
        return "\n".join(["", *self._results(), *self._training()])

    def _results(self) -> list[str]:
        columns = {name: column for name, column in self.run.metrics.items() if name in ("base", "tuned", "shuffled")}
        if "tuned" not in columns:
            return []
        if not self.is_scored:
            return ["## Results", "", "Not measured: the run tested its best weights, and these are others.", ""]
        gains = paired_gains(self.run.base, self.run.tuned)
        lines = ["## Results", "", f"On {columns['tuned'].get('samples')} questions of `{self.test_set}`, in percent:"]
        lines += ["", f"| | {' | '.join(columns)} | gain (95 % interval) |", "|---|" + "---:|" * (len(columns) + 1)]
        for metric in (*CARD_METRICS, "parse_failures"):
            cells = [f"{column[metric]:.1f}" if metric in column else "" for column in columns.values()]
            gain = f"{gains[metric]} ({gains[metric].bounds})" if metric in gains else ""
            lines.append(f"| {metric} | {' | '.join(cells)} | {gain} |")
        lines += ["", "`base`: the model before training. The interval is a paired bootstrap over questions."]
        if "shuffled" in columns:
            lines.append(
                "`shuffled`: each question asked of another video, which is what a guess without looking gets."
            )
        notes = self.run.record.get("notes", [])
        return [*lines, *(["", *(f"- {note}" for note in notes)] if notes else []), ""]

    def _training(self) -> list[str]:
        data, record = self.run.config.get("data", {}), self.run.record
        files = {"train": data.get("annotation_file"), "val": data.get("val_file")}
        lines = ["## Training", "", "| split | file | rows | digest |", "|---|---|---:|---|"]
        rows: dict[str, Any] = dict(record.get("rows", {}))
        for split, facts in rows.items():
            if facts.get("count"):
                file = _name(files.get(split) or files["train"])
                lines.append(f"| {split} | `{file}` | {facts['count']} | `{facts['digest']}` |")
        if tested := record.get("base"):
            lines.append(f"| test | `{self.test_set}` | {tested['count']} | `{tested['digest']}` |")
        if self.run.skipped:
            lines += ["", f"{len(self.run.skipped)} rows were skipped, because they could not be used."]
        environment = self.run.environment
        packages = environment.get("packages", {})
        versions = [f"{name} {packages[name]}" for name in CARD_PACKAGES if packages.get(name)]
        lines += ["", "```sh", self.command, "```", "", f"Python {environment.get('python')}, {', '.join(versions)}."]
        gpus = environment.get("gpus")
        where = f"{len(gpus)} x {gpus[0]} per machine" if gpus else "CPU"
        return [*lines, f"Trained on {where}, {environment.get('world_size', 1)} processes in all.", ""]


def training_run(where: str) -> TrainingRun | None:
    """The run that the checkpoint folder `where` lies in; None where it lies in none."""
    folder = Path(where).resolve()
    if not folder.is_dir() or not any((folder.parent / name).is_file() for name in RUN_FILES):
        return None
    run = read_run(folder.parent)
    # Answers of vtg.predict have the same files, and no settings of a training.
    if "config.yaml" not in {path.name for path in folder.parent.iterdir()}:
        return None
    return TrainingRun(run, is_scored=folder.name == "best")


def _name(path: Any) -> str:
    return PurePath(str(path)).name if path else "rows without a file"


def _without_folder(word: str) -> str:
    key, equals, value = word.partition("=")
    # A list or a mapping may hold paths too: each is cut by itself.
    return key.rpartition("/")[2] + equals + ",".join(_cut(part) for part in value.split(","))


def _cut(value: str) -> str:
    bare = value.strip("[]{}'\" ")
    is_path = bare.startswith(("/", "~", "..")) or bare.startswith("./") or bare.count("/") > 1 or "://" in bare
    return value.replace(bare, PurePath(bare).name) if is_path else value
