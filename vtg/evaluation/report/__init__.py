"""The report of a run: one HTML page that needs nothing else, made from what is in its directory. No torch."""

from collections.abc import Sequence
from pathlib import Path

from vtg.output import write_text

REPORT = "report.html"


def summarise(run_dirs: Sequence[Path]) -> None:
    """Prints a table of the runs of a sweep, a row each, and writes `report.html` beside them."""
    from vtg.evaluation.report.page import comparison_page
    from vtg.evaluation.report.run_reader import read_run
    from vtg.evaluation.report.score_tables import summary

    runs = [read_run(folder) for folder in run_dirs]
    page = run_dirs[0].parent / REPORT
    write_text(page, comparison_page(runs))
    print(f"\n{summary(runs)}\n\n{page}")


def write_report(run_dir: Path) -> Path:
    """Writes `report.html` into the directory of a run, finished or not, and returns its path.

    Raises:
        ConfigError: for a folder that is no run.
    """
    from vtg.evaluation.report.page import run_page
    from vtg.evaluation.report.run_reader import read_run

    path = run_dir / REPORT
    write_text(path, run_page(read_run(run_dir)))
    return path
