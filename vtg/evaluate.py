"""Scores predictions: `python -m vtg.evaluate predictions.jsonl --annotations test.jsonl`.

PRED holds one row per sample (JSONL or one JSON array): the annotation row's keys plus `prediction` ([[start, end],
...] in seconds), `status` and `text`. Rows that have `text` alone are parsed with --answer. Without --annotations, each
row is scored against its own `timestamp`. With it, rows are joined by `qid`, or by video, part and sentence where the
annotations have none; a sample nobody predicted scores 0, and predictions for other questions are refused (by
published rules: where most are).

Answers of other tasks than spans, which rows name (`task`), are scored by their task, and a file of several task by
task, with intervals by video; --compare FILE says what a second run is better by.

A published preset (--preset moment_detr, time_r1, ...) reads predictions and ground truth in their published
forms, and gives the numbers of the official script; --preset default reads them too, by the rules above; --preset NAME
--describe says its rules, and --preset all lays them side by side. docs/scoring.md has the forms and the rules.
"""

import argparse
import gc
import json
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vtg.config.task_settings import TaskConfig
from vtg.console import aligned, stdout_may_close
from vtg.errors import RunError
from vtg.evaluation.findings import counted, finding_lines
from vtg.evaluation.input_record import read_input
from vtg.evaluation.joining import Joined, join
from vtg.evaluation.metrics import PRESETS, grounding_metrics
from vtg.evaluation.prediction_form import in_other_form
from vtg.evaluation.prediction_rows import AnswerForm, needs_parsing, read_rows, with_field
from vtg.evaluation.presets.case import Findings, Scores
from vtg.evaluation.presets.preset import RULES
from vtg.evaluation.presets.table import PUBLISHED
from vtg.evaluation.published_scores import (
    OWN,
    asked,
    own_scores,
    rules_of,
    scores_by,
    scores_by_all,
    scores_in_context,
    spread,
)
from vtg.evaluation.ranked_metrics import DEFAULT_IOUS
from vtg.evaluation.score_context import Sampling, context_table, with_decimals
from vtg.evaluation.task_answers import task_named
from vtg.evaluation.task_report import report, report_text
from vtg.storage.atomic import holds_something_else, write_text
from vtg.tasks.answer_forms import CODECS
from vtg.tasks.span_task import SpanTask

ALL = "all"
"""The name that stands for every preset."""

# How every report begins: --json FILE overwrites such a file alone, never an annotation file named by mistake.
REPORT_SIGNATURE = b'{"report": "vtg.evaluate"'


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 scored; 1 nothing could be scored, or a row is broken; 2 wrong usage, or a file is not there."""
    parser = _parser()
    args = parser.parse_args(arguments)
    if fault := _usage_fault(args):
        parser.error(fault)
    try:
        bins = TaskConfig.num_bins if args.num_bins is None else args.num_bins
        # Sets, so that a text which says that there is no moment is one.
        settings = None if args.answer is None else TaskConfig(answer=args.answer, num_bins=bins, moments="set")
        task = None if settings is None else SpanTask(settings)
    except ValueError as error:  # a number of bins that no answer form takes
        parser.error(str(error))
    if args.describe:
        with stdout_may_close():
            print("\n\n".join(map(rules_of, (OWN, *PUBLISHED) if args.preset == ALL else [args.preset])))
        return 0
    gc.disable()  # a million rows stay until the end; looking through them for cycles is a fifth of the time
    try:
        by_rules = args.preset in (ALL, *PUBLISHED) or (
            args.preset == OWN and in_other_form(args.predictions, annotations=args.annotations, field=args.field)
        )
        of_spans = by_rules or _with_statistics(args)
        if of_spans and (named := task_named(args.predictions)):
            if fault := _task_fault(args, named):
                parser.error(fault)
            _print_tasks(args, _joined(args, args.predictions, task), task)
            return 0
        if _with_statistics(args):
            _print_statistics(args, task)
            return 0
        if by_rules:
            _print_published(args, task)
            return 0
        joined = _joined(args, args.predictions, task)
        if not joined.is_of_spans:
            if fault := _task_fault(args, "other tasks than spans"):
                parser.error(fault)
            _print_tasks(args, joined, task)
            return 0
        metrics = grounding_metrics(
            joined.predictions, joined.ground_truths, statuses=joined.statuses, preset=_own_name(args.preset)
        )
        _tell(args, _document(args, metrics, joined), joined.findings, table(metrics, preset=args.preset))
    except AnswerForm as error:
        parser.error(str(error))
    except OSError as error:
        print(f"vtg.evaluate: cannot open {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except (ValueError, RunError) as error:
        print(f"vtg.evaluate: {error}", file=sys.stderr)
        return 1
    finally:
        gc.enable()
    return 0


def _tell(args: argparse.Namespace, document: str, findings: Findings, text: str) -> None:
    """Findings to stderr, and the report as --json asks for it: to its file, or in place of the text on stdout."""
    if args.json not in (None, "-"):
        write_text(args.json, document + "\n")
    for line in finding_lines(findings):
        print(f"vtg.evaluate: {line}", file=sys.stderr)
    with stdout_may_close():
        print(document if args.json == "-" else text)


def _joined(args: argparse.Namespace, path: str, task: SpanTask | None) -> Joined:
    """The answers of a file of predictions beside their truth. Raises OSError, ValueError, and AnswerForm."""
    rows = read_rows(path)
    if args.field is not None:
        rows = [(place, with_field(place, row, args.field)) for place, row in rows]
    if task is not None and not any(needs_parsing(row) for _, row in rows):
        raise AnswerForm(f"--answer {args.answer}: no row of {path} has text alone; leave it out")
    return join(rows, annotations=args.annotations, task=task)


def _own_name(preset: str) -> str:
    return "vtg" if preset == OWN else preset


def _print_published(args: argparse.Namespace, task: SpanTask | None) -> None:
    """Scores by one preset of cases of any form, or by all, to stdout and --json. Raises OSError and ValueError."""
    read = asked(args.predictions, annotations=args.annotations, field=args.field)
    if args.preset == ALL:
        scores, refused = scores_by_all(read.cases, task=task)
        if not scores:
            raise ValueError("; ".join(f"{name}: {reason}" for name, reason in refused.items()))
        report = {name: one.common for name, one in scores.items()}
        found, text = read.findings, comparison(scores)
        document = {"presets": report, "spread": spread(scores), "refused": refused}
        for name, reason in refused.items():
            print(f"vtg.evaluate: {name}: {reason}", file=sys.stderr)
    elif args.preset == OWN:
        one = own_scores(read.cases, task=task)
        found, text = {**read.findings, **one.findings}, table(one.printed, preset=OWN)
        document = {**one.printed, "convention": PRESETS[_own_name(OWN)].convention}
    else:
        preset = PUBLISHED[args.preset]
        one = scores_by(preset, read.cases, task=task)
        brief = one.printed.get("brief", one.printed)
        found = {**read.findings, **one.findings}
        text = f"preset {preset.name}: {preset.convention}\n{columns(brief, decimals=one.decimals)}"
        rules = {rule: getattr(preset, rule) for rule in (*RULES, "source")}
        document = {**one.common, **brief, **one.printed, "convention": preset.convention, "rules": rules}
    head = {"report": "vtg.evaluate", "preset": args.preset, "form": read.form, "samples": len(read.cases)}
    files = {"predictions": args.predictions, "annotations": args.annotations, "input": read_input(args.predictions)}
    _tell(args, _lines({**head, **document, **files, "findings": counted(found)}), found, text)


def _print_tasks(args: argparse.Namespace, joined: Joined, task: SpanTask | None) -> None:
    """Scores of answers of other tasks than spans to stdout and --json. Raises OSError and ValueError."""
    second = None if args.compare is None else _joined(args, args.compare, task)
    made = report(joined.rows, compare=None if second is None else second.rows)
    head = {"report": "vtg.evaluate", "samples": len(joined.rows)}
    files = {"predictions": args.predictions, "annotations": args.annotations, "compared_with": args.compare}
    files["input"] = read_input(args.predictions)
    document = {**head, **made, **files, "findings": counted(joined.findings)}
    _tell(args, _lines(document), joined.findings, report_text(made))


def _task_fault(args: argparse.Namespace, named: str) -> str | None:
    """Why answers of other tasks than spans cannot be scored as asked."""
    if args.preset not in ("vtg", OWN):
        return f"--preset {args.preset}: is of spans, and {args.predictions} has answers of {named}; leave it out"
    asked = [name for name in ("statistics", "train", "fps", "iou") if getattr(args, name) not in (None, False)]
    if asked:
        return f"--{asked[0]}: is about spans, and {args.predictions} has answers of {named}; leave it out"
    return None


def _with_statistics(args: argparse.Namespace) -> bool:
    return args.statistics or any(value is not None for value in (args.train, args.fps, args.compare, args.iou))


def _print_statistics(args: argparse.Namespace, task: SpanTask | None) -> None:
    """Scores and all that stands beside them, to stdout and --json. Raises OSError and ValueError."""
    sampling = None if args.fps is None else Sampling(fps=args.fps, max_frames=args.max_frames)
    read, scores, report = scores_in_context(
        args.predictions,
        preset=args.preset,
        annotations=args.annotations,
        field=args.field,
        task=task,
        train=args.train,
        sampling=sampling,
        compare=args.compare,
        ious_asked=args.iou or DEFAULT_IOUS,
    )
    head = {"report": "vtg.evaluate", "preset": args.preset, "form": read.form, "samples": len(read.cases)}
    files = {"predictions": args.predictions, "annotations": args.annotations, "compared_with": args.compare}
    files["input"] = read_input(args.predictions)
    found = {**read.findings, **scores.findings}
    document = {**head, **scores.common, **scores.printed, "statistics": report, **files, "findings": counted(found)}
    _tell(args, _lines(document), found, f"preset {args.preset}\n{context_table(scores.common, report)}")


def comparison(scores: dict[str, Scores]) -> str:
    """Presets below one another, a column for each measurement, and how far each moves it."""
    names = list(dict.fromkeys(name for one in scores.values() for name in one.common))
    moved = spread(scores)
    rows = [("preset", *names)]
    rows += [(name, *(with_decimals(one.common.get(at)) for at in names)) for name, one in scores.items()]
    rows.append(("moved by rules alone", *(with_decimals(moved.get(name)) for name in names)))
    return "\n".join(aligned(rows))


def _usage_fault(args: argparse.Namespace) -> str | None:
    if args.predictions is None and not args.describe:
        return "PRED is missing: name the file of predictions, or give --describe"
    if args.preset == ALL and _with_statistics(args):
        return "--preset all lays presets side by side; name one of them for its statistics"
    if wrong := [threshold for threshold in args.iou or () if not 0 <= threshold <= 1]:
        return f"--iou {wrong[0]:g}: an IoU is from 0 to 1"
    if args.fps is not None and not 0 < args.fps < float("inf"):
        return f"--fps {args.fps}: frames a second must be a positive number"
    if args.max_frames is not None and (args.fps is None or args.max_frames < 1):
        return f"--max-frames {args.max_frames}: is at least 1, and limits --fps; give both"
    if args.describe and args.json is not None:
        return "--describe prints the rules of a preset and scores nothing; leave --json out"
    if args.num_bins is not None and args.answer not in ("bins", "tokens"):
        return f"--num-bins {args.num_bins}: only answers in bins or tokens have it; give --answer, or leave it out"
    if args.json not in (None, "-") and holds_something_else(args.json, REPORT_SIGNATURE):
        return f"--json {args.json}: there is a file that is no report of vtg.evaluate; name another"
    return None


def _document(args: argparse.Namespace, metrics: dict[str, float | int], joined: Joined) -> str:
    report: dict[str, Any] = {
        "report": "vtg.evaluate",
        **metrics,
        "preset": args.preset,
        "convention": PRESETS[_own_name(args.preset)].convention,
        "predictions": args.predictions,
        "annotations": args.annotations,
        "input": read_input(args.predictions),
        "statuses": dict(Counter(status for status in joined.statuses if status is not None)),
        "findings": counted(joined.findings),
    }
    return _lines(report)


def _lines(report: dict[str, Any]) -> str:
    """One JSON object; null for what is no finite number, which JSON cannot say."""
    report = {name: _finite(value) for name, value in report.items()}
    # A line for each key: lists of qids stay on one line each, which indent=1 would spread over hundreds.
    return "{" + ",\n ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in report.items()) + "}"


def table(metrics: dict[str, float | int], *, preset: str) -> str:
    """The metrics as two aligned lines under the convention they follow."""
    return f"preset {preset}: {PRESETS[_own_name(preset)].convention}\n{columns(metrics)}"


def columns(metrics: Mapping[str, Any], *, decimals: int = 2) -> str:
    """Names over numbers, aligned; groups of numbers are left to --json."""
    numbers = {name: value for name, value in metrics.items() if not isinstance(value, dict)}
    cells = [
        (name, with_decimals(value, decimals) if isinstance(value, float | None) else str(value))
        for name, value in numbers.items()
    ]
    widths = [max(len(name), len(text)) for name, text in cells]
    head = "  ".join(name.rjust(width) for (name, _), width in zip(cells, widths, strict=True))
    body = "  ".join(text.rjust(width) for (_, text), width in zip(cells, widths, strict=True))
    return f"{head}\n{body}"


def _parser() -> argparse.ArgumentParser:
    summary, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(prog="python -m vtg.evaluate", description=summary, epilog=details)
    parser.add_argument("predictions", metavar="PRED", nargs="?", help="predictions.jsonl, or a published form")
    parser.add_argument("--annotations", metavar="GT", help="ground truth, JSONL or JSON array, or a published form")
    names = [*PRESETS, OWN, *PUBLISHED, ALL]
    parser.add_argument("--preset", choices=names, default="vtg", help="whose conventions to follow (default: vtg)")
    parser.add_argument("--describe", action="store_true", help="say the rules of the preset, and score nothing")
    parser.add_argument("--field", metavar="KEY", help="where rows keep their prediction, such as pred of annotations")
    parser.add_argument("--statistics", action="store_true", help="intervals, blind controls, ceilings, breakdowns")
    parser.add_argument("--iou", type=float, nargs="+", metavar="T", help="thresholds of R1@T and R5@T in --statistics")
    parser.add_argument("--train", metavar="FILE", help="training annotations: the best constant answer as a control")
    parser.add_argument("--compare", metavar="PRED", help="predictions of a second run, paired by question")
    parser.add_argument("--fps", type=float, help="sampled frames a second: the best score reachable on them")
    parser.add_argument("--max-frames", type=int, metavar="N", help="at most so many frames a clip, for --fps")
    parser.add_argument("--answer", choices=CODECS, help="form of the answers in rows with `text` and no `prediction`")
    parser.add_argument("--num-bins", type=int, help=f"for --answer bins and tokens (default: {TaskConfig.num_bins})")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="one JSON document to stdout, or to FILE")
    return parser


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.exit(main())
