"""Which keys of train_log.jsonl are drawn in which chart, for one run or for several."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from vtg.report.charts import COLORS, SHADES, Figure, Series, line_chart, stacked_chart
from vtg.report.run_reader import Curve, Run


@dataclass(frozen=True)
class ChartKeys:
    """A chart of all keys that match a pattern of `keys` (`*` for any text).

    `low`, `high`: values that its y axis must include.
    """

    title: str
    keys: tuple[str, ...]
    hint: str = ""
    low: float | None = None
    high: float | None = None


# Shares have an axis from 0 to 1: of a run where 2 % of answers are cut off, the chart must not look like one of 90 %.
LEARNING = (
    ChartKeys("Loss", ("loss", "eval_loss")),
    ChartKeys("Terms of the loss", ("loss/*",), "as they count: their sum is the loss"),
    ChartKeys("Reward", ("reward",), "mean over all completions"),
    ChartKeys("Parts of the reward", ("rewards/*/mean",), "mean of each reward, before its weight"),
    ChartKeys("IoU of completions", ("iou/mean",), "mean temporal IoU of sampled answers", low=0, high=1),
    ChartKeys("Validation", ("eval_mIoU", "eval_R1@*"), "greedy answers; %", low=0),
    # On an axis of its own: beside an mIoU of 80 % a fall from 3 % to 1 % could not be seen.
    ChartKeys("Validation answers that cannot be read", ("eval_parse_failures",), "%", low=0, high=10),
    ChartKeys(
        "Spread of the reward", ("reward_std", "rewards/*/std"), "within a group: what there is to learn from", low=0
    ),
    ChartKeys(
        "Groups without a signal", ("frac_reward_zero_std",), "all of a group got the same reward", low=0, high=1
    ),
    ChartKeys("KL divergence", ("kl",), "from the reference model", low=0),
    ChartKeys("Entropy", ("entropy",), "of the sampled tokens; near 0: all completions are the same", low=0),
    ChartKeys("Completion length", ("completions/mean_length",), "tokens", low=0),
    ChartKeys(
        "Completions cut off", ("completions/clipped_ratio",), "share that reached the length limit", low=0, high=1
    ),
    ChartKeys("Validation of latents", ("eval_l2", "eval_copy_last_l2"), "squared error of predicted latents", low=0),
    ChartKeys("Learning rate", ("learning_rate",)),
    ChartKeys("Gradient norm", ("grad_norm",), low=0),
)

# An IoU reward can rise without a look at the video: by longer spans, or by answering the whole clip each time.
HACKING = (
    ChartKeys(
        "Length of the predicted moment",
        ("length/predicted_s", "length/true_s"),
        "seconds; a prediction that grows away from the truth earns overlap, not precision",
        low=0,
    ),
    ChartKeys(
        "Whole-video answers",
        ("length/whole_video_share",),
        "share of answers that take all of the clip",
        low=0,
        high=1,
    ),
)

IOU_SHARES = tuple(f"iou/{low:.1f}-{low + 0.2:.1f}" for low in (0.0, 0.2, 0.4, 0.6, 0.8))
PARSE_SHARES = ("parse/ok", "parse/none", "parse/malformed", "parse/out_of_range", "parse/reversed")
# What can be read is pale, so that the failures stand out however few they are.
PARSE_COLORS = ("#cfe0ee", "#dfe6d2", "#c8385a", "#f0932b", "#7d5ba6")
STACKS = (
    ("IoU of completions over steps", IOU_SHARES, SHADES, "share of sampled answers in each range of IoU"),
    ("Answers that can be read", PARSE_SHARES, PARSE_COLORS, "share of sampled answers by how they parse"),
)

# Runs whose numbers of steps differ by this factor are also drawn over their shares.
LONGER = 1.5

GRPO_LOSS_HINT = "near 0 by design: the advantages of a group sum to 0; the reward shows what is learnt"

# Keys that grow with the step or never change: their charts would say nothing.
NOT_DRAWN = ("epoch", "total_flos", "eval_samples", "eval_missing")


def learning_figures(runs: Sequence[Run]) -> list[Figure]:
    """Loss, rewards, validation, optimizer: the charts to look at first."""
    charts = [chart for chart in LEARNING if chart.title != "Parts of the reward" or not _are_the_reward(runs)]
    if all("reward" in run.log for run in runs):
        charts = [replace(chart, hint=GRPO_LOSS_HINT) if chart.title == "Loss" else chart for chart in charts]
    return [figure for chart in charts for figure in _figures(chart, runs)]


def relative_figures(runs: Sequence[Run]) -> list[Figure]:
    """`learning_figures` over the percent of each run's steps; none where all runs are about as long."""
    lengths = [run.last_step for run in runs if run.last_step]
    if len(lengths) < 2 or max(lengths) < LONGER * min(lengths):
        return []
    shares = [
        replace(run, log={key: _by_share(curve, run.last_step) for key, curve in run.log.items()}) for run in runs
    ]
    figures = learning_figures(shares)
    return [replace(figure, plot=replace(figure.plot, x_name="percent of each run")) for figure in figures]


def hacking_figures(runs: Sequence[Run]) -> list[Figure]:
    """Signs of reward hacking: a reward that rises without the moment being found."""
    return [figure for chart in HACKING for figure in _figures(chart, runs)]


def other_figures(runs: Sequence[Run]) -> list[Figure]:
    """A chart for each remaining key with several steps: batches, throughput, video decoding, keys of a library."""
    drawn = {key for keys in (IOU_SHARES, PARSE_SHARES, NOT_DRAWN) for key in keys}
    drawn |= {key for chart in (*LEARNING, *HACKING) for key in _matching_keys(chart.keys, runs)}
    # A key of a single step is a total, logged at the end: the page lists it under Environment.
    keys = sorted({key for run in runs for key, curve in run.log.items() if len(curve) > 1} - drawn)
    return [figure for key in keys for figure in _figures(ChartKeys(key, (key,)), runs)]


def share_figures(run: Run) -> list[Figure]:
    """IoU ranges and parse statuses of the sampled completions, stacked over steps."""
    figures = []
    for title, keys, colors, hint in STACKS:
        shares = [(key.partition("/")[2].replace("_", " "), run.log.get(key, {})) for key in keys]
        if plot := stacked_chart(shares, colors):
            names = [name for name, _ in shares]
            figures.append(Figure(title, plot, hint, list(zip(names, colors, strict=True))))
    return figures


def logged_totals(run: Run) -> dict[str, float]:
    """The values that the Trainer logs once, at the end: run time, throughput, FLOPs."""
    return {key: next(iter(curve.values())) for key, curve in run.log.items() if key.startswith(("train_", "total_"))}


def _by_share(curve: Curve, last_step: int) -> Curve:
    """A curve over the percent of the run's steps; of several steps within a percent the last counts."""
    return {round(100 * step / max(1, last_step)): value for step, value in curve.items()}


def _are_the_reward(runs: Sequence[Run]) -> bool:
    """Whether the only part of every run's reward is all of it: a chart of the parts would show the same curve."""
    for run in runs:
        parts = _matching_keys(("rewards/*/mean",), [run])
        if len(parts) > 1 or any(run.log[key] != run.log.get("reward") for key in parts):
            return False
    return True


def _matching_keys(patterns: Iterable[str], runs: Sequence[Run]) -> list[str]:
    """Logged keys, in the order of the patterns."""
    logged = sorted({key for run in runs for key in run.log})
    return [key for pattern in patterns for key in logged if fnmatchcase(key, pattern)]


def _figures(chart: ChartKeys, runs: Sequence[Run]) -> list[Figure]:
    """One run: a figure with a line for each key. Several runs: a figure for each key, with a line for each run."""
    keys = _matching_keys(chart.keys, runs)
    if len(runs) == 1:
        return _figure(chart, chart.title, [(_short_name(key, chart), runs[0].log[key]) for key in keys])
    figures = []
    for key in keys:
        title = chart.title if len(keys) == 1 else f"{chart.title}: {_short_name(key, chart)}"
        figures += _figure(chart, title, [(run.name, run.log.get(key, {})) for run in runs], has_legend=True)
    return figures


def _figure(
    chart: ChartKeys, title: str, curves: Sequence[tuple[str, Curve]], *, has_legend: bool = False
) -> list[Figure]:
    """The figure, or none where no curve has a step. `has_legend`: also for a single line."""
    # A color belongs to the position among all curves: a run has the same color in charts where another run is missing.
    series = [Series(name, curve, COLORS[at % len(COLORS)]) for at, (name, curve) in enumerate(curves)]
    plot = line_chart(series, low=chart.low, high=chart.high)
    if plot is None:
        return []
    legend = [(line.name, line.color) for line in series if line.values]
    return [Figure(title, plot, chart.hint, legend if has_legend or len(legend) > 1 else [])]


def _short_name(key: str, chart: ChartKeys) -> str:
    """The part of a key that the chart's title does not say: `rewards/temporal_iou/mean` is `temporal_iou`."""
    parts = key.split("/")
    if len(parts) == 3 and parts[0] == "rewards":
        return parts[1]
    return key.removeprefix("eval_") if chart.title == "Validation" else key.rpartition("/")[2]
