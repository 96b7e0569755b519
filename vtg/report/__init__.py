"""The report of a run: one self-contained HTML page, made from the files in the run directory. Imports no torch."""

from collections.abc import Sequence
from pathlib import Path

from vtg.storage.atomic import write_text

REPORT = "report.html"


def report_sweep(run_dirs: Sequence[Path]) -> None:
    """Prints a table of the runs of a sweep, and writes a page that compares them as `report.html` beside them."""
    from vtg.report.html_page import comparison_page
    from vtg.report.run_reader import read_run
    from vtg.report.score_tables import comparison_text

    runs = [read_run(folder) for folder in run_dirs]
    page = run_dirs[0].parent / REPORT
    write_text(page, comparison_page(runs, folder=page.parent))
    print(f"\n{comparison_text(runs)}\n\n{page}")


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
