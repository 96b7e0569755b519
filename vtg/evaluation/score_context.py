"""What stands beside a score: intervals, a second run, blind controls, ceilings, sets, ends, where it comes from."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vtg.console import aligned
from vtg.evaluation import controls
from vtg.evaluation.breakdown import boundary_errors_s, breakdowns
from vtg.evaluation.intervals import bounds_text, finite_bounds, video_bootstrap
from vtg.evaluation.presets.case import Case, Scores
from vtg.evaluation.ranked_metrics import DEFAULT_IOUS, ranked_metrics
from vtg.evaluation.set_metrics import set_metrics

THRESHOLDS = (0.3, 0.5, 0.7)
MEASURED = (*(f"R1@{threshold}" for threshold in THRESHOLDS), "mIoU")

Scorer = Callable[[Sequence[Case]], Scores]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How cases are scored: by which function, whether an IoU at a threshold is a hit, whether windows are seconds."""

    score: Scorer
    inclusive: bool
    in_seconds: bool = True


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """The frames a model sees: so many a second, at most `max_frames` (None: no limit)."""

    fps: float
    max_frames: int | None = None


def context(
    cases: Sequence[Case],
    scores: Scores,
    rules: Rules,
    *,
    training: Sequence[Case] | None = None,
    training_path: str = "",
    sampling: Sampling | None = None,
    other: tuple[Sequence[Case], Scores] | None = None,
    ious_asked: Sequence[float] = DEFAULT_IOUS,
) -> dict[str, Any]:
    """What `--statistics` reports: `intervals`, `controls`, `ceilings`, `compared`, `ranked`, `sets`, `ends`,
    `breakdown`.

    `cases` have their windows; `other` is a second run on the same questions. What cannot be told is left out.
    Raises ValueError where two runs share no question.
    """
    ious = np.array(scores.ious, dtype=np.float64)
    videos = [case.video or case.name for case in cases]
    intervals = video_bootstrap(_measurements(ious, rules.inclusive), videos)
    report: dict[str, Any] = {"intervals": finite_bounds(dict(zip(MEASURED, intervals, strict=True)))}
    if other is not None:
        report["compared"] = _compared(cases, scores, *other, rules=rules)
    if not rules.in_seconds:
        return report
    blind = {"whole_video": controls.whole_video(cases), "shuffled": controls.shuffled(cases)}
    if training is not None:
        span = controls.training_prior(training, path=training_path)
        blind["training_prior"] = controls.constant(cases, span)
        report["training_prior_span"] = span
    report["controls"] = {name: rules.score(answered).common for name, answered in blind.items() if answered}
    report["ceilings"] = _ceilings(cases, rules, sampling)
    listed = [(case.given[-1].windows or []) if case.given else [] for case in cases]
    report["ranked"] = ranked_metrics(cases, ious_asked)
    report["sets"] = set_metrics(listed, [case.truth for case in cases])
    report["ends"] = boundary_errors_s(cases)
    report["breakdown"] = breakdowns(cases, ious)
    return report


def _measurements(ious: np.ndarray, inclusive: bool) -> np.ndarray:
    """Hits at each threshold and the IoU, in percent, `(N, 4)`; NaN stays NaN."""
    hits = [(ious >= at if inclusive else ious > at).astype(np.float64) for at in THRESHOLDS]
    columns = [np.where(np.isnan(ious), np.nan, column) for column in (*hits, ious)]
    return 100 * np.stack(columns, axis=1)


def _ceilings(cases: Sequence[Case], rules: Rules, sampling: Sampling | None) -> dict[str, dict[str, float]]:
    """Scores of people against one another, the mean of all rounds, and of the true windows on the sampled frames."""
    ceilings: dict[str, dict[str, float]] = {}
    if rounds := controls.annotator_rounds(cases):
        scored = [rules.score(one).common for one in rounds]
        ceilings["human"] = {name: float(np.mean([one[name] for one in scored])) for name in scored[0]}
    if sampling is not None:
        answered = controls.on_frames(cases, fps=sampling.fps, max_frames=sampling.max_frames)
        if answered:
            ceilings["on_frames"] = rules.score(answered).common
    return ceilings


def _compared(
    cases: Sequence[Case], scores: Scores, other_cases: Sequence[Case], other: Scores, *, rules: Rules
) -> dict[str, Any]:
    """The second run less the first on the questions of both: differences, and intervals by video."""
    measured = _measurements(np.array(other.ious, dtype=np.float64), rules.inclusive)
    rows = dict(zip(map(_key, other_cases), measured, strict=True))
    shared = [at for at, case in enumerate(cases) if _key(case) in rows]
    if not shared:
        raise ValueError(f"the two files share no question (first: {cases[0].name!r}, {other_cases[0].name!r})")
    first = _measurements(np.array(scores.ious, dtype=np.float64), rules.inclusive)[shared]
    second = np.stack([rows[_key(cases[at])] for at in shared])
    videos = [cases[at].video or cases[at].name for at in shared]
    differences = video_bootstrap(second - first, videos)
    report: dict[str, Any] = {name: asdict(one) for name, one in zip(MEASURED, differences, strict=True)}
    return report | {"samples": len(shared)}


def _key(case: Case) -> tuple[str | None, ...]:
    return (case.qid,) if case.qid is not None else (case.video, case.query, str(case.truth))


def context_table(common: dict[str, float], report: dict[str, Any]) -> str:
    """The report as text: a row for each measurement, its interval, controls and ceilings; then the rest in lines."""
    beside: dict[str, dict[str, float]] = {**report.get("controls", {}), **report.get("ceilings", {})}
    head = ["", "score", "95% by video", *(name.replace("_", " ") for name in beside)]
    rows = [head]
    for name, value in common.items():
        interval = bounds_text(report["intervals"].get(name))
        rows.append([name, f"{value:.2f}", interval, *(with_decimals(column.get(name)) for column in beside.values())])
    lines = aligned(rows)
    if compared := report.get("compared"):
        lines.append(f"second run less the first, {compared['samples']} questions of both, 95% by video:")
        rows = [[name, *(_signed(compared[name][key]) for key in ("difference", "low", "high"))] for name in MEASURED]
        lines += aligned(rows)
    for name in ("ranked", "sets", "ends"):
        if report.get(name):
            lines.append("  ".join(f"{key} {value:.2f}" for key, value in report[name].items()))
    for kind, bins in report.get("breakdown", {}).items():
        cells = [
            [name, str(one["samples"]), f"{one['mIoU']:.2f}", f"{one['R1@0.5']:.2f}"] for name, one in bins.items()
        ]
        lines += aligned([[kind, "samples", "mIoU", "R1@0.5"], *cells])
    return "\n".join(lines)


def _signed(difference: float) -> str:
    return f"{difference:+.2f}" if math.isfinite(difference) else "-"


def with_decimals(value: float | None, decimals: int = 2) -> str:
    """A score for a table; `-` where there is none."""
    return "-" if value is None else f"{value:.{decimals}f}"
