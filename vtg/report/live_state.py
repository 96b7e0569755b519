"""How a run is getting on, from its files alone: whether it is going on, finished, stopped or failed, and how far."""

import json
import socket
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from vtg.report.run_reader import Run, is_number
from vtg.storage.atomic import is_running

HOLDER_FILE, STALE_S = ".running", 60.0
"""As vtg/training/run_lock.py keeps them: who runs there, and after how long without a heartbeat nobody does."""

# Partial answers → what is going on while the file is there.
PHASES = {
    "base_predictions.jsonl": "testing the base model",
    "predictions.jsonl": "testing the tuned model",
    "shuffled_predictions.jsonl": "testing with shuffled videos",
}

# What a rate is of: so many of the last entries of the log, since a run may become slower or faster.
RATE_ENTRIES = 20


@dataclass(frozen=True)
class RunState:
    """Where a run is.

    Attributes:
        state: `waiting` (there is none yet), `running`, `finished`, `stopped` or `failed`.
        detail: what it is doing, or why it failed.
        step, steps: the last logged one, and how many training has; 0 where that is not known.
        left_s: until training ends, at its pace so far; None where that is not known, or it is not training.
        tokens_per_second: of the last logged steps; None without a log.
    """

    state: str
    detail: str = ""
    step: int = 0
    steps: int = 0
    left_s: float | None = None
    tokens_per_second: float | None = None

    @property
    def share(self) -> float:
        """How much of training is done, in [0, 1]."""
        return min(1.0, self.step / self.steps) if self.steps else 0.0


def run_state(run: Run) -> RunState:
    """Reads what `run` does not hold: who runs there, and partial answers."""
    steps = _planned_steps(run)
    known: dict[str, Any] = {
        "step": run.last_step,
        "steps": steps,
        "tokens_per_second": _tokens_per_second(run),
    }
    holder = _holder(run.folder)
    if holder is not None and _is_alive(run.folder, holder):
        detail = _phase(run)
        left_s = _left_s(run, steps) if detail == "training" else None
        return RunState("running", detail, left_s=left_s, **known)
    end = _last_start(run).get("end")
    if isinstance(end, dict) and holder is None:
        return RunState(str(end.get("state")), str(end.get("why") or ""), **known)
    if holder is not None:
        return RunState("failed", "its process is gone without a word: killed, or its machine is away", **known)
    # A run of before ends were recorded, or answers of vtg.predict.
    is_done = bool(run.tuned or run.scores or "tuned" in run.metrics)
    return RunState("finished" if is_done else "stopped", **known)


def _holder(folder: Path) -> dict[str, Any] | None:
    """Who runs there, as the run says; None where nobody does."""
    try:
        holder = json.loads((folder / HOLDER_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):  # half written
        return {}
    return holder if isinstance(holder, dict) else {}


def _is_alive(folder: Path, holder: dict[str, Any]) -> bool:
    try:
        beat_s = (folder / HOLDER_FILE).stat().st_mtime
    except OSError:  # it has just ended
        return False
    pid = holder.get("pid")
    if holder.get("host") == socket.gethostname() and isinstance(pid, int) and not is_running(pid):
        return False
    return time.time() - beat_s < STALE_S


def _phase(run: Run) -> str:
    parts = {name: list(run.folder.glob(f"{name}.part*")) for name in PHASES}
    rows = run.record.get("rows")
    asked = rows.get("test") if isinstance(rows, dict) else None
    of = f" of {asked['count']}" if isinstance(asked, dict) and is_number(asked.get("count")) else ""
    for name, found in parts.items():
        if found:
            answers = sum(_answers(path) for path in found)
            return f"{PHASES[name]}: {answers}{of} answers"
    if run.record.get("trained"):
        return "writing results"
    return "training" if run.log else "loading the model and its data"


def _answers(path: Path) -> int:
    """How many answers a partial file holds: each line after its header is a batch."""
    try:
        batches = path.read_text(encoding="utf-8", errors="replace").split("\n")[1:-1]
        return sum(len(json.loads(batch)["rows"]) for batch in batches)
    except (OSError, ValueError, KeyError, TypeError):  # just removed, or written by hand
        return 0


def _last_start(run: Run) -> dict[str, Any]:
    history = run.record.get("history")
    last = history[-1] if isinstance(history, list) and history else {}
    return last if isinstance(last, dict) else {}


def _planned_steps(run: Run) -> int:
    """As many as `trainer.max_steps`, or as the epochs have at the length that they showed so far; 0: not known."""
    trainer = run.config.get("trainer")
    trainer = trainer if isinstance(trainer, dict) else {}
    most = trainer.get("max_steps")
    if isinstance(most, int) and most > 0:
        return most
    epochs, curve = trainer.get("num_train_epochs"), run.log.get("epoch") or {}
    step = max(curve, default=0)
    if not isinstance(epochs, int | float) or not step or curve[step] <= 0:
        return 0
    return max(step, round(step / curve[step] * epochs))


def _recent(run: Run) -> list[tuple[int, datetime]]:
    """The last logged steps of this start with their times: of others the clock stood still between."""
    try:
        since = datetime.fromisoformat(str(_last_start(run).get("time")))
    except ValueError:
        return []
    return [(step, at) for step, at in run.logged_at.items() if at >= since][-RATE_ENTRIES:]


def _left_s(run: Run, steps: int) -> float | None:
    recent = _recent(run)
    if len(recent) < 2 or not steps:
        return None
    (first, began), (last, ended) = recent[0], recent[-1]
    passed_s = (ended - began).total_seconds()
    if not passed_s > 0:
        return None
    since_s = (datetime.now().astimezone() - ended).total_seconds()
    return max(0.0, (steps - last) * passed_s / (last - first) - since_s)


def _tokens_per_second(run: Run) -> float | None:
    if rates := list(run.log.get("batch/tokens_per_second", {}).values())[-RATE_ENTRIES:]:
        return sum(rates) / len(rates)
    # TRL logs a total.
    totals, recent = run.log.get("num_tokens", {}), _recent(run)
    both = [(totals[step], at) for step, at in recent if step in totals]
    if len(both) < 2 or not (passed_s := (both[-1][1] - both[0][1]).total_seconds()) > 0:
        return None
    return (both[-1][0] - both[0][0]) / passed_s
