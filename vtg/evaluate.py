"""Scores predictions: `python -m vtg.evaluate predictions.jsonl --annotations test.jsonl`.

PRED holds one row per sample (JSONL or one JSON array): the annotation row's keys plus `prediction` ([[start, end],
...] in seconds), `status` and `text`. Rows that have `text` alone are parsed with --answer. Without --annotations, each
row is scored against its own `timestamp`; with it, rows are joined by `qid`, and a sample nobody predicted scores 0.
"""

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtg.config.schema import TaskConfig
from vtg.data.schema import Problem, Sample, read_samples
from vtg.evaluation.metrics import PRESETS, Spans, grounding_metrics
from vtg.output import stdout_may_close, write_text
from vtg.tasks.answer import CODECS, Codec, Status

SHOWN = 20  # names of missing, extra and duplicate samples that a report spells out


@dataclass(slots=True)
class Joined:
    """Predictions beside their ground truth, one entry per sample, and what did not fit."""

    predictions: list[Spans | None] = field(default_factory=list)
    ground_truths: list[Spans] = field(default_factory=list)
    statuses: list[str | None] = field(default_factory=list)
    findings: dict[str, list[str]] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 scored; 1 nothing could be scored, or a row is broken; 2 wrong usage, or a file is not there."""
    parser = _parser()
    args = parser.parse_args(arguments)
    try:
        codec = None if args.answer is None else CODECS[args.answer].from_config(TaskConfig(num_bins=args.num_bins))
    except ValueError as error:
        parser.error(str(error))
    try:
        rows = read_rows(args.predictions)
        if codec is None and (place := next((place for place, row in rows if _needs_parsing(row)), None)):
            parser.error(f"{place}: has text and no prediction; name its form: --answer {{{','.join(CODECS)}}}")
        joined = join(rows, annotations=args.annotations, codec=codec)
        metrics = grounding_metrics(
            joined.predictions, joined.ground_truths, statuses=joined.statuses, preset=args.preset
        )
    except OSError as error:
        print(f"vtg.evaluate: cannot open {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"vtg.evaluate: {error}", file=sys.stderr)
        return 1
    for line in _finding_lines(joined.findings):
        print(f"vtg.evaluate: {line}", file=sys.stderr)
    document = metrics | {
        "preset": args.preset,
        "convention": PRESETS[args.preset].convention,
        "predictions": args.predictions,
        "annotations": args.annotations,
        "statuses": dict(Counter(status for status in joined.statuses if status is not None)),
        "findings": {name: {"count": len(qids), "qids": qids[:SHOWN]} for name, qids in joined.findings.items()},
    }
    with stdout_may_close():
        print(json.dumps(document, indent=2) if args.json == "-" else table(metrics, preset=args.preset))
    if args.json not in (None, "-"):
        write_text(args.json, json.dumps(document, indent=2) + "\n")
    return 0


def read_rows(path: str) -> list[tuple[str, dict[str, Any]]]:
    """(place, row) of every row of a JSONL file or a JSON array. NaN is read: models and peers write it.

    Raises OSError when the file cannot be read, and ValueError naming the place for what is not a JSON object.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8 text ({error.reason}); give predictions as JSONL") from None
    lines = [(f"{path}:{number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if text.lstrip().startswith("["):
        array = _decoded(path, text)
        rows = [(f"{path}[{index}]", row) for index, row in enumerate(array)]
    else:
        rows = [(place, _decoded(place, line)) for place, line in lines]
    if not rows:
        raise ValueError(f"{path}: holds no predictions; check the path and the run that wrote it")
    for place, row in rows:
        if not isinstance(row, dict):
            raise ValueError(f"{place}: {str(row)[:40]!r} is not an object; every row needs qid and prediction")
    return rows


def join(
    rows: Sequence[tuple[str, dict[str, Any]]], *, annotations: str | None = None, codec: Codec | None = None
) -> Joined:
    """Lay predictions beside their ground truth: the rows' own, or that of the file `annotations`, joined by qid.

    A qid is compared as text, so that 12 and "12" are the same. Of several rows with one qid the first counts.
    Raises ValueError, naming the place, for a row that has nothing to score or to join by, and where no row joins.
    """
    joined = Joined()
    if annotations is None:
        for place, row in rows:
            _add(joined, place, row, truth=_spans(place, "timestamp", row.get("timestamp")), codec=codec)
        return joined
    samples = _samples(annotations, joined.findings)
    by_qid: dict[str, tuple[str, dict[str, Any]]] = {}
    for place, row in rows:
        qid = row.get("qid")
        if not isinstance(qid, str | int) or isinstance(qid, bool):
            raise ValueError(f"{place}: qid: is {qid!r}; rows are joined by qid, a string or an integer")
        if str(qid) in by_qid:
            joined.findings.setdefault("duplicate_predictions", []).append(str(qid))
        by_qid.setdefault(str(qid), (place, row))
    if not by_qid.keys() & samples.keys():
        raise ValueError(
            f"no qid of the predictions (first: {next(iter(by_qid))!r}) is in {annotations} "
            f"(first: {next(iter(samples), None)!r}); give the annotations that were predicted on"
        )
    for qid, sample in samples.items():
        if qid in by_qid:
            place, row = by_qid[qid]
            _add(joined, place, row | {"duration": sample.duration_s}, truth=sample.spans, codec=codec)
        else:
            joined.findings.setdefault("missing", []).append(qid)
            joined.predictions.append(None)
            joined.statuses.append(None)
            joined.ground_truths.append(sample.spans)
    if extra := [qid for qid in by_qid if qid not in samples]:
        joined.findings["extra"] = extra
    return joined


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
    parser.add_argument("--annotations", metavar="GT", help="ground truth, JSONL or JSON array; joined by qid")
    parser.add_argument("--preset", choices=PRESETS, default="vtg", help="whose conventions to follow (default: vtg)")
    parser.add_argument("--answer", choices=CODECS, help="form of the answers in rows with `text` and no `prediction`")
    parser.add_argument("--num-bins", type=int, default=TaskConfig.num_bins, help="for --answer bins and tokens")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="one JSON document to stdout, or to FILE")
    return parser


def _samples(path: str, findings: dict[str, list[str]]) -> dict[str, Sample]:
    """Ground truth by qid, the first of a kind; rows that cannot be read and repeated qids are findings."""
    samples: dict[str, Sample] = {}
    for item in read_samples(path):
        if isinstance(item, Problem):
            findings.setdefault("annotations_left_out", []).append(str(item))
        elif item.qid in samples:
            findings.setdefault("duplicate_annotations", []).append(item.qid)
        else:
            samples[item.qid] = item
    return samples


def _add(joined: Joined, place: str, row: dict[str, Any], *, truth: Spans, codec: Codec | None) -> None:
    if not truth:
        raise ValueError(f"{place}: timestamp: is missing; add it to the row, or give --annotations")
    spans, status = _predicted(place, row, codec)
    joined.predictions.append(spans)
    joined.statuses.append(status)
    joined.ground_truths.append(truth)


def _predicted(place: str, row: dict[str, Any], codec: Codec | None) -> tuple[Spans, str | None]:
    if "prediction" in row:
        status = row.get("status")
        if not isinstance(status, str | None):
            raise ValueError(f"{place}: status: is {status!r}, not one of {', '.join(Status)}")
        return _spans(place, "prediction", row["prediction"]), status
    text, duration_s = row.get("text"), row.get("duration")
    if codec is None or not isinstance(text, str):
        raise ValueError(f"{place}: has neither prediction ([[start, end], ...] in seconds) nor text (the raw answer)")
    if isinstance(duration_s, bool) or not isinstance(duration_s, int | float) or not 0 < duration_s < math.inf:
        raise ValueError(f"{place}: duration: is {duration_s!r}; parsing text needs the clip's length in seconds")
    answer = codec.parse(text, float(duration_s))
    return answer.spans, answer.status.value


def _needs_parsing(row: dict[str, Any]) -> bool:
    return "prediction" not in row and isinstance(row.get("text"), str)


def _spans(place: str, key: str, value: object) -> list[tuple[float, float]]:
    """The spans under a key: [[start, end], ...] or one [start, end]; none for null or []. A null bound becomes NaN."""
    pairs = [] if value is None else value
    if isinstance(pairs, list) and pairs and not isinstance(pairs[0], list):
        pairs = [pairs]
    if not isinstance(pairs, list) or not all(_is_pair(pair) for pair in pairs):
        raise ValueError(f"{place}: {key}: {str(value)[:60]} must be [[start, end], ...] in seconds, or null")
    return [(_bound(start), _bound(end)) for start, end in pairs]


def _bound(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _is_pair(pair: object) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(type(bound) in (int, float, type(None)) for bound in pair)


def _decoded(place: str, text: str) -> Any:
    try:
        return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 300 else float(digits))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{place}: is not JSON ({error}); give JSONL, one object a line, or one array") from None


def _finding_lines(findings: dict[str, list[str]]) -> list[str]:
    meaning = {
        "annotations_left_out": "annotation rows cannot be read and are left out; `python -m vtg.validate` says more",
        "duplicate_annotations": "annotation rows repeat a qid; the first of each counts",
        "duplicate_predictions": "predictions repeat a qid; the first of each counts",
        "missing": "samples have no prediction and score 0",
        "extra": "predictions belong to no sample and are left out",
    }
    lines: list[str] = []
    for name, qids in findings.items():
        more = f" and {len(qids) - 5} more" if len(qids) > 5 else ""
        lines.append(f"{len(qids)} {meaning[name]}: {', '.join(qids[:5])}{more}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
