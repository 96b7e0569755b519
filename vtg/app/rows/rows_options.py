"""The options of `python -m vtg.app` that name rows to look at and to write."""

import argparse

from vtg.app.rows.opened_rows import open_rows
from vtg.app.rows.row_store import RowStore
from vtg.errors import ConfigError


def add_rows_options(parser: argparse.ArgumentParser) -> None:
    """Adds what `rows_of` reads."""
    group = parser.add_argument_group(
        "rows",
        "annotation files looked through, corrected and written; no model is loaded for that unless one is named",
    )
    add = group.add_argument
    add("--rows", nargs="+", default=[], metavar="FILE", help="annotation files, of any format that vtg.validate reads")
    add(
        "--annotate",
        nargs="+",
        default=[],
        metavar="VIDEO|FOLDER",
        help="videos, or folders of them, to write rows for: each gets an open one where no row names it",
    )
    add("--video-dir", metavar="D", help="where relative videos are (default: the folder of --annotate)")
    add("--predictions", metavar="FILE", help="predictions.jsonl of a run, or rows of vtg.annotate: shown and accepted")
    add(
        "--save-as",
        metavar="OUT",
        help="what is written (default: FILE.edited.jsonl, or annotations.jsonl beside the videos); OUT.journal keeps "
        "every edit, and the next start goes on from it",
    )
    add("--overwrite", action="store_true", help="OUT may exist, or be FILE itself, which is kept as FILE.original")


def rows_of(options: argparse.Namespace) -> RowStore | None:
    """The rows that the options name; None where they name none.

    Raises:
        ConfigError: they cannot be read, or would overwrite something; or an option is of rows, and there are none.
    """
    if options.rows or options.annotate:
        return open_rows(
            options.rows,
            annotate=options.annotate,
            video_dir=options.video_dir,
            predictions=options.predictions,
            save_as=options.save_as,
            overwrite=options.overwrite,
        )
    for name in ("video_dir", "predictions", "save_as", "overwrite"):
        if getattr(options, name):
            raise ConfigError(f"--{name.replace('_', '-')} is of rows: give --rows FILE or --annotate FOLDER too")
    return None
