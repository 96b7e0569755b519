"""Checks annotation files before anything is trained on them.

Every problem is printed as `path:line: field: what, and what to do` (`path:1[17]`: the 17th row that starts
on line 1), errors apart from warnings, then a summary.
Exit code 0: no errors; 1: errors (with --strict: or warnings); 2: wrong usage, or a FILE that cannot be read.
"""

import argparse
import json
import os
import sys
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from vtg.annotations.formats import format_name
from vtg.annotations.sample import Problem, spans_of
from vtg.console import stdout_may_close
from vtg.doctor import audit
from vtg.doctor.rejected_rows import rejected_line, rejects_path
from vtg.doctor.row_facts import RowFacts
from vtg.doctor.video_checks import VideoChecks
from vtg.errors import ConfigError, RunError
from vtg.storage.atomic import holds_something_else, is_stream, overwriting, write_text, written_beside
from vtg.video.files import address

# Kinds of warnings that --fix repairs: with --strict such a row is written, not rejected.
MENDED = ("timestamp-clipped", "duration-filled")

# How every report begins: --json FILE overwrites such a file alone, never an annotation file named by mistake.
REPORT_SIGNATURE = b'{"report": "vtg.validate"'


class FixedFiles(AbstractContextManager["FixedFiles"]):
    """Writes OUT, the good rows, and OUT's .rejects.jsonl, the others; both appear only when all is written.

    A good row is written as it was given, on one line; a span that ended after its clip is clipped, and with --probe a
    duration that was missing is filled in.
    """

    def __init__(self, out: str, *, strict: bool) -> None:
        self.paths = (Path(out), rejects_path(out))
        self._strict = strict
        self._beside = ExitStack()
        good, rejects = (self._beside.enter_context(written_beside(path)) for path in self.paths)
        self._good = open(good, "wb")  # noqa: SIM115
        self._rejects = open(rejects, "w", encoding="utf-8")  # noqa: SIM115

    def keep(self, raw: bytes, problems: list[Problem]) -> None:
        if self._strict and any(problem.kind not in MENDED for problem in problems):
            self.reject(raw, problems)
            return
        if any(problem.kind == "timestamp-clipped" for problem in problems):
            raw = _clipped(raw)
        elif b"\n" in (raw := raw.strip()):  # a row of a JSON array, which may span lines
            raw = msgspec.json.format(raw, indent=-1)
        self._good.write(raw + b"\n")

    def reject(self, raw: bytes, problems: list[Problem]) -> None:
        self._rejects.write(rejected_line(raw, problems, place=problems[0].place))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closed before they are renamed: buffered rows would be missing, and Windows renames no open file.
        self._good.close()
        self._rejects.close()
        self._beside.__exit__(kind, error, trace)


def _clipped(raw: bytes) -> bytes:
    spans = [list(span) for span in spans_of(msgspec.json.decode(raw))]
    # Raw values are written back as they were given: only the spans change.
    row = msgspec.json.decode(msgspec.json.format(raw, indent=-1), type=dict[str, msgspec.Raw])
    row["timestamp"] = msgspec.Raw(msgspec.json.encode(spans if len(spans) > 1 else spans[0]))
    return msgspec.json.encode(row)


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = _options(argv)
    report = audit.Report(max_problems=None if options.all else options.max_problems, strict=options.strict)
    try:
        with ExitStack() as stack:
            sink = stack.enter_context(FixedFiles(options.fix, strict=options.strict)) if options.fix else None
            videos = _video_checks(options, stack)
            facts = RowFacts() if options.compare else None
            for path in options.files:
                audit.audit_file(path, report, videos=videos, sink=sink, facts=facts)
        more = _compare(facts, report, options) if facts is not None else {}
        with stdout_may_close():  # `| head` is how people look at many problems
            _print(report, options, more)
    except (ConfigError, RunError) as error:
        print(f"vtg.validate: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"vtg.validate: error: {error}; check the path and its permissions", file=sys.stderr)
        return 2
    return 0 if report.ok else 1


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m vtg.validate", description=__doc__)
    parser.add_argument("files", nargs="*", metavar="FILE", help="annotations: JSON Lines, one JSON array, or shards")
    parser.add_argument("--video-dir", metavar="D", help="where relative videos are; checks that every video is there")
    parser.add_argument(
        "--probe",
        action="store_true",
        help="open every video: readable, long enough, cut? with --fix: fill durations in",
    )
    parser.add_argument("--strict", action="store_true", help="warnings count as errors")
    parser.add_argument("--fix", metavar="OUT", help="write the good rows to OUT, the others to OUT's .rejects.jsonl")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="print (or write to FILE) the report as JSON"
    )
    parser.add_argument(
        "--compare",
        action="store_true",
        help="compare rows: repeated ones, what files share (as training and test sets should not), unusual lengths",
    )
    parser.add_argument(
        "--one-split",
        action="store_true",
        help="with --compare: the files are parts of one set and may share videos",
    )
    parser.add_argument("--html", metavar="PAGE", help="compare, and write a page with plots of all that was found")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument(
        "--max-problems",
        type=int,
        default=20,
        metavar="N",
        help="problems of each kind, in JSON too (default: 20)",
    )
    shown.add_argument("--all", action="store_true", help="show every problem; their number is always exact")
    options = parser.parse_args(argv)
    if options.json not in (None, "-") and holds_something_else(options.json, REPORT_SIGNATURE):
        # `--json rows.jsonl` means a file to check; whatever was meant, a file that is not a report is not overwritten.
        options.files.append(options.json)
        options.json = "-"
    if not options.files:
        parser.error("FILE is missing: name at least one annotation file")
    if options.one_split and not options.compare and options.html is None:
        parser.error("--one-split says how files are compared: give --compare or --html too")
    options.compare |= options.html is not None
    if options.max_problems < 0:
        parser.error(f"--max-problems {options.max_problems}: must be 0 or more")
    if fault := _path_fault(options):
        parser.exit(2, f"vtg.validate: error: {fault}\n")
    return options


def _path_fault(options: argparse.Namespace) -> str | None:
    for path in options.files:
        if format_name(path) != "jsonl":  # shards, say: a pattern of names, which its reader looks up
            continue
        try:
            os.stat(path)
        except PermissionError as error:
            return f"{path} cannot be read ({error.strerror}); check the permissions of the folders that it is in"
        except (OSError, ValueError):
            return f"{path} does not exist; name an annotation file (JSON Lines, or one JSON array)"
        if os.path.isdir(path) or not os.access(path, os.R_OK):
            return f"{path} cannot be read as a file; name an annotation file (JSON Lines, or one JSON array)"
    folder: str | None = options.video_dir
    if folder is not None and (fault := address.fault(folder)):
        return f"--video-dir: {fault}"
    if folder is not None and not address.is_address(folder) and not os.path.isdir(folder):
        return f"--video-dir {options.video_dir} is not a folder; name the folder of the videos"
    report = None if options.json == "-" else options.json
    for option, out in (("--json", report), ("--html", options.html), ("--fix", options.fix)):
        if out is not None and (os.path.isdir(out) or not _takes_files(os.path.dirname(os.path.realpath(out)))):
            return f"{option} {out} cannot be written; name a file in a folder that exists and that you may write to"
    if options.html and holds_something_else(options.html, b"<!DOCTYPE html>"):
        return f"--html {options.html} is a file that is no page; name another, so that it is not overwritten"
    if options.fix is not None:
        # realpath: a link to an input is that input.
        inputs = {os.path.realpath(path) for path in options.files}
        for out in (options.fix, str(rejects_path(options.fix))):
            if os.path.realpath(out) in inputs:
                return f"--fix {options.fix} would overwrite {out}, which is to be checked; name another file"
            if is_stream(out):
                return f"--fix {options.fix}: {out} is a device or a pipe, not a file; name a file"
    written = [("--fix", options.fix), ("--fix", options.fix and str(rejects_path(options.fix)))]
    return overwriting([*written, ("--json", report), ("--html", options.html)])


def _takes_files(folder: str) -> bool:
    return os.path.isdir(folder) and os.access(folder, os.W_OK)


def _video_checks(options: argparse.Namespace, stack: ExitStack) -> VideoChecks | None:
    if not options.probe and options.video_dir is None:
        return None
    # Imported late: rows alone are checked without numpy or a decoder.
    from vtg.video.files.video_files import exists

    if not options.probe:
        return VideoChecks(options.video_dir, exists=exists)
    from vtg.progress_bar import ProgressBar
    from vtg.video.clip import DecodeError
    from vtg.video.decoders import probe

    bar = stack.enter_context(ProgressBar(None, title="probing", unit="video", leave=True))
    return VideoChecks(
        options.video_dir, exists=exists, probe=probe, unreadable=(DecodeError, OSError), progress=bar.update
    )


def _compare(facts: RowFacts, report: audit.Report, options: argparse.Namespace) -> dict[str, Any]:
    """Adds to the report what is found between rows, and writes the page; returns what the JSON report has more."""
    # Imported late: rows are checked one by one without numpy.
    from vtg.doctor.audit_page import audit_page, comparison_document
    from vtg.doctor.outliers import outliers
    from vtg.doctor.repeats import compare

    comparison = compare(facts, between_files=not options.one_split)
    for problem in (*comparison.problems, *outliers(facts, comparison.words)):
        report.add(problem)
    if options.html is not None:
        write_text(options.html, audit_page(report, facts, comparison))
    return {"comparison": comparison_document(facts, comparison)}


def _print(report: audit.Report, options: argparse.Namespace, more: dict[str, Any]) -> None:
    document = json.dumps(report.document() | more) if options.json else ""
    if options.json not in (None, "-"):
        write_text(options.json, document + "\n")
    if options.json == "-":
        print(document)
        return
    for line in report.lines():
        print(line)
    if options.fix:
        print(f"wrote {options.fix} and {rejects_path(options.fix)}")
    if options.html is not None:
        print(f"wrote {options.html}")


if __name__ == "__main__":
    sys.exit(main())
