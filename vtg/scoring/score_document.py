"""scores.json: what a checkpoint scored at each budget beside what others have published; and the same as text."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vtg.config.score_settings import BenchmarkConfig
from vtg.console import aligned
from vtg.evaluation.published_scores import scores_in_context
from vtg.evaluation.score_context import Sampling
from vtg.evaluation.task_report import report
from vtg.evaluation.task_scores import Row
from vtg.report.benchmark_scores import score_rows
from vtg.tasks.all_tasks import SPAN


def budget_scores(
    predictions: Path, *, preset: str, reads_text: bool, shown: Mapping[str, Any], left_out: int
) -> dict[str, Any]:
    """The scores of a file of answers by the preset's rules, with intervals, blind controls and ceilings.

    `reads_text`: the preset parses the answers, as its script would; else vtg's own parser has.
    `shown`: the input record.
    Raises ValueError where the preset's rules refuse the answers.
    """
    sampling = Sampling(fps=shown["fps"], max_frames=shown["max_frames"]) if shown["fps"] else None
    asked, scores, statistics = scores_in_context(
        str(predictions),
        preset=preset,
        annotations=None,
        field="text" if reads_text else None,
        sampling=sampling,
    )
    return {
        "input": dict(shown),
        "questions": len(asked.cases),
        "left_out": left_out,
        "scores": scores.common,
        "printed": scores.printed,
        "statistics": statistics,
    }


def task_scores(rows: Sequence[Row], *, shown: Mapping[str, Any], left_out: int) -> dict[str, Any]:
    """As `budget_scores`, of answers among which are other tasks than spans: each by its task's metrics, `qa/accuracy`,
    and `score`, the mean over tasks of the number that each is compared by."""
    found = report(rows)
    scores = {} if found["score"] is None else {"score": found["score"]}
    bounds: dict[str, list[float]] = {}
    for task, metrics in found["tasks"].items():
        prefix = "" if task == SPAN else f"{task}/"
        scores |= {prefix + name: value for name, value in metrics.items() if name != "samples"}
        bounds |= {prefix + name: pair for name, pair in found["intervals"][task].items()}
    statistics = {"intervals": bounds}
    questions = {"input": dict(shown), "questions": len(rows), "left_out": left_out}
    return questions | {"scores": scores, "printed": {}, "statistics": statistics}


def document(
    benchmark: BenchmarkConfig, budgets: Mapping[str, dict[str, Any]], *, checkpoint: str, parser: str
) -> dict[str, Any]:
    """scores.json. `parser`: who reads the answers."""
    return {
        "report": "vtg.score",
        "checkpoint": checkpoint,
        "benchmark": benchmark.title,
        "preset": benchmark.preset,
        "parser": parser,
        "budgets": dict(budgets),
        "published": list(benchmark.published),
    }


def score_text(document: Mapping[str, Any]) -> str:
    """The table for a terminal, and what a reader has to know about it."""
    heads, rows = score_rows(document)
    lines = [
        f"{document['checkpoint']} on {document['benchmark']}, scored as {document['preset']} does; answers read by "
        f"{document['parser']}; in brackets 95 % by video",
        *aligned([heads, *rows]),
    ]
    for name, one in document["budgets"].items():
        blind = one["statistics"].get("controls", {})
        told = [f"{kind.replace('_', ' ')} {scores['mIoU']:.1f}" for kind, scores in blind.items() if "mIoU" in scores]
        if told:
            lines.append(f"{name}: mIoU of answers that know nothing of the video: {', '.join(told)}")
        if one["left_out"]:
            there = one["questions"] + one["left_out"]
            share = one["questions"] / there
            metric = "score" if "score" in one["scores"] else "mIoU"
            lines.append(
                f"{name}: {one['left_out']} of {there} questions could not be asked and are left out; counted 0, "
                f"{metric} were {one['scores'].get(metric, 0.0) * share:.1f}"
            )
    return "\n".join(lines)
