"""Makes JSONL rows of annotations as benchmarks publish them, and says what became of every row.

  python -m vtg.convert charades_sta_train.txt --durations Charades_v1_train.csv -o train.jsonl
  python -m vtg.convert qvhighlights highlight_train_release.jsonl --video-dir videos -o train.jsonl
  python -m vtg.convert my.csv --columns video=clip,sentence=text,start=t0,end=t1,duration=len -o mine.jsonl
  python -m vtg.convert --to qvhighlights outputs/sft/predictions.jsonl -o submission.jsonl
  python -m vtg.convert inherits configs/mine.yaml -o hydra   (configs, not rows; its own --help)

Without FORMAT it is told by how each file begins. Ends past the duration are clipped, reversed and empty spans dropped;
all that is changed, dropped or left out is counted by kind, with examples.
Exit code 0: written; 1: a broken file, durations that contradict each other, or more dropped than --max-dropped (the
good rows are written all the same); 2: wrong usage.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

from vtg.annotations.conversion.conversion_report import FileReport
from vtg.annotations.conversion.convert_file import convert
from vtg.annotations.conversion.durations import Durations
from vtg.annotations.conversion.normal_row import Lookup
from vtg.annotations.conversion.plan import Plan, planned
from vtg.annotations.conversion.submissions import SUBMISSIONS, CannotSubmit, prediction_rows, with_spans
from vtg.annotations.conversion.video_names import from_folder, from_template
from vtg.annotations.sources import BENCHMARKS, SOURCES
from vtg.annotations.sources.own_rows import FIELDS, SYNONYMS
from vtg.annotations.sources.source_row import NoRow
from vtg.console import stdout_may_close
from vtg.errors import ConfigError, RunError
from vtg.progress_bar import ProgressBar
from vtg.storage.atomic import holds_something_else, overwriting, write_text
from vtg.storage.json_files import write_json, write_jsonl

MAX_DROPPED = 0.05
"""Share of a file's rows that may be dropped: a few bad rows are in every set, more is a file read wrongly."""

REPORT_SIGNATURE = b'{"report": "vtg.convert"'


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["inherits"]:
        from vtg.config.inherits import command

        return command.main(words[1:])
    options = _options(words)
    if options.list:
        with stdout_may_close():
            print("\n".join(_list()))
        return 0
    try:
        if options.to is not None:
            return _submit(options)
        plan = planned(options.words, columns=options.columns, durations=options.durations)
        lookup = _lookup(options, plan.durations)
        if fault := _path_fault(options):
            raise ConfigError(fault)
        bar = ProgressBar(None, title="converting", unit="row")
        reports = convert(plan, lookup, options.out, examples=options.examples, bar=bar)
        with stdout_may_close():
            return _tell(reports, plan, options)
    except (ConfigError, ValueError) as error:
        print(f"vtg.convert: error: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"vtg.convert: error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"vtg.convert: error: {error}; check the path and its permissions", file=sys.stderr)
        return 2


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m vtg.convert", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="[FORMAT] SRC", help="a name that --list prints; published files")
    parser.add_argument("-o", "--out", metavar="OUT", help="the JSONL file to write")
    parser.add_argument(
        "--to",
        choices=tuple(SUBMISSIONS),
        metavar="NAME",
        help=f"back: SRC is predictions.jsonl; {', '.join(SUBMISSIONS)}",
    )
    parser.add_argument(
        "--durations", action="append", default=[], metavar="F", help="a table or JSON of videos and seconds; repeat it"
    )
    parser.add_argument(
        "--columns", type=_columns, default={}, metavar="A=B,…", help=f"your columns B of {', '.join(FIELDS)}"
    )
    parser.add_argument(
        "--video-dir", metavar="D", help="looks every video up there, and its ending; drops what is not"
    )
    parser.add_argument("--video-template", metavar="T", help="names of videos without looking: 'clips/{video}.mp4'")
    parser.add_argument(
        "--probe", action="store_true", help="with --video-dir: durations that nothing tells, from videos"
    )
    parser.add_argument(
        "--empty",
        choices=("no-moment", "unlabelled"),
        default="no-moment",
        help="what an empty list of spans says: there is no moment (default), or nobody has labelled it",
    )
    parser.add_argument(
        "--max-dropped", type=float, default=MAX_DROPPED, metavar="X", help="share that may be dropped (default: 0.05)"
    )
    parser.add_argument("--examples", type=int, default=3, metavar="N", help="of each kind in the report (default: 3)")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="print (or write to FILE) the report as JSON"
    )
    parser.add_argument("--list", action="store_true", help="the formats, and where each was read from")
    options = parser.parse_args(argv)
    if options.list:
        return options
    if not options.words:
        parser.error("SRC is missing: name at least one published file, or --list")
    if options.out is None:
        parser.error("-o OUT is missing: name the JSONL file to write")
    if options.to is not None and len(options.words) != 1:
        parser.error(f"--to {options.to} takes one SRC, the predictions")
    others = [name for name in vars(options) if name not in ("words", "out", "to", "list")]
    if options.to and (given := [name for name in others if getattr(options, name) != parser.get_default(name)]):
        named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        parser.error(f"--to {options.to} takes SRC and -o alone; leave out {named}")
    if not 0 <= options.max_dropped <= 1:
        parser.error(f"--max-dropped {options.max_dropped}: must be a share between 0 and 1")
    if options.examples < 0:
        parser.error(f"--examples {options.examples}: must be 0 or more")
    if options.probe and options.video_dir is None:
        parser.error("--probe needs --video-dir, the folder of the videos")
    if options.video_dir is not None and options.video_template is not None:
        parser.error("--video-dir looks names up and --video-template makes them: give one of both")
    return options


def _columns(text: str) -> dict[str, str]:
    columns = {}
    for pair in text.split(","):
        name, equals, column = (part.strip() for part in pair.partition("="))
        name = SYNONYMS.get(name, name)
        if not equals or not column or name not in FIELDS:
            raise argparse.ArgumentTypeError(f"{pair!r} must be FIELD=COLUMN, FIELD one of {', '.join(FIELDS)}")
        columns[name] = column
    return columns


def _path_fault(options: argparse.Namespace) -> str | None:
    if os.path.isdir(options.out):
        return f"-o {options.out} is a folder; name the JSONL file to write"
    # realpath: a link to an input is that input.
    read = {os.path.realpath(path) for path in (*options.words, *options.durations)}
    if os.path.realpath(options.out) in read:
        return f"-o {options.out} would overwrite what is read; name another file"
    report: str = options.json or "-"
    if report != "-" and holds_something_else(report, REPORT_SIGNATURE):
        return f"--json {options.json} is there and is no report of vtg.convert; name another file"
    return overwriting([("-o", options.out), ("--json", None if report == "-" else report)])


def _lookup(options: argparse.Namespace, durations: Durations) -> Lookup:
    video_of: Callable[[str], str | NoRow] | None = None
    if options.video_template is not None:
        video_of = from_template(options.video_template)
    if options.video_dir is not None:
        if not os.path.isdir(options.video_dir):
            raise ConfigError(f"--video-dir {options.video_dir} is not a folder; name the folder of the videos")
        video_of = from_folder(options.video_dir)
    is_label = options.empty == "no-moment"
    if not options.probe:
        return Lookup(duration_of=durations, video_of=video_of, empty_is_label=is_label)
    from vtg.errors import SampleError
    from vtg.video.container import probe

    find, probed = video_of, dict[str, float | None]()

    def duration_of(video: str) -> float | None:
        if (told := durations(video)) is not None:
            return told
        file = find(video) if find is not None else None
        if not isinstance(file, str):
            return None
        if file not in probed:
            probed[file] = None
            with suppress(SampleError, OSError):
                probed[file] = probe(os.path.join(options.video_dir, file)).duration_s
        return probed[file]

    return Lookup(duration_of=duration_of, video_of=video_of, empty_is_label=is_label)


def _tell(reports: list[FileReport], plan: Plan, options: argparse.Namespace) -> int:
    """Prints the report; the exit code."""
    failures = list(_failures(reports, plan, options))
    written = sum(report.written for report in reports)
    document = {
        "report": "vtg.convert",
        "out": options.out if written else None,
        "written": written,
        "files": [report.document() for report in reports],
        "durations_from": plan.durations_from,
        "failures": failures,
    }
    if options.json not in (None, "-"):
        write_text(options.json, json.dumps(document) + "\n")
    if options.json == "-":
        print(json.dumps(document))
    else:
        for line in (*plan.notes, *(line for report in reports for line in report.lines())):
            print(line)
        print(f"wrote {written:,} rows to {options.out}" if written else f"wrote nothing to {options.out}")
    for failure in failures:
        print(f"vtg.convert: error: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _failures(reports: list[FileReport], plan: Plan, options: argparse.Namespace) -> Iterator[str]:
    for path in plan.missing:
        yield f"{path}: is missing among {len(reports)} partitions that are there; fetch it (the others are written)"
    for report in reports:
        yield from (f"{fault} (the rows before it are written)" for fault in report.faults)
        if count := report.dropped.counts["duration-contradicts"]:
            first = report.dropped.examples.get("duration-contradicts", ["see the report"])[0]
            yield f"{first}; rows with a second duration are dropped ({count}): correct the file, or --durations"
        if report.rows and report.dropped_share > options.max_dropped:
            most = report.dropped.counts.most_common(1)[0][0]
            remedy = f"is it in the form {report.form!r}? --list names the forms"
            if most == "video-absent":
                remedy = f"are these videos in --video-dir {options.video_dir}? Fetch them, or leave --video-dir out"
            yield (
                f"{report.path}: {report.dropped_share:.1%} of {report.rows:,} rows are dropped, most for {most}; more "
                f"than --max-dropped {options.max_dropped:g}; {remedy}"
            )
        elif not report.written and not report.faults:
            yield f"{report.path}: holds no row of the form {report.form!r}; --list names the forms"
    for path, contradiction in plan.durations.contradictions[:3]:
        yield f"{path}:{contradiction.line}: {contradiction.text}; the first one is taken: correct the file"


def _submit(options: argparse.Namespace) -> int:
    """Writes predictions in a benchmark's form of submission."""
    if fault := _path_fault(options):
        raise ConfigError(fault)
    submission, (path,) = SUBMISSIONS[options.to], options.words
    rows, unanswered = [], 0
    try:
        for row in with_spans(prediction_rows(path), submission):
            rows.append(row)
            unanswered += not row["spans"]
    except CannotSubmit as error:
        print(f"vtg.convert: error: {error}", file=sys.stderr)
        return 1
    if not rows:
        print(f"vtg.convert: error: {path}: holds no predictions; nothing is written", file=sys.stderr)
        return 1
    made = submission.make(rows)
    if submission.lines:
        write_jsonl(options.out, made)
    else:
        write_json(options.out, made)
    print(f"wrote {len(rows):,} predictions to {options.out} for {submission.title}; {unanswered:,} without an answer")
    return 0


def _list() -> Iterator[str]:
    yield "Benchmarks, and the forms they are published in:"
    for name, forms in BENCHMARKS.items():
        yield f"  {name:<24}{', '.join(forms)}"
    yield "Submissions (--to):"
    for name, submission in SUBMISSIONS.items():
        yield f"  {name:<24}{submission.title}"
    yield "Forms:"
    for name, source in SOURCES.items():
        yield f"  {name:<24}{source.title}"
        yield f"  {'':<24}{source.loader}"
        yield f"  {'':<24}{'tried on ' + source.seen if source.seen else 'not seen on the real file'}"


if __name__ == "__main__":
    sys.exit(main())
