"""Scores predictions: `python -m vtg.evaluate predictions.jsonl --annotations test.jsonl`.

PRED holds one row per sample (JSONL or one JSON array): the annotation row's keys plus `prediction` ([[start, end],
...] in seconds), `status` and `text`. Rows that have `text` alone are parsed with --answer. Without --annotations, each
row is scored against its own `timestamp`. With it, rows are joined by `qid`, or by video, part and sentence where the
annotations have none; a sample nobody predicted scores 0, and predictions for other questions are refused.
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from vtg.config.task_settings import TaskConfig
from vtg.console import stdout_may_close
from vtg.evaluation.joining import Joined, join
from vtg.evaluation.metrics import PRESETS, grounding_metrics
from vtg.evaluation.prediction_rows import needs_parsing, read_rows
from vtg.storage.atomic import begins_with, write_text
from vtg.tasks.answer_forms import CODECS

SHOWN = 20  # names of missing, extra and duplicate samples that a report spells out

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
        codec = None if args.answer is None else CODECS[args.answer].from_config(TaskConfig(num_bins=bins))
    except ValueError as error:  # a number of bins that no codec takes
        parser.error(str(error))
    try:
        rows = read_rows(args.predictions)
        place = next((place for place, row in rows if needs_parsing(row)), None)
        if codec is None and place is not None:
            parser.error(f"{place}: has text and no prediction; name its form: --answer {{{','.join(CODECS)}}}")
        if codec is not None and place is None:
            parser.error(f"--answer {args.answer}: no row of {args.predictions} has text alone; leave it out")
        joined = join(rows, annotations=args.annotations, codec=codec)
        metrics = grounding_metrics(
            joined.predictions, joined.ground_truths, statuses=joined.statuses, preset=args.preset
        )
        document = _document(args, metrics, joined)
        if args.json not in (None, "-"):
            write_text(args.json, document + "\n")
    except OSError as error:
        print(f"vtg.evaluate: cannot open {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"vtg.evaluate: {error}", file=sys.stderr)
        return 1
    for line in _finding_lines(joined.findings):
        print(f"vtg.evaluate: {line}", file=sys.stderr)
    with stdout_may_close():
        print(document if args.json == "-" else table(metrics, preset=args.preset))
    return 0


def _usage_fault(args: argparse.Namespace) -> str | None:
    if args.num_bins is not None and args.answer not in ("bins", "tokens"):
        return f"--num-bins {args.num_bins}: only answers in bins or tokens have it; give --answer, or leave it out"
    if args.json not in (None, "-") and os.path.exists(args.json) and not begins_with(args.json, REPORT_SIGNATURE):
        return f"--json {args.json}: there is a file that is no report of vtg.evaluate; name another"
    return None


def _document(args: argparse.Namespace, metrics: dict[str, float | int], joined: Joined) -> str:
    report: dict[str, Any] = {
        "report": "vtg.evaluate",
        **metrics,
        "preset": args.preset,
        "convention": PRESETS[args.preset].convention,
        "predictions": args.predictions,
        "annotations": args.annotations,
        "statuses": dict(Counter(status for status in joined.statuses if status is not None)),
        "findings": {name: {"count": len(qids), "qids": qids[:SHOWN]} for name, qids in joined.findings.items()},
    }
    # A line for each key: lists of qids stay on one line each, which indent=1 would spread over hundreds.
    return "{" + ",\n ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in report.items()) + "}"


def table(metrics: dict[str, float | int], *, preset: str) -> str:
    """The metrics as two aligned lines under the convention they follow."""
    cells = [(name, f"{value:.2f}" if isinstance(value, float) else str(value)) for name, value in metrics.items()]
    widths = [max(len(name), len(text)) for name, text in cells]
    head = "  ".join(name.rjust(width) for (name, _), width in zip(cells, widths, strict=True))
    body = "  ".join(text.rjust(width) for (_, text), width in zip(cells, widths, strict=True))
    return f"preset {preset}: {PRESETS[preset].convention}\n{head}\n{body}"


def _parser() -> argparse.ArgumentParser:
    summary, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(prog="python -m vtg.evaluate", description=summary, epilog=details)
    parser.add_argument("predictions", metavar="PRED", help="predictions.jsonl")
    parser.add_argument("--annotations", metavar="GT", help="ground truth, JSONL or JSON array")
    parser.add_argument("--preset", choices=PRESETS, default="vtg", help="whose conventions to follow (default: vtg)")
    parser.add_argument("--answer", choices=CODECS, help="form of the answers in rows with `text` and no `prediction`")
    parser.add_argument("--num-bins", type=int, help=f"for --answer bins and tokens (default: {TaskConfig.num_bins})")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="one JSON document to stdout, or to FILE")
    return parser


def _finding_lines(findings: dict[str, list[str]]) -> list[str]:
    meaning = {
        "annotations_left_out": "annotation rows cannot be read and are left out; `python -m vtg.validate` says more",
        "duplicate_annotations": "annotation rows repeat a qid; the first of each counts",
        "duplicate_predictions": "predictions repeat a qid or a question; the first of each counts",
        "missing": "samples have no prediction and score 0",
        "extra": "predictions belong to no sample and are left out",
    }
    lines: list[str] = []
    for name, qids in findings.items():
        # Enough to look one up; a wrong qid column makes as many as there are rows.
        more = f" and {len(qids) - 5} more" if len(qids) > 5 else ""
        lines.append(f"{len(qids)} {meaning[name]}: {', '.join(qids[:5])}{more}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
