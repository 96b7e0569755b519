"""Reads a run directory for its report: every file is optional, and a broken one becomes a note, not an error."""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from vtg.errors import ConfigError
from vtg.evaluation.metrics import row_spans
from vtg.tasks.task import flat_metrics

JsonRow = Mapping[str, Any]
"""One line of a JSONL file."""

MetricColumns = dict[str, dict[str, Any]]
"""Column (base, tuned, shuffled, …) → metric → value."""

Curve = dict[int, float]
"""Optimizer step → value, in the order of the steps."""

# A folder with one of these files is a run directory, or of `vtg.predict` or `vtg.score`: any one may be missing.
RUN_FILES = ("config.yaml", "train_log.jsonl", "metrics.json", "predictions.jsonl", "scores.json")

# Hydra writes it into the folder that holds the runs of a sweep (`--multirun`).
SWEEP_FILE = "multirun.yaml"

SPAN_FIELDS = ("timestamp", "prediction")


@dataclass(frozen=True)
class Run:
    """The contents of a run directory. A field is empty where its file is missing.

    Attributes:
        record: run.json: notes about the scores, and settings that changed on a resume.
        metrics: metrics.json by column.
        scores: scores.json of `vtg.score`.
        futures: metrics.json of a run that predicts latents, which has errors by seconds ahead; of others empty.
        shown_futures: shown_futures.json, clips of such a run with their latents as pictures.
        sources: mixture.json, the sources of a mixture.
        log: numeric keys of train_log.jsonl, each as a curve over steps.
        logged_at: step → when it was logged, with the time zone.
        base: rows of base_predictions.jsonl that can be scored.
        tuned: rows of predictions.jsonl that can be scored.
        skipped: rows of skipped.jsonl, the samples left out of training.
        completions: step → file of the completions sampled there (GRPO).
        written: when a file of the run last changed.
        notes: what could not be read, a line each.
    """

    folder: Path
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    config_text: str = ""
    environment: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    metrics: MetricColumns = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    futures: dict[str, Any] = field(default_factory=dict)
    shown_futures: dict[str, Any] = field(default_factory=dict)
    sources: tuple[JsonRow, ...] = ()
    log: dict[str, Curve] = field(default_factory=dict)
    logged_at: dict[int, datetime] = field(default_factory=dict)
    base: tuple[JsonRow, ...] = ()
    tuned: tuple[JsonRow, ...] = ()
    skipped: tuple[JsonRow, ...] = ()
    completions: dict[int, Path] = field(default_factory=dict)
    written: datetime | None = None
    notes: tuple[str, ...] = ()

    @property
    def last_step(self) -> int:
        """The last step in the log; 0 without a log."""
        return max((step for curve in self.log.values() for step in curve), default=0)

    @property
    def main_metrics(self) -> dict[str, Any]:
        """The scores of the tuned model, or of the only column there is (`vtg.predict`)."""
        return self.metrics.get("tuned") or next(iter(self.metrics.values()), {})


def read_run(folder: Path) -> Run:
    """Reads all files of a run directory, finished or not.

    Raises:
        ConfigError: `folder` does not exist, or holds no file of a run.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give the output_dir of a training run")
    if not _is_run(folder):
        raise ConfigError(f"{folder} is no run directory: it holds none of {', '.join(RUN_FILES)}; give an output_dir")
    notes: list[str] = []
    config_text = _read_text(folder / "config.yaml", notes)
    config = _parse_config(config_text, notes)
    logged = read_rows(folder / "train_log.jsonl", notes)
    metrics = _read_object(folder / "metrics.json", notes)
    # Its columns are predictors, whose errors have a horizon besides: no table of metrics would hold them.
    is_of_latents = "copy_last" in metrics
    times = [(folder / name).stat().st_mtime for name in RUN_FILES if (folder / name).is_file()]
    return Run(
        folder=folder,
        name=_run_name(folder, config),
        config=config,
        config_text=config_text,
        environment=_read_object(folder / "environment.json", notes),
        record=_read_object(folder / "run.json", notes),
        metrics={} if is_of_latents else _metric_columns(metrics),
        scores=_read_scores(folder / "scores.json", notes),
        futures=metrics if is_of_latents else {},
        shown_futures=_read_object(folder / "shown_futures.json", notes),
        sources=tuple(_read_sources(folder / "mixture.json", notes)),
        log=_curves_by_key(logged),
        logged_at=_times_by_step(logged),
        base=tuple(_read_scorable_rows(folder / "base_predictions.jsonl", notes)),
        tuned=tuple(_read_scorable_rows(folder / "predictions.jsonl", notes)),
        skipped=tuple(read_rows(folder / "skipped.jsonl", notes)),
        completions={
            int(number): path
            for path in sorted((folder / "completions").glob("step_*.jsonl"))
            if (number := path.stem.removeprefix("step_")).isdecimal()
        },
        written=datetime.fromtimestamp(max(times, default=folder.stat().st_mtime)),
        notes=tuple(notes),
    )


def runs_in(folder: Path) -> list[Path]:
    """The run directories of a sweep; `[folder]` where it is not the folder of a sweep."""
    if _is_run(folder) or not (folder / SWEEP_FILE).is_file():
        return [folder]
    return sorted(config.parent for config in folder.glob("*/config.yaml"))


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in RUN_FILES)


def _run_name(folder: Path, config: dict[str, Any]) -> str:
    # The runs of a sweep share their `run_name`; their folders are called after the overrides that differ.
    if (folder.parent / SWEEP_FILE).is_file():
        return folder.resolve().name
    return str(config.get("run_name") or folder.resolve().name)


def read_rows(path: Path, notes: list[str]) -> list[JsonRow]:
    """The JSON objects of a JSONL file, none where it is missing. Other lines are counted in a note."""
    rows: list[JsonRow] = []
    broken = 0
    # The text after the last newline is empty, or a line that a running or killed process did not finish: no note.
    *lines, unfinished = _read_text(path, notes).split("\n")
    for line in lines:
        row = _parse_json(line)
        if isinstance(row, dict):
            rows.append(row)
        else:
            broken += bool(line.strip())
    if isinstance(row := _parse_json(unfinished), dict):
        rows.append(row)
    if broken:
        notes.append(f"{path.name}: lines left out because they are no JSON objects: {broken}")
    return rows


def is_scorable(row: JsonRow) -> bool:
    """Whether a row has what an IoU and a timeline need: a duration, ground truth, a list of predicted spans."""
    return (
        is_number(row.get("duration"))
        and row["duration"] > 0
        and all(name in row and _are_spans(row[name]) for name in SPAN_FIELDS)
        and row["timestamp"] is not None  # `[]` is one: the sentence has no moment
    )


def is_number(value: object) -> bool:
    """Whether `value` is a finite number in the range of a float. A bool is not."""
    # Compared as it is: float(10**400) raises, and JSON may hold such an integer.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _read_text(path: Path, notes: list[str]) -> str:
    try:
        # A killed process may leave half of a character at the end of a file.
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    except OSError as error:
        notes.append(f"{path.name}: cannot be read ({error.strerror})")
        return ""


def _parse_json(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):  # thousands of nested brackets are a RecursionError
        return None


def _parse_config(text: str, notes: list[str]) -> dict[str, Any]:
    try:
        config = yaml.safe_load(text) if text.strip() else {}
    except yaml.YAMLError as error:
        notes.append(f"config.yaml: is not YAML ({' '.join(str(error).split())})")
        return {}
    return config if isinstance(config, dict) else {}


def _read_object(path: Path, notes: list[str]) -> dict[str, Any]:
    text = _read_text(path, notes)
    try:
        value = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        notes.append(f"{path.name}: is not JSON ({error})")
        return {}
    return value if isinstance(value, dict) else {}


def _read_scores(path: Path, notes: list[str]) -> dict[str, Any]:
    scores = _read_object(path, notes)
    if scores and not _are_scores(scores):
        notes.append(f"{path.name}: is not what vtg.score writes")
        return {}
    return scores


def _read_sources(path: Path, notes: list[str]) -> list[JsonRow]:
    sources = _read_object(path, notes).get("sources", [])
    if isinstance(sources, list) and all(isinstance(one, dict) and _is_source(one) for one in sources):
        return sources
    notes.append(f"{path.name}: is not what train_sft.py writes")
    return []


def _is_source(source: JsonRow) -> bool:
    compared = source.get("compared")
    return (
        all(is_number(source.get(key)) for key in ("rows", "wanted", "drawn", "samples", "tokens"))
        and isinstance(compared, dict)
        and all(isinstance(pair, list) and len(pair) == 2 for pair in compared.values())
    )


def _are_scores(document: Mapping[str, Any]) -> bool:
    """Whether a document has what the tables need: a file may be edited by hand, or be of another program."""
    budgets, published = document.get("budgets"), document.get("published")
    if not isinstance(budgets, dict) or not isinstance(published, list):
        return False
    rows = [row for row in published if isinstance(row, dict)]
    numbers = [value for row in rows for name, value in row.items() if name not in ("model", "budget", "source")]
    scored = [one for one in budgets.values() if isinstance(one, dict) and _has_scores(one)]
    return len(rows) == len(published) and len(scored) == len(budgets) and all(map(is_number, numbers))


def _has_scores(one: Mapping[str, Any]) -> bool:
    scores, statistics = one.get("scores"), one.get("statistics")
    bounds = statistics.get("intervals") if isinstance(statistics, dict) else None
    return (
        isinstance(scores, dict)
        and all(map(is_number, scores.values()))
        and isinstance(bounds, dict)
        and all(isinstance(pair, list) and len(pair) == 2 and all(map(is_number, pair)) for pair in bounds.values())
    )


def _metric_columns(metrics: dict[str, Any]) -> MetricColumns:
    """Metrics by column. `vtg.predict` writes a single column without a name: it is called `predictions`."""
    if any(map(is_number, metrics.values())):  # beside them there may be a dict for each task that is not spans
        return {"predictions": {name: value for name, value in flat_metrics(metrics).items() if is_number(value)}}
    return {name: flat_metrics(column) for name, column in metrics.items() if isinstance(column, dict)}


def _curves_by_key(entries: Sequence[JsonRow]) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    for entry in entries:
        step = entry.get("step")
        if isinstance(step, int) and is_number(step):
            for key, value in entry.items():
                if key != "step" and is_number(value):
                    # A resume trains and logs some steps a second time: the later entry counts.
                    curves.setdefault(key, {})[step] = float(value)
    return {key: dict(sorted(curve.items())) for key, curve in curves.items()}


def _times_by_step(entries: Sequence[JsonRow]) -> dict[int, datetime]:
    times: dict[int, datetime] = {}
    for entry in entries:
        step, when = entry.get("step"), entry.get("time")
        if isinstance(step, int) and isinstance(when, str):
            with suppress(ValueError):  # a line of another program
                times[step] = datetime.fromisoformat(when).astimezone()
    return dict(sorted(times.items()))


def _read_scorable_rows(path: Path, notes: list[str]) -> list[JsonRow]:
    rows = read_rows(path, notes)
    # Left out before anything is drawn: one broken row must not cost the page.
    kept = [row for row in rows if is_scorable(row)]
    if len(kept) < len(rows):
        notes.append(
            f"{path.name}: rows left out for want of duration, timestamp or prediction: {len(rows) - len(kept)}"
        )
    return kept


def _are_spans(value: object) -> bool:
    """Whether `value` is one (start, end) pair, a list of pairs, or None. A bound may be NaN or infinite."""
    if value is None:
        return True
    if not isinstance(value, list):
        return False
    pairs = row_spans(value)
    return all(isinstance(pair, list) and len(pair) == 2 and all(_is_bound(b) for b in pair) for pair in pairs)


def _is_bound(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
