"""A run directory as its report reads it: whatever of it is there, and a note about whatever is there but broken."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from vtg.errors import ConfigError
from vtg.evaluation.metrics import row_spans

Row = Mapping[str, Any]
Metrics = dict[str, dict[str, Any]]
Curve = dict[int, float]

SIGNS = ("config.yaml", "train_log.jsonl", "metrics.json", "predictions.jsonl")
"""A folder with one of these files is a run, or the answers of `vtg.predict`."""

SWEEP = "multirun.yaml"
"""What Hydra leaves beside the runs of a sweep."""

SPANS = ("timestamp", "prediction")


@dataclass(frozen=True)
class Run:
    """What a run left in its directory. Each part is empty where its file is missing.

    `record`: run.json, with what a reader of the scores has to know and the settings that changed on the way.

    `log`: key of train_log.jsonl → step → value, for every numeric key. `metrics`: column (base, tuned, …) → metric →
    value. `completions`: step → the file of that step's completions. `notes`: what could not be read, a line each.
    """

    folder: Path
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    config_text: str = ""
    environment: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=dict)
    log: dict[str, Curve] = field(default_factory=dict)
    base: tuple[Row, ...] = ()
    tuned: tuple[Row, ...] = ()
    skipped: tuple[Row, ...] = ()
    completions: dict[int, Path] = field(default_factory=dict)
    written: datetime | None = None
    notes: tuple[str, ...] = ()

    @property
    def last_step(self) -> int:
        """The last step the log tells of; 0 without a log."""
        return max((step for curve in self.log.values() for step in curve), default=0)


def read_run(folder: Path) -> Run:
    """Reads what is there. A line or file that is broken is noted; a last line that is still being written is not.

    Raises:
        ConfigError: for what is no folder, or a folder without any file of a run.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give the output_dir of a training run")
    if not any((folder / name).is_file() for name in SIGNS):
        raise ConfigError(f"{folder} is no run directory: it holds none of {', '.join(SIGNS)}; give an output_dir")
    notes: list[str] = []
    config_text = _text(folder / "config.yaml", notes)
    config = _config(config_text, notes)
    times = [(folder / name).stat().st_mtime for name in SIGNS if (folder / name).is_file()]
    return Run(
        folder=folder,
        name=_name(folder, config),
        config=config,
        config_text=config_text,
        environment=_object(folder / "environment.json", notes),
        record=_object(folder / "run.json", notes),
        metrics=_columns(_object(folder / "metrics.json", notes)),
        log=_curves(read_rows(folder / "train_log.jsonl", notes)),
        base=tuple(_scorable(folder / "base_predictions.jsonl", notes)),
        tuned=tuple(_scorable(folder / "predictions.jsonl", notes)),
        skipped=tuple(read_rows(folder / "skipped.jsonl", notes)),
        completions={
            int(number): path
            for path in sorted((folder / "completions").glob("step_*.jsonl"))
            if (number := path.stem.removeprefix("step_")).isdecimal()
        },
        written=datetime.fromtimestamp(max(times)),
        notes=tuple(notes),
    )


def runs_in(folder: Path) -> list[Path]:
    """The run directories of a sweep; the folder itself where it is none."""
    if any((folder / name).is_file() for name in SIGNS) or not (folder / SWEEP).is_file():
        return [folder]
    return sorted(one.parent for one in folder.glob("*/config.yaml"))


def _name(folder: Path, config: dict[str, Any]) -> str:
    """What the run is called; of a sweep, whose runs share that name, what its folder says was set."""
    if (folder.parent / SWEEP).is_file():
        return folder.resolve().name
    return str(config.get("run_name") or folder.resolve().name)


def read_rows(path: Path, notes: list[str]) -> list[Row]:
    """The objects of a JSONL file, none where it is missing. Other lines are counted in a note."""
    rows: list[Row] = []
    broken = 0
    *lines, unfinished = _text(path, notes).split("\n")  # the last is empty, or is being written, or was never finished
    for line in lines:
        row = _decoded(line)
        if isinstance(row, dict):
            rows.append(row)
        else:
            broken += bool(line.strip())
    if isinstance(row := _decoded(unfinished), dict):
        rows.append(row)
    if broken:
        notes.append(f"{path.name}: lines left out because they are no JSON objects: {broken}")
    return rows


def scorable(row: Row) -> bool:
    """Whether a row has what a timeline and an IoU need: a duration, a truth, and a list of predicted spans."""
    return (
        is_number(row.get("duration"))
        and row["duration"] > 0
        and all(name in row and _is_spans(row[name]) for name in SPANS)
        and bool(row_spans(row["timestamp"]))
    )


def is_number(value: object) -> bool:
    """Whether `value` is a finite number that a float can hold (a bool is none)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one: `{"a": {"b": 1}}` is `{"a.b": 1}`."""
    if isinstance(value, dict) and (value or not prefix):
        return {k: v for key, inner in value.items() for k, v in flat(inner, f"{prefix}{key}.").items()}
    return {prefix[:-1]: value}


def _text(path: Path, notes: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    except OSError as error:
        notes.append(f"{path.name}: cannot be read ({error.strerror})")
        return ""


def _decoded(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _config(text: str, notes: list[str]) -> dict[str, Any]:
    try:
        config = yaml.safe_load(text) if text.strip() else {}
    except yaml.YAMLError as error:
        notes.append(f"config.yaml: is not YAML ({' '.join(str(error).split())})")
        return {}
    return config if isinstance(config, dict) else {}


def _object(path: Path, notes: list[str]) -> dict[str, Any]:
    text = _text(path, notes)
    try:
        value = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        notes.append(f"{path.name}: is not JSON ({error})")
        return {}
    return value if isinstance(value, dict) else {}


def _columns(metrics: dict[str, Any]) -> Metrics:
    """Columns of metrics; the one column of `vtg.predict`, which has no name there, is `predictions`."""
    columns = {name: column for name, column in metrics.items() if isinstance(column, dict)}
    alone = {name: value for name, value in metrics.items() if is_number(value)}
    return columns or ({"predictions": alone} if alone else {})


def _curves(entries: Sequence[Row]) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    for entry in entries:
        step = entry.get("step")
        if isinstance(step, int) and is_number(step):
            for key, value in entry.items():
                if key != "step" and is_number(value):
                    curves.setdefault(key, {})[step] = float(value)
    return {key: dict(sorted(curve.items())) for key, curve in curves.items()}


def _scorable(path: Path, notes: list[str]) -> list[Row]:
    rows = read_rows(path, notes)
    kept = [row for row in rows if scorable(row)]
    if len(kept) < len(rows):
        notes.append(
            f"{path.name}: rows left out for want of duration, timestamp or prediction: {len(rows) - len(kept)}"
        )
    return kept


def _is_spans(value: object) -> bool:
    """One pair of numbers, a list of such, or nothing; a bound may be missing (null) or not finite."""
    if value is None:
        return True
    if not isinstance(value, list):
        return False
    pairs = row_spans(value)
    return all(isinstance(pair, list) and len(pair) == 2 and all(_is_bound(b) for b in pair) for pair in pairs)


def _is_bound(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
