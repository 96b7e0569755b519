"""The tables of gym.py: means over seeds with intervals, paired differences, and where the scores come from."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from gym_plan import BASELINE, Case, Run

from vtg.evaluation import controls
from vtg.evaluation.cases import true_cases
from vtg.evaluation.metrics import row_ious
from vtg.storage.json_files import read_jsonl

# Of Student's t, by degrees of freedom; a normal quantile would make intervals over three seeds half as wide.
T_975 = (math.nan, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)

MOMENT_EDGES_S = (2.0, 4.0, 8.0)

Rows = list[dict[str, Any]]


def result_of(run: Run) -> dict[str, Any]:
    """The scores of a finished run, in percent, and the IoU of each question."""
    metrics = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))
    tuned, base = metrics["tuned"], metrics["base"]
    return {
        "case": run.case.name,
        "form": run.case.form,
        "init": run.case.init,
        "loss": run.case.loss,
        "adapts": run.case.adapts,
        "seed": run.seed,
        "mIoU": tuned["mIoU"],
        "R1@0.5": tuned["R1@0.5"],
        "parse_failures": tuned["parse_failures"],
        "base_mIoU": base["mIoU"],
        "ious": [round(100 * float(iou), 2) for iou in row_ious(read_jsonl(run.path / "predictions.jsonl"))],
    }


def blind_scores(train: Path, test: Path) -> dict[str, dict[str, float]]:
    """What answers without looking get: the whole clip, and the share of it that is best on the training rows."""
    cases = list(true_cases(str(test), {}))
    span = controls.training_prior(list(true_cases(str(train), {})), path=str(train))
    answered = {"whole clip": controls.whole_video(cases), "training prior": controls.constant(cases, span)}
    scores: dict[str, dict[str, float]] = {}
    for name, found in answered.items():
        assert found is not None, "rows of the gym have durations"
        rows = [{"prediction": case.given[-1].windows, "timestamp": case.truth} for case in found]
        ious = row_ious(rows)
        scores[name] = {"mIoU": 100 * float(ious.mean()), "R1@0.5": 100 * float((ious >= 0.5).mean())}
    return scores


def tables(results: Sequence[Mapping[str, Any]], blind: Mapping[str, Mapping[str, float]], test: Rows) -> str:
    """All tables, as markdown."""
    by_case: dict[str, list[Mapping[str, Any]]] = {}
    for result in sorted(results, key=lambda result: result["seed"]):
        by_case.setdefault(result["case"], []).append(result)
    lines = ["| answer | tokens begin as | loss | trained | seeds | mIoU | R1@0.5 | unparsed | mIoU - baseline |"]
    lines.append("|---" * 9 + "|")
    baseline = {result["seed"]: result["mIoU"] for result in by_case.get(BASELINE.name, ())}
    for name, found in by_case.items():
        one = Case(found[0]["form"], found[0]["init"], found[0]["loss"], found[0]["adapts"])
        pairs = [result["mIoU"] - baseline[result["seed"]] for result in found if result["seed"] in baseline]
        cells = [one.form, one.init or "-", one.loss, one.adapts, str(len(found))]
        cells += [interval([result[key] for result in found]) for key in ("mIoU", "R1@0.5")]
        cells.append(f"{np.mean([result['parse_failures'] for result in found]):.1f}")
        cells.append("baseline" if name == BASELINE.name else interval(pairs, signed=True) if pairs else "-")
        lines.append(f"| {' | '.join(cells)} |")
    for name, scores in blind.items():
        lines.append(f"| {name}, blind | - | - | - | - | {scores['mIoU']:.1f} | {scores['R1@0.5']:.1f} | - | - |")
    if BASELINE.name in by_case:
        base = by_case[BASELINE.name][0]["base_mIoU"]
        lines.append(f"| seconds, before training | - | - | - | - | {base:.1f} | - | - | - |")
    return "\n".join([*lines, "", *_breakdown(by_case, test)])


def interval(values: Sequence[float], *, signed: bool = False) -> str:
    """`12.3 ± 0.4`: the mean, and half of its 95 % interval over seeds, which one seed alone has not."""
    mean = f"{np.mean(values):{'+' if signed else ''}.1f}"
    if len(values) < 2:
        return mean
    quantile = T_975[min(len(values) - 1, len(T_975) - 1)]
    return f"{mean} ± {quantile * np.std(values, ddof=1) / math.sqrt(len(values)):.1f}"


def _breakdown(by_case: Mapping[str, Sequence[Mapping[str, Any]]], test: Rows) -> Iterable[str]:
    """mIoU by form of question, length of clip and length of moment: means over seeds and questions."""
    longest_s = max((row["duration"] for row in test if not row["video"].startswith("videos/long")), default=0.0)
    parts: list[tuple[str, Callable[[dict[str, Any]], bool]]] = [
        *((form, lambda row, form=form: row["form"] == form) for form in dict.fromkeys(row["form"] for row in test)),
        (f"clips as in training, to {longest_s:.0f} s", lambda row: row["duration"] <= longest_s),
        ("longer clips", lambda row: row["duration"] > longest_s),
    ]
    edges = (0.0, *MOMENT_EDGES_S, math.inf)
    for low, high in pairwise(edges):
        name = f"moments over {low:g} s" if math.isinf(high) else f"{low:g} to {high:g} s"
        parts.append((name, lambda row, low=low, high=high: low < row["timestamp"][1] - row["timestamp"][0] <= high))
    masks = [(name, np.array([is_in(row) for row in test])) for name, is_in in parts]
    masks = [(name, mask) for name, mask in masks if mask.any()]
    yield f"| mIoU of | {' | '.join(f'{name} ({int(mask.sum())})' for name, mask in masks)} |"
    yield "|---" * (1 + len(masks)) + "|"
    for name, found in by_case.items():
        ious = np.mean([result["ious"] for result in found], axis=0)
        yield f"| {name} | {' | '.join(f'{ious[mask].mean():.1f}' for _, mask in masks)} |"
