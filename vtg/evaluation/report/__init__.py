"""The report of a run: one HTML page that needs nothing else, made from what is in its directory. No torch."""

from pathlib import Path

from vtg.evaluation.report.page import run_page
from vtg.evaluation.report.run import read_run
from vtg.output import write_text

REPORT = "report.html"


def write_report(run_dir: Path) -> Path:
    """Writes `report.html` into the directory of a run, finished or not, and returns its path.

    Raises:
        ConfigError: for a folder that is no run.
    """
    path = run_dir / REPORT
    write_text(path, run_page(read_run(run_dir)))
    return path
