"""Which keys of train_log.jsonl stand in which chart of a report, of one run or of several."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from vtg.evaluation.report.charts import COLORS, SHADES, Series, legend, line_chart, stacked_chart, text_of
from vtg.evaluation.report.run_reader import Curve, Run


@dataclass(frozen=True)
class Chart:
    """A chart of the keys that match `keys` (with `*` for any text). `low`, `high`: values its axis must reach."""

    title: str
    keys: tuple[str, ...]
    hint: str = ""
    low: float | None = None
    high: float | None = None


LEARNING = (
    Chart("Loss", ("loss", "eval_loss")),
    Chart("Reward", ("reward",), "mean over all completions"),
    Chart("Parts of the reward", ("rewards/*/mean",), "mean of each reward, before its weight"),
    Chart("IoU of completions", ("iou/mean",), "mean temporal IoU of sampled answers", low=0, high=1),
    Chart("Validation", ("eval_mIoU", "eval_R1@*", "eval_parse_failures"), "greedy answers; %", low=0),
    Chart(
        "Spread of the reward", ("reward_std", "rewards/*/std"), "within a group: what there is to learn from", low=0
    ),
    Chart("Groups without a signal", ("frac_reward_zero_std",), "all of a group got the same reward", low=0, high=1),
    Chart("KL divergence", ("kl",), "from the reference model", low=0),
    Chart("Entropy", ("entropy",), "of the sampled tokens; near 0: all completions are the same", low=0),
    Chart("Completion length", ("completions/mean_length",), "tokens", low=0),
    Chart("Completions cut off", ("completions/clipped_ratio",), "share that reached the length limit", low=0, high=1),
    Chart("Learning rate", ("learning_rate",)),
    Chart("Gradient norm", ("grad_norm",), low=0),
)

HACKING = (
    Chart(
        "Length of the predicted moment",
        ("length/predicted_s", "length/true_s"),
        "seconds; a prediction that grows away from the truth earns overlap, not precision",
        low=0,
    ),
    Chart(
        "Whole-video answers",
        ("length/whole_video_share",),
        "share of answers that take all of the clip",
        low=0,
        high=1,
    ),
)

IOU_SHARES = tuple(f"iou/{low:.1f}-{low + 0.2:.1f}" for low in (0.0, 0.2, 0.4, 0.6, 0.8))
PARSE_SHARES = ("parse/ok", "parse/malformed", "parse/out_of_range", "parse/reversed")
PARSE_COLORS = ("#cfe0ee", "#c8385a", "#f0932b", "#7d5ba6")
STACKS = (
    ("IoU of completions over steps", IOU_SHARES, SHADES, "share of sampled answers in each range of IoU"),
    ("Answers that can be read", PARSE_SHARES, PARSE_COLORS, "share of sampled answers by how they parse"),
)

NOT_DRAWN = ("epoch", "total_flos", "eval_samples", "eval_missing")


def learning_charts(runs: Sequence[Run]) -> str:
    """The charts a reader wants first."""
    return "".join(_figures(chart, runs) for chart in LEARNING)


def hacking_charts(runs: Sequence[Run]) -> str:
    """What shows that a reward is won without finding the moment."""
    return "".join(_figures(chart, runs) for chart in HACKING)


def share_charts(run: Run) -> str:
    """IoU ranges and parse statuses of the sampled answers, stacked over steps."""
    figures = []
    for title, keys, colors, hint in STACKS:
        shares = [(key.partition("/")[2].replace("_", " "), run.log.get(key, {})) for key in keys]
        if drawn := stacked_chart(shares, colors):
            names = [name for name, _ in shares]
            figures.append(_figure(title, drawn, hint, legend(list(zip(names, colors, strict=True)))))
    return "".join(figures)


def other_charts(runs: Sequence[Run]) -> str:
    """One chart for every other key that changes over steps: batches, speed, videos, and what a library logs."""
    known = {key for keys in (IOU_SHARES, PARSE_SHARES, NOT_DRAWN) for key in keys}
    known |= {key for chart in (*LEARNING, *HACKING) for key in _matching(chart.keys, runs)}
    keys = sorted({key for run in runs for key, curve in run.log.items() if len(curve) > 1} - known)
    return "".join(_figures(Chart(key, (key,)), runs) for key in keys)


def totals(run: Run) -> dict[str, float]:
    """What was logged once: run times and totals."""
    return {key: next(iter(curve.values())) for key, curve in run.log.items() if key.startswith(("train_", "total_"))}


def _matching(patterns: Iterable[str], runs: Sequence[Run]) -> list[str]:
    """Keys of the runs' logs, in the order of the patterns."""
    found = sorted({key for run in runs for key in run.log})
    return [key for pattern in patterns for key in found if fnmatchcase(key, pattern)]


def _figures(chart: Chart, runs: Sequence[Run]) -> str:
    """One chart of all its keys for one run; for several, a chart of the runs for each key."""
    keys = _matching(chart.keys, runs)
    if len(runs) == 1:
        lines = [(_short(key, chart), runs[0].log[key]) for key in keys]
        return _lines(chart, chart.title, lines)
    figures = []
    for key in keys:
        title = chart.title if len(keys) == 1 else f"{chart.title}: {_short(key, chart)}"
        figures.append(_lines(chart, title, [(run.name, run.log.get(key, {})) for run in runs], always=True))
    return "".join(figures)


def _lines(chart: Chart, title: str, lines: Sequence[tuple[str, Curve]], *, always: bool = False) -> str:
    """`always`: a line keeps its color, and the legend is there, where others are missing."""
    series = [Series(name, curve, COLORS[at % len(COLORS)]) for at, (name, curve) in enumerate(lines)]
    drawn = line_chart(series, low=chart.low, high=chart.high)
    if not drawn:
        return ""
    entries = [(one.name, one.color) for one in series if one.values]
    return _figure(title, drawn, chart.hint, legend(entries) if always or len(entries) > 1 else "")


def _figure(title: str, drawn: str, hint: str, entries: str) -> str:
    said = f"<small>{text_of(hint)}</small>" if hint else ""
    return f"<figure><figcaption><b>{text_of(title)}</b>{said}</figcaption>{drawn}{entries}</figure>"


def _short(key: str, chart: Chart) -> str:
    """`rewards/temporal_iou/mean` as `temporal_iou`, where the chart's title says the rest."""
    parts = key.split("/")
    if len(parts) == 3 and parts[0] == "rewards":
        return parts[1]
    return key.removeprefix("eval_") if chart.title == "Validation" else key.rpartition("/")[2]
