"""Downloads published data sets: Molmo2's and PixMo's, and those of temporal grounding.

    python -m vtg.download NAME ... [--data-dir D] [--rows-only] [--workers N]
    python -m vtg.download --stage pretraining|sft|eval|all [--include-eval]
    python -m vtg.download --list | --check [NAME ...] | --dry-run NAME ...

Says first what there is of each set, under which licence, and the room that it takes; then fetches several files at a
time, checks each against the publisher's checksum, and ends with a table. A set that fails costs only itself. Run the
same command again to go on after an interruption, within a file too: what is whole is not fetched twice. A set becomes
D/NAME/train.parquet (a file a split), or the publisher's own files in D/NAME; `python -m vtg.inspect` lists them. What
has to come from elsewhere, videos above all, is listed at the end, with what to do.

--list, --check and --dry-run need no network. --check reads every file again. --from FOLDER or --from ADDRESS stands in
for the hub and GitHub: a mirror of your own. HF_ENDPOINT and HF_TOKEN (`hf auth login`) are as in Hugging Face's tools.

Exit code 0: all sets are whole. 1: one is not, or has to be got by hand. 2: wrong usage. 130: interrupted.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from vtg.console import stdout_may_close
from vtg.download.data_sets import SETS, chosen
from vtg.download.published_set import STAGES
from vtg.download.set_folder import DEFAULT_FOLDER, SetFolder, read_record
from vtg.errors import ConfigError, RunError

WORKERS = 8


def main(argv: list[str] | None = None) -> int:
    """Parses, downloads, prints; returns the exit code."""
    options = _parser().parse_args(argv)
    root = Path(options.data_dir)
    try:
        names = chosen([*options.names, *options.datasets], options.stage, include_eval=options.include_eval)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if wrong := _wrong_usage(options, names):
        print(f"error: {wrong}", file=sys.stderr)
        return 2
    try:
        if options.list or options.dry_run:
            return list_sets(names or list(SETS), root, room=options.dry_run, as_json=options.json)
        if options.check:
            return check_sets(names, root, as_json=options.json)
        return download_sets(names, root, options)
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except PermissionError as error:
        print(f"error: {error}; check --data-dir and its permissions", file=sys.stderr)
        return 1


def _wrong_usage(options: argparse.Namespace, names: Sequence[str]) -> str | None:
    if options.workers < 1:
        return f"--workers {options.workers}: must be at least 1"
    root = Path(options.data_dir).absolute()
    there = next(path for path in (root, *root.parents) if path.exists())
    if not there.is_dir():
        return f"--data-dir {options.data_dir}: {there} is a file; name a folder, which is made where there is none"
    if not (names or options.list or options.check):
        return "which data sets? Give names, or --stage; --list shows them all"
    if options.include_eval and options.stage is None:
        return "--include-eval adds to a stage; give --stage too, or --stage eval alone"
    return None


def list_sets(names: Sequence[str], root: Path, *, room: bool, as_json: bool) -> int:
    """Prints what is known of sets; with `room`, what downloading them takes."""
    from vtg.download.download_report import listed, listed_lines, size_text
    from vtg.download.fetching import free_bytes

    sets = listed(names, root)
    wanted = [one for one in sets if one["here"] != "whole" and not one["by_hand"]]
    needed, free = sum(one["bytes"] or 0 for one in wanted), free_bytes(root.absolute())
    unknown = sum(one["bytes"] is None for one in wanted)
    with stdout_may_close():
        if as_json:
            print(json.dumps({"sets": sets, "bytes": needed, "sets_of_unknown_size": unknown, "free_bytes": free}))
            return 0
        print("\n".join(listed_lines(sets)))
        if room:
            more = f", and {unknown} sets whose size the hub says when it is asked" if unknown else ""
            print(f"\nto download: {size_text(needed)}{more}; {size_text(free)} free at {root.absolute()}")
    return 0


def check_sets(names: Sequence[str], root: Path, *, as_json: bool) -> int:
    """Reads the files of downloaded sets again and prints what is wrong with them."""
    from vtg.download.download_report import size_text
    from vtg.progress_bar import ProgressBar, counted

    names = names or [name for name in SETS if (root / name).is_dir() and read_record(root / name) is not None]
    bar = ProgressBar(len(names), title="checking", unit="data set")
    faults = {name: SetFolder(root, name, SETS[name]).faults() for name in counted(names, bar)}
    with stdout_may_close():
        if as_json:
            print(json.dumps({"sets": [{"name": name, "faults": found} for name, found in faults.items()]}))
            return 1 if any(faults.values()) else 0
        for name, found in faults.items():
            record = None if found == ["is not downloaded"] else read_record(root / name)
            size = size_text(sum(file.size for file in record.files.values())) if record else ""
            print("\n".join(f"{name}: {fault}" for fault in found) if found else f"{name}: whole, {size}")
        if not faults:
            print(f"{root}: no downloaded data sets")
    return 1 if any(faults.values()) else 0


def download_sets(names: Sequence[str], root: Path, options: argparse.Namespace) -> int:
    """Downloads, with what it takes before and what became of it after."""
    from vtg.download.download_report import after_lines, before_lines, document, size_text
    from vtg.download.downloading import BY_HAND, THERE, WHOLE, Downloading, room_needed, survey
    from vtg.download.fetching import free_bytes
    from vtg.download.listing import place_of

    place = place_of(options.source)
    sets = survey(names, place, root, rows_only=options.rows_only, workers=options.workers)
    needed, free = room_needed(sets), free_bytes(root.absolute())
    for line in before_lines(sets, needed, free):
        print(line, file=sys.stderr)
    if needed > free:
        raise RunError(
            f"{root.absolute()}: {size_text(needed)} are needed, and {size_text(free)} are free; name another disk "
            "(--data-dir), fewer sets, or leave their videos out (--rows-only)"
        )
    downloading = Downloading(sets, workers=options.workers)
    downloading.run()
    with stdout_may_close():
        print(json.dumps(document(sets)) if options.json else "\n".join(after_lines(sets)))
    if downloading.interrupted:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    asked = {*options.names, *options.datasets}
    # A stage may hold sets that nobody can fetch: they are listed, and are no failure.
    fine = [one for one in sets if one.state in (WHOLE, THERE) or (one.state == BY_HAND and not asked)]
    return 0 if len(fine) == len(sets) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vtg.download", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="of data sets (--list), or of the hub: Molmo2-Cap")
    parser.add_argument("--datasets", nargs="+", default=[], metavar="NAME", help="the same, as an option")
    parser.add_argument("--stage", choices=[*STAGES, "all"], help="the sets of a stage of training; all: without eval")
    parser.add_argument("--include-eval", action="store_true", help="with --stage: the sets for evaluation as well")
    parser.add_argument("--list", action="store_true", help="show the sets; no network")
    parser.add_argument("--check", action="store_true", help="read what was downloaded again and check it; no network")
    parser.add_argument("--dry-run", action="store_true", help="show what would be downloaded; no network")
    parser.add_argument("--data-dir", default=DEFAULT_FOLDER, metavar="D", help=f"where to (default: {DEFAULT_FOLDER})")
    parser.add_argument("--rows-only", action="store_true", help="leave out videos, and archives of them")
    parser.add_argument("--workers", type=int, default=WORKERS, metavar="N", help=f"files at once (default: {WORKERS})")
    parser.add_argument("--from", dest="source", metavar="FOLDER|URL", help="in place of the hub and of GitHub")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())
