"""The runs of a sweep in one table for the terminal: what differs, their scores, which is best, which failed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vtg.config.sweep import SweptRun, differing
from vtg.console import aligned
from vtg.report.future_tables import ALL, future_table
from vtg.report.run_reader import Run, is_number
from vtg.report.score_tables import format_metric, paired_gains

HEADINGS = ("", "base", "R1@0.5", "R1@0.7", "mIoU", "gain", "95 % interval")

FUTURE_HEADINGS = ("", "model", "copy_last", "model / copy_last", "95 % interval")
"""Of runs that predict latents: errors at all horizons."""


def sweep_text(swept: Sequence[SweptRun], runs: Mapping[Path, Run]) -> str:
    """The table. `runs`: of the jobs that left anything to read."""
    names = differing(swept)
    scored = [None if job.error else runs.get(job.folder) for job in swept]
    best = _best([run for run in scored if run is not None])
    # Jobs of one sweep are of one program, so that one of them tells.
    is_of_latents = any(run is not None and run.futures for run in scored)
    headings, scores = (FUTURE_HEADINGS, _future_scores) if is_of_latents else (HEADINGS, _scores)
    rows: list[list[str]] = [list(headings)]
    after = ["run directory"]
    for job, name, run in zip(swept, names, scored, strict=True):
        rows.append([name or job.folder.name, *(scores(run) if run else [""] * (len(headings) - 1))])
        mark = "best: " if run is not None and run is best else ""
        # One line a job, also where the error has several: it was printed whole when it came.
        after.append(f"{mark}{job.folder}" if not job.error else f"FAILED: {job.error.splitlines()[0]} ({job.folder})")
    lines = [f"{line}  {tail}" for line, tail in zip(aligned(rows), after, strict=True)]
    failed = sum(bool(job.error) for job in swept)
    if failed:
        lines.append(f"{failed} of {len(swept)} runs did not end well; the same command goes on with them")
    return "\n".join(lines)


def _scores(run: Run) -> list[str]:
    gain = paired_gains(run.base, run.tuned).get("mIoU")
    base = format_metric(run.metrics.get("base", {}).get("mIoU"))
    shown = [format_metric(run.main_metrics.get(name)) for name in ("R1@0.5", "R1@0.7", "mIoU")]
    return [base, *shown, str(gain or ""), gain.bounds if gain else ""]


def _future_scores(run: Run) -> list[str]:
    everything = next((row for row in future_table(run).get("rows", ()) if row[0] == ALL), None)
    if everything is None:
        return [""] * (len(FUTURE_HEADINGS) - 1)
    _, _, model, copy_last, *_, ratio, bounds = everything
    return [model, copy_last, ratio, bounds]


def _best(runs: Sequence[Run]) -> Run | None:
    """The run with the highest mIoU; None where they were tested on different samples, or several are as good."""
    if len({frozenset(str(row.get("qid")) for row in run.tuned) for run in runs}) != 1 or len(runs) < 2:
        return None
    scored = [run for run in runs if is_number(run.main_metrics.get("mIoU"))]
    highest = max((run.main_metrics["mIoU"] for run in scored), default=None)
    top = [run for run in scored if run.main_metrics["mIoU"] == highest]
    return top[0] if len(top) == 1 else None
