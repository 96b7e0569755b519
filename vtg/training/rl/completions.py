"""The completions of a rollout: rows for people, and the numbers that show reward hacking."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vtg.annotations.sample import Sample
from vtg.storage.json_files import read_jsonl, write_jsonl
from vtg.tasks.all_tasks import Tasks
from vtg.tasks.answer import Answer, Status, is_answer
from vtg.tasks.iou import set_iou
from vtg.tasks.task import Reading

FOLDER = "completions"
"""In the run directory: step_000012.jsonl are the completions that were sampled after 12 optimizer steps."""

# Five shares of 0.2 are few enough to read as curves of one plot while training runs.
IOU_BINS = 5
WHOLE_VIDEO = 0.95
"""An answer that covers this share of the clip is a whole-video answer."""


def completion_row(
    tasks: Tasks,
    sample: Sample,
    answer: Answer | Reading,
    *,
    step: int,
    rewards: dict[str, float | None],
    reward: float | None,
    advantage: float,
) -> dict[str, Any]:
    """One line of completions/: the annotation's keys, the text and what it was worth.

    `iou` of spans; of other tasks `score`, the reward of the task, 0 to 1.
    """
    if isinstance(answer, Answer):
        worth = {"iou": completion_iou(sample, answer)}
    else:
        worth = {"score": tasks.others[sample.target.task].reward(answer, sample)}
    return {
        "step": step,
        **sample.row(),
        # The raw text, parsed or not: reward hacking shows in what the model writes before it shows in the scores.
        "text": answer.text,
        "prediction": answer.value,
        "status": str(answer.status),
        **worth,
        "rewards": rewards,
        "reward": reward,
        "advantage": advantage,
    }


def completion_iou(sample: Sample, answer: Answer) -> float:
    """IoU of an answer's moments with the true ones, 1 for a right "none"; 0 for what is not a valid answer."""
    if answer.status is Status.NONE and not sample.spans:
        return 1.0
    return set_iou(answer.spans, sample.spans) if answer.status is Status.OK else 0.0


def completion_statistics(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Of the rows of a rollout on all ranks: IoU and its histogram, parse statuses, predicted against true length.

    Of the rows of other tasks than spans: score/<task>, their mean score, and parse/<task>, the share that can be read.
    Keys: iou/mean; iou/0.0-0.2 … iou/0.8-1.0, shares; parse/<status>, shares; length/predicted_s and length/true_s,
    mean seconds of the moments of valid answers; length/whole_video_share, of valid answers.
    """
    others: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if "score" in row:
            others.setdefault(row["task"], []).append(row)
    statistics = {f"score/{name}": float(np.mean([row["score"] for row in own])) for name, own in others.items()}
    for name, own in others.items():
        statistics[f"parse/{name}"] = float(np.mean([is_answer(row["status"]) for row in own]))
    spans = [row for row in rows if "iou" in row]
    return statistics | (_span_statistics(spans) if spans else {})


def _span_statistics(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    ious = np.array([row["iou"] for row in rows])
    # The last bin is closed: an IoU of exactly 1 belongs to it.
    bins = np.minimum((ious * IOU_BINS).astype(int), IOU_BINS - 1)
    statistics = {"iou/mean": float(ious.mean())}
    for at in range(IOU_BINS):
        statistics[f"iou/{at / IOU_BINS:.1f}-{(at + 1) / IOU_BINS:.1f}"] = float((bins == at).mean())
    statuses = [row["status"] for row in rows]
    statistics |= {f"parse/{status}": statuses.count(status) / len(rows) for status in map(str, Status)}
    valid = [row for row in rows if row["status"] == Status.OK]
    if valid:
        predicted_s = np.array([_length_s(row["prediction"]) for row in valid])
        durations_s = np.array([row["duration"] for row in valid])
        statistics["length/predicted_s"] = float(predicted_s.mean())
        statistics["length/true_s"] = float(np.mean([_length_s(row["timestamp"]) for row in valid]))
        statistics["length/whole_video_share"] = float((predicted_s >= WHOLE_VIDEO * durations_s).mean())
    return statistics


def write_completions(run_dir: Path, step: int, rows: Sequence[dict[str, Any]], *, begin: bool) -> None:
    """Writes the rows of a rollout, or adds to them those of the prompts that took the place of some (not `begin`)."""
    # Rewritten whole, so that a kill leaves the old file or the new one, never half a line.
    path = run_dir / FOLDER / f"step_{step:06d}.jsonl"
    write_jsonl(path, [*(read_jsonl(path) if path.exists() and not begin else []), *rows])


def drop_completions(run_dir: Path, *, after: int) -> None:
    """Removes the files of steps after `after`, which a run that resumes from there samples again."""
    for file in (run_dir / FOLDER).glob("step_*.jsonl"):
        if int(file.stem.removeprefix("step_")) >= after:
            file.unlink()


def set_completions_aside(run_dir: Path, *, since: int, folder: str) -> None:
    """Moves the files of steps from `since` on, which are counted otherwise now, into a folder beside them."""
    for file in (run_dir / FOLDER).glob("step_*.jsonl"):
        if int(file.stem.removeprefix("step_")) >= since:
            (run_dir / FOLDER / folder).mkdir(exist_ok=True)
            file.rename(run_dir / FOLDER / folder / file.name)


def _length_s(spans: Any) -> float:
    """Seconds covered by one [start, end], or the sum of several."""
    pairs = spans if not spans or isinstance(spans[0], list) else [spans]
    return float(sum(end - start for start, end in pairs))
