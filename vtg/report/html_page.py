"""The HTML page of one run or of several: what stands in which section, rendered from `templates/`.

A section is a template in `templates/sections/` and an entry in `run_page` or `comparison_page`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtg.report import curves
from vtg.report.benchmark_scores import benchmark_tables
from vtg.report.charts import COLORS, FRAME, format_number
from vtg.report.differences import difference_lines, differences
from vtg.report.film_strips import BUDGET_BYTES, FilmStrips
from vtg.report.future_tables import future_figures, future_table, ratio_of, shown_clips
from vtg.report.run_reader import Run, is_number
from vtg.report.score_tables import (
    Gain,
    comparison_table,
    format_metric,
    iou_histogram,
    metric_table,
    paired_gains,
)
from vtg.report.source_table import source_table
from vtg.report.timelines import compared_groups, completion_groups, sample_groups

if TYPE_CHECKING:
    from jinja2 import Environment

# Enough to see what is wrong with a data set; skipped.jsonl has the rest.
MAX_SKIPPED_ROWS = 200

# Their versions stand at the top of the page; those of all packages under Environment.
MAIN_PACKAGES = ("vtg", "torch", "transformers", "trl", "peft")


@dataclass(frozen=True)
class Section:
    """A section of the page: `templates/sections/TEMPLATE.html.jinja` shows `content`.

    It is left out of the page where all of its content is empty.
    """

    title: str
    template: str
    content: Mapping[str, Any]

    @property
    def anchor(self) -> str:
        return self.title.lower().replace(" ", "-")


@dataclass(frozen=True)
class Tile:
    """One of the few numbers at the top of the page; `detail` is small print."""

    name: str
    value: str
    detail: str = ""


def run_page(run: Run, *, folder: Path | None = None, frames: bool = True) -> str:
    """The page of one run, as HTML. `folder`: where it will lie (default: the run's). `frames`: with film strips."""
    films = FilmStrips(run.config, page_folder=folder or run.folder, budget_bytes=BUDGET_BYTES if frames else 0)
    return render("run", **run_content(run, films))


def run_content(run: Run, films: FilmStrips, *, before: Sequence[Section] = ()) -> dict[str, Any]:
    """What the page of a run shows, for `render`. `before`: sections that come first."""
    gains = paired_gains(run.base, run.tuned)
    notes = list(run.notes)
    # Before the page is made: they add notes of broken lines and of clips that cannot be read. Samples come first, for
    # the budget of strips may be short.
    samples = sample_groups(run, films)
    completions = completion_groups(run, films, notes)
    if films.budget_bytes and films.note:
        notes.append(films.note)
    if not (run.log or run.tuned or run.base or run.metrics or run.futures or run.scores):
        notes.append("nothing is logged or answered yet: the page fills as the run goes on; make it again then")
    sections = [
        *before,
        Section(
            "Results",
            "results",
            {
                "table": metric_table(run, gains),
                "histogram": iou_histogram(run),
                "remarks": _strings(run.record, "notes"),
            },
        ),
        _futures_section(run, notes),
        Section("Sources", "sources", {"table": source_table(run)}),
        Section("Benchmark", "benchmark", {"tables": benchmark_tables([run])}),
        _training_section([run]),
        Section("Sampled answers", "figures", {"figures": curves.share_figures(run)}),
        Section("Reward hacking", "figures", {"figures": curves.hacking_figures([run])}),
        Section("Completions", "completions", {"groups": completions}),
        Section("Samples", "samples", {"groups": samples}),
        Section("Skipped rows", "skipped_rows", {"rows": run.skipped[:MAX_SKIPPED_ROWS], "total": len(run.skipped)}),
        Section("Settings", "settings", {"config": run.config_text.rstrip(), "changes": _changed_settings(run)}),
        Section("Environment", "environment", {"facts": _facts(run.environment | curves.logged_totals(run))}),
    ]
    header = {"source": _source(run), "chips": _chips(run), "tiles": _tiles(run, gains)}
    return {"title": run.name, "sections": sections, "notes": notes, **header}


def comparison_page(runs: Sequence[Run], *, folder: Path = Path(), frames: bool = True) -> str:
    """The page of several runs, as HTML: their metrics side by side, their curves in shared charts, what differs.

    `folder`: where the page will lie. `frames`: with film strips.
    """
    first, *others = runs
    films = FilmStrips(first.config, page_folder=folder, budget_bytes=BUDGET_BYTES if frames else 0)
    samples = compared_groups(runs, films)
    changes = [
        (f"{run.name} against {first.name}", "\n".join(difference_lines(first, run, differences(first, run))))
        for run in others
    ]
    sections = [
        Section("Results", "comparison_table", {"table": comparison_table(runs)}),
        Section("Futures", "figures", {"figures": future_figures(runs)}),
        Section("Benchmark", "benchmark", {"tables": benchmark_tables(runs)}),
        _training_section(runs),
        Section("Reward hacking", "figures", {"figures": curves.hacking_figures(runs)}),
        Section("Samples", "samples", {"groups": samples}),
        Section("What differs", "differences", {"changes": changes}),
    ]
    about_films = [films.note] if frames and films.note else []
    return render(
        "comparison",
        title=f"{len(runs)} runs compared",
        sections=sections,
        notes=[f"{run.name}: {note}" for run in runs for note in run.notes] + about_films,
        runs=[(run.name, COLORS[at % len(COLORS)], f"{run.folder} · {_state(run)}") for at, run in enumerate(runs)],
    )


def _futures_section(run: Run, notes: list[str]) -> Section:
    share = run.shown_futures.get("variance_shown")
    shown = {"clips": shown_clips(run, notes), "variance": f"{share:.0%}" if is_number(share) else ""}
    return Section("Futures", "futures", {"figures": future_figures([run]), "table": future_table(run)} | shown)


def _training_section(runs: Sequence[Run]) -> Section:
    content = {"figures": curves.learning_figures(runs), "relative": curves.relative_figures(runs)}
    return Section("Training", "training", content | {"others": curves.other_figures(runs)})


def render(template: str, *, sections: Iterable[Section], **context: Any) -> str:
    """A page of `templates/`: those of its sections that hold anything."""
    # A run of SFT has no completions, an unfinished one no scores: empty sections are left out with their headings.
    shown = [section for section in sections if any(section.content.values())]
    html = _environment().get_template(f"{template}.html.jinja").render(context, sections=shown)
    # Rows may hold half of a surrogate pair (an odd file name, a cut emoji), which UTF-8 cannot: it becomes "?".
    return html.encode("utf-8", "replace").decode()


@lru_cache(maxsize=1)
def _environment() -> "Environment":
    """Jinja with the templates of this package. Queries and completions are hostile text: everything is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    loader = PackageLoader("vtg.report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # Read as text, not included as templates: `{#` and `{{` are valid in CSS and JavaScript, and comments in Jinja.
    inlined = {
        name.replace(".", "_"): Markup(loader.get_source(environment, f"report.{name}")[0])
        for name in ("css", "js", "live.js")
    }
    environment.globals |= inlined | {"frame": FRAME}
    environment.filters["px"] = "{:.1f}".format  # a tenth of a unit is below a pixel; more digits double the page
    return environment


def _source(run: Run) -> str:
    """The model, the data and the folder, in one line."""
    model, encoder, data = (run.config.get(group) for group in ("model", "encoder", "data"))
    parts = [
        f"encoder {encoder['path']}" if isinstance(encoder, dict) and encoder.get("path") else "",
        f"model {model['path']}" if isinstance(model, dict) and model.get("path") else "",
        f"data {data['annotation_file']}" if isinstance(data, dict) and data.get("annotation_file") else "",
        str(run.folder),
    ]
    return " · ".join(part for part in parts if part)


def _state(run: Run) -> str:
    """How the run trains, and how far it is."""
    method = "GRPO" if "reward" in run.log or run.completions else "SFT" if "loss" in run.log else "answers"
    method = "futures" if isinstance(run.config.get("predictor"), dict) else method
    if not run.log:
        return method
    return f"{method}, {run.last_step:,} steps" + ("" if "tuned" in run.metrics or run.futures else ", not finished")


def _chips(run: Run) -> list[str]:
    packages = run.environment.get("packages")
    versions = packages if isinstance(packages, dict) else {}
    commit = run.environment.get("git_commit")
    chips = [
        _state(run),
        *(f"{name} {versions[name]}" for name in MAIN_PACKAGES if versions.get(name)),
        f"commit {commit[:10]}" if isinstance(commit, str) else "",
        f"{run.written:%Y-%m-%d %H:%M}" if run.written else "",
    ]
    return [chip for chip in chips if chip]


def _tiles(run: Run, gains: Mapping[str, Gain]) -> list[Tile]:
    """Scores and rewards; the loss only where a run has neither yet."""
    tiles = []
    for key in ("mIoU", "R1@0.5", "R1@0.7", "parse_failures"):
        if is_number(value := run.main_metrics.get(key)):
            gain = gains.get(key)
            detail = f"{gain} over the base ({gain.bounds})" if gain else ""
            tiles.append(Tile(key.replace("_", " "), format_metric(value), detail))
    if (ratio := ratio_of(run)) is not None:
        tiles.append(Tile("error / copy-last's", f"{ratio[0]:.3f}", ratio[1]))
    logged = [_last_value_tile(run, "reward", "reward"), _last_value_tile(run, "iou/mean", "IoU of completions")]
    tiles += [tile for tile in logged if tile]
    if not tiles and (loss := _last_value_tile(run, "loss", "loss")):
        tiles.append(loss)
    return tiles


def _last_value_tile(run: Run, key: str, name: str) -> Tile | None:
    """The end of a curve beside its beginning: means over a tenth of the logged steps, since batches are noisy."""
    if key not in run.log:
        return None
    values = list(run.log[key].values())
    count = max(1, len(values) // 10)
    first, last = sum(values[:count]) / count, sum(values[-count:]) / count
    over = f"mean of {count} logged steps; " if count > 1 else ""
    return Tile(name, format_number(last), f"{over}{format_number(first)} at the start")


def _strings(record: Mapping[str, Any], key: str) -> list[str]:
    values = record.get(key)
    return [str(value) for value in values] if isinstance(values, list) else []


def _changed_settings(run: Run) -> list[str]:
    """The settings that a resume of the run changed, a line each."""
    history = run.record.get("history")
    lines = []
    for start in history if isinstance(history, list) else []:
        changes = start.get("changes") if isinstance(start, dict) else None
        if isinstance(changes, dict):
            when = f"{start.get('time')}, from {start.get('checkpoint') or 'the start'}"
            # run.json may be edited by hand: what is not as written is left out rather than failing the page.
            pairs = {key: pair for key, pair in changes.items() if isinstance(pair, list)}
            lines += [f"{when}: {key}: {' → '.join(map(str, pair))}" for key, pair in pairs.items()]
    return lines


def _facts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key, _as_text(value)) for key, value in values.items()]


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)
