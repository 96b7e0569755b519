"""The report of a run: one self-contained HTML page, made from the files in the run directory. Imports no torch."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from vtg.config.sweep import SweptRun
from vtg.errors import ConfigError
from vtg.storage.atomic import write_text

REPORT = "report.html"


def report_sweep(swept: Sequence[SweptRun]) -> None:
    """Prints a table of the jobs of a sweep, and writes a page that compares their runs, `report.html` beside them."""
    from vtg.report.html_page import comparison_page
    from vtg.report.run_reader import read_run
    from vtg.report.sweep_table import sweep_text

    runs = {}
    for job in swept:
        with suppress(ConfigError):  # a job that failed before it wrote anything
            runs[job.folder] = read_run(job.folder)
    print(f"\n{sweep_text(swept, runs)}")
    if len(runs) > 1:
        page = swept[0].folder.parent / REPORT
        write_text(page, comparison_page(list(runs.values()), folder=page.parent))
        print(f"\n{page}")


def write_report(run_dir: Path, *, frames: bool = True) -> Path:
    """Writes `report.html` into the directory of a run, finished or not, and returns its path.

    `frames`: with film strips of what the model saw, which takes decoding some clips again.

    Raises:
        ConfigError: the folder is no run directory.
    """
    from vtg.report.html_page import run_page
    from vtg.report.run_reader import read_run

    path = run_dir / REPORT
    write_text(path, run_page(read_run(run_dir), frames=frames))
    return path
