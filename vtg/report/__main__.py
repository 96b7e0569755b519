"""Shows runs as one HTML page, or what differs between two.

    python -m vtg.report outputs/sft_tiny_demo
    python -m vtg.report outputs/sft_tiny_demo outputs/rl_sft_tiny_demo_demo_rl -o compare.html
    python -m vtg.report outputs/sft_tiny_demo --follow
    python -m vtg.report --diff outputs/sft_tiny_demo outputs/sft_lr5e-5

One RUN: RUN/report.html with its metrics and the gain over the base, training curves, samples as timelines over frames
that the model saw, completions (GRPO), skipped rows, settings and versions. A click on a moment plays it, where the
page lies beside the videos. Several, or the folder of a sweep: a table on stdout, and report.html with their metrics
side by side, their curves in shared charts and the samples that they answer most differently; files among them are
passed over (FOLDER/*). The page is one file that needs no network; a run that is not finished can be shown too.

--follow: the page of a run that is going on, or has not begun, on an address of this machine alone. It keeps up with
the files of the run: curves, newest answers, time left, whether it still runs. Needs the extra `app`; Ctrl-C ends it.

--diff: what differs in settings, versions, commit, machine, data files and test samples, on stdout.

Exit code 0: written, or compared (whether runs differ or not); 1: the page cannot be written; 2: wrong usage, or a RUN
that is no run directory; 130: --follow was ended by Ctrl-C.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vtg.console import stdout_may_close
from vtg.errors import ConfigError
from vtg.report import REPORT
from vtg.report.differences import difference_lines, differences
from vtg.report.html_page import comparison_page, run_page
from vtg.report.run_reader import Run, read_run, runs_in
from vtg.report.score_tables import comparison_text, paired_gains
from vtg.storage.atomic import holds_something_else, write_text


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes a page or prints the differences; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.follow:
        return _follow(parser, options)
    if options.port is not None:
        parser.error("--port is for --follow")
    if options.diff and options.out:
        parser.error("--diff writes to stdout; leave out -o, or leave out --diff for a page")
    if options.out and os.path.isdir(options.out):
        parser.error(f"-o {options.out}: is a folder; name the file to write")
    if options.out and holds_something_else(options.out, b"<!DOCTYPE html>"):
        parser.error(f"-o {options.out}: is a file that is no page; name another, so that it is not overwritten")
    try:
        folders = _run_folders([Path(run) for run in options.runs])
        if options.diff and len(folders) != 2:
            parser.error(f"--diff compares two runs, and {len(folders)} were given")
        runs = [read_run(folder) for folder in folders]
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except PermissionError as error:
        print(f"error: {error.filename}: {error.strerror}; check the path and its permissions", file=sys.stderr)
        return 2
    if options.diff:
        _print_differences(*runs, as_json=options.json)
        return 0
    # Of several runs no directory is the natural place: the page goes to the current folder.
    page = Path(options.out) if options.out else folders[0] / REPORT if len(runs) == 1 else Path(REPORT)
    try:
        layout = {"folder": page.parent, "frames": options.frames}
        write_text(page, run_page(runs[0], **layout) if len(runs) == 1 else comparison_page(runs, **layout))
    except OSError as error:
        print(f"error: {page}: cannot be written ({error.strerror}); give -o FILE", file=sys.stderr)
        return 1
    # The page is written all the same: what of a run could not be read is said beside it.
    for run in runs:
        for note in run.notes:
            print(f"{run.folder}: {note}", file=sys.stderr)
    with stdout_may_close():
        if options.json:
            print(json.dumps({"report": str(page), "runs": [_run_as_json(run) for run in runs]}))
        else:
            print(page if len(runs) == 1 else f"{comparison_text(runs)}\n\n{page}")
    return 0


def _follow(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if len(options.runs) != 1:
        parser.error(f"--follow shows one run, and {len(options.runs)} were given")
    if options.out or options.diff or options.json:
        parser.error("--follow writes no file and no JSON: leave out -o, --diff and --json")
    folder = Path(options.runs[0])
    if os.path.isfile(folder):  # False too of what may not be looked for
        parser.error(f"{folder}: is a file; give the output_dir of a run, which need not be there yet")
    if find_spec("uvicorn") is None or find_spec("starlette") is None:
        print("error: --follow needs FastAPI and uvicorn; pip install 'vtg[app]'", file=sys.stderr)
        return 2
    from vtg.report.following import PORT, follow

    try:
        return follow(folder, port=PORT if options.port is None else options.port, frames=options.frames)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run_folders(given: Sequence[Path]) -> list[Path]:
    """The given run directories, and the runs of given sweeps, without the files that a shell expands FOLDER/* to."""
    files = [path for path in given if os.path.isfile(path)]  # False too of what may not be looked for
    if len(files) == len(given):  # nothing but files is a mistake, which read_run refuses
        return list(given)
    for path in files:
        print(f"{path}: a file, not a run; passed over", file=sys.stderr)  # stdout is for the result alone
    return [run for path in given if path not in files for run in runs_in(path)]


def _print_differences(a: Run, b: Run, *, as_json: bool) -> None:
    groups = differences(a, b)
    with stdout_may_close():
        if as_json:
            # YAML settings may hold dates, which JSON has not.
            print(json.dumps({"runs": [str(a.folder), str(b.folder)]} | groups, default=str))
        else:
            print("\n".join(difference_lines(a, b, groups)))


def _run_as_json(run: Run) -> dict[str, Any]:
    gains = {name: gain.as_json() for name, gain in paired_gains(run.base, run.tuned).items()}
    return {
        "run": str(run.folder),
        "name": run.name,
        "steps": run.last_step,
        "metrics": run.metrics,
        "gain": gains,
        "skipped": len(run.skipped),
        "notes": run.notes,
    }


def _parser() -> argparse.ArgumentParser:
    title, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m vtg.report",
        description=title,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directories (the output_dir of a training)")
    parser.add_argument(
        "-o", "--out", metavar="FILE", help="the page (default: RUN/report.html; of several: report.html)"
    )
    parser.add_argument(
        "--no-frames", dest="frames", action="store_false", help="no film strips: no video is read, the page is small"
    )
    parser.add_argument("--diff", action="store_true", help="print what differs between two runs; no page")
    parser.add_argument("--follow", action="store_true", help="serve the page of a run that is going on, until Ctrl-C")
    parser.add_argument("--port", type=int, metavar="N", help="of --follow; 0: a free one (default: 7862)")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())
