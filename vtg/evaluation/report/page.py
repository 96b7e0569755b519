"""The page: header, sections in their order, style and script, in one text without anything from elsewhere."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vtg.evaluation.report import curves
from vtg.evaluation.report.charts import COLORS, number, text_of
from vtg.evaluation.report.differences import difference_lines, differences
from vtg.evaluation.report.run_reader import Row, Run, is_number
from vtg.evaluation.report.score_tables import Gain, cell, comparison_table, gains, results_table, spread
from vtg.evaluation.report.timelines import Timeline, completion_sections, sample_sections

SHOWN_SKIPPED = 200
MAIN_PACKAGES = ("vtg", "torch", "transformers", "trl", "peft")

Section = tuple[str, str]
"""Its title and its HTML; a section without HTML is left out."""


def run_page(run: Run) -> str:
    """The page of one run."""
    gained = gains(run.base, run.tuned)
    notes = list(run.notes)
    completions = _timelines(completion_sections(run, notes))
    figures = curves.other_charts([run])
    sections: list[Section] = [
        ("Results", _beside(results_table(run, gained), spread(run)) + _remarks(run)),
        ("Training", _grid(curves.learning_charts([run])) + _folded("All other curves", _grid(figures))),
        ("Sampled answers", _grid(curves.share_charts(run))),
        ("Reward hacking", _grid(curves.hacking_charts([run]))),
        ("Completions", completions and _legend("one lane a completion, the highest reward first") + completions),
        ("Samples", _timelines(sample_sections(run))),
        ("Skipped rows", _skipped(run.skipped)),
        ("Settings", _settings(run)),
        ("Environment", _facts(run.environment | curves.totals(run))),
    ]
    return _document(run.name, _header(run, gained), sections, notes)


def comparison_page(runs: Sequence[Run]) -> str:
    """The page of several runs: metrics side by side, curves of the same key over one another, what differs."""
    swatches = [f'<i class=swatch style="background:{COLORS[at % len(COLORS)]}"></i>' for at in range(len(runs))]
    items = "".join(
        f"<li>{swatch}<b>{text_of(run.name)}</b> <span class=where>{text_of(run.folder)} · {_state(run)}</span></li>"
        for run, swatch in zip(runs, swatches, strict=True)
    )
    changed = "".join(
        f"<h3>{text_of(run.name)} against {text_of(runs[0].name)}</h3>"
        f"<pre>{text_of(chr(10).join(difference_lines(runs[0], run, differences(runs[0], run))))}</pre>"
        for run in runs[1:]
    )
    sections: list[Section] = [
        ("Results", comparison_table(runs, swatches)),
        (
            "Training",
            _grid(curves.learning_charts(runs)) + _folded("All other curves", _grid(curves.other_charts(runs))),
        ),
        ("Reward hacking", _grid(curves.hacking_charts(runs))),
        ("What differs", changed),
    ]
    title = f"{len(runs)} runs compared"
    notes = [f"{run.name}: {note}" for run in runs for note in run.notes]
    return _document(title, f"<h1>{title}</h1><ul class=runs>{items}</ul>", sections, notes)


def _document(title: str, header: str, sections: Iterable[Section], notes: Sequence[str]) -> str:
    style, script = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    there = [(name, name.lower().replace(" ", "-"), html) for name, html in sections if html]
    links = "".join(f'<a href="#{anchor}">{name}</a>' for name, anchor, _ in there)
    body = "".join(f'<section id="{anchor}"><h2>{name}</h2>{html}</section>' for name, anchor, html in there)
    said = f"<ul class=notes>{''.join(f'<li>{text_of(note)}</li>' for note in notes)}</ul>" if notes else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text_of(title)} · vtg</title><style>{style}</style></head><body>"
        f"<header>{header}{said}</header><nav>{links}</nav><main>{body}</main>"
        f"<script>{script}</script></body></html>\n"
    )


def _header(run: Run, gained: Mapping[str, Gain]) -> str:
    packages = run.environment.get("packages")
    versions = packages if isinstance(packages, dict) else {}
    commit = run.environment.get("git_commit")
    chips = [
        _state(run),
        *(f"{name} {versions[name]}" for name in MAIN_PACKAGES if versions.get(name)),
        f"commit {commit[:10]}" if isinstance(commit, str) else "",
        f"{run.written:%Y-%m-%d %H:%M}" if run.written else "",
    ]
    tiles = "".join(
        f"<div class=tile><b>{text_of(value)}</b><span>{text_of(name)}</span><small>{text_of(more)}</small></div>"
        for name, value, more in _tiles(run, gained)
    )
    return (
        f"<h1>{text_of(run.name)}</h1><p class=where>{text_of(_what(run))}</p>"
        f"<p class=chips>{''.join(f'<span>{text_of(chip)}</span>' for chip in chips if chip)}</p>"
        + (f"<div class=tiles>{tiles}</div>" if tiles else "")
    )


def _what(run: Run) -> str:
    """The model and the data, in one line."""
    model, data = (run.config.get(group) for group in ("model", "data"))
    parts = [
        f"model {model['path']}" if isinstance(model, dict) and model.get("path") else "",
        f"data {data['annotation_file']}" if isinstance(data, dict) and data.get("annotation_file") else "",
        str(run.folder),
    ]
    return " · ".join(part for part in parts if part)


def _state(run: Run) -> str:
    way = "GRPO" if "reward" in run.log or run.completions else "SFT" if "loss" in run.log else "answers"
    if not run.log:
        return way
    return f"{way}, {run.last_step:,} steps" + ("" if "tuned" in run.metrics else ", not finished")


def _tiles(run: Run, gained: Mapping[str, Gain]) -> list[tuple[str, str, str]]:
    """(name, value, what more to say) of the few numbers a reader looks for first."""
    name = "tuned" if "tuned" in run.metrics else next(iter(run.metrics), "")
    column = run.metrics.get(name, {})
    tiles = []
    for key in ("mIoU", "R1@0.5", "R1@0.7", "parse_failures"):
        if is_number(column.get(key)):
            gain = gained.get(key)
            more = f"{gain} over the base ({gain.bounds})" if gain else ""
            tiles.append((key.replace("_", " "), cell(column[key]), more))
    for key, said in (("reward", "reward"), ("iou/mean", "IoU of completions")):
        if curve := run.log.get(key):
            first, last = next(iter(curve.values())), list(curve.values())[-1]
            tiles.append((said, number(last), f"{number(first)} at the first step"))
    if not tiles and (curve := run.log.get("loss")):
        tiles.append(
            ("loss", number(list(curve.values())[-1]), f"{number(next(iter(curve.values())))} at the first step")
        )
    return tiles


def _remarks(run: Run) -> str:
    """What a reader of the scores has to know."""
    found = run.record.get("notes")
    items = "".join(f"<li>{text_of(note)}</li>" for note in found) if isinstance(found, list) else ""
    return f"<ul class=said>{items}</ul>" if items else ""


def _settings(run: Run) -> str:
    config = _folded("config.yaml", f"<pre>{text_of(run.config_text)}</pre>") if run.config_text.strip() else ""
    return config + _folded("settings that changed on the way", _history(run))


def _history(run: Run) -> str:
    """The settings that a start of the run had otherwise than the one before."""
    lines = []
    history = run.record.get("history")
    for start in history if isinstance(history, list) else []:
        changes = start.get("changes") if isinstance(start, dict) else None
        if isinstance(changes, dict) and changes:
            when = f"{start.get('time')}, from {start.get('checkpoint') or 'the start'}"
            lines += [
                f"{when}: {key}: {' → '.join(map(str, pair))}"
                for key, pair in changes.items()
                if isinstance(pair, list)
            ]
    return f"<pre>{text_of(chr(10).join(lines))}</pre>" if lines else ""


def _timelines(sections: Sequence[tuple[str, Sequence[Timeline]]]) -> str:
    return "".join(
        f"<h3>{text_of(title)}</h3><div class=samples>{''.join(timeline.html() for timeline in timelines)}</div>"
        for title, timelines in sections
    )


def _skipped(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    keys = ("place", "qid", "video", "reason")
    lines = "".join(
        f"<tr>{''.join(f'<td>{text_of(row.get(key) or str())}</td>' for key in keys)}</tr>"
        for row in rows[:SHOWN_SKIPPED]
    )
    heads = "".join(f"<th>{key}</th>" for key in keys)
    more = f"; the first {SHOWN_SKIPPED} are listed" if len(rows) > SHOWN_SKIPPED else ""
    table = f"<table class=text><thead><tr>{heads}</tr></thead>{lines}</table>"
    return _folded(f"{len(rows):,} rows were left out{more}", table)


def _facts(values: Mapping[str, Any]) -> str:
    lines = (f"<tr><th>{text_of(key)}</th><td>{text_of(_shown(value))}</td></tr>" for key, value in values.items())
    return (
        _folded("versions, command, machine, totals", f"<table class=text>{''.join(lines)}</table>") if values else ""
    )


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)


def _folded(title: str, html: str) -> str:
    return f"<details><summary>{text_of(title)}</summary>{html}</details>" if html else ""


def _grid(figures: str) -> str:
    return f"<div class=grid>{figures}</div>" if figures else ""


def _beside(left: str, right: str) -> str:
    return f"<div class=beside><div>{left}</div>{right}</div>" if left or right else ""


def _legend(text: str) -> str:
    return f"<p class=said>{text_of(text)}</p>"
