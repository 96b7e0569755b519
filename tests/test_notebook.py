"""The example notebook runs as it stands, in a kernel of its own; so does progress."""

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "examples" / "ground_a_video.ipynb"


@pytest.fixture(scope="module")
def run_cells(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[str]], list]:
    """The outputs of each of the cells, run in a new kernel."""

    def run(sources: list[str]) -> list:
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        folder = tmp_path_factory.mktemp("notebook")
        NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
        assert not list(folder.iterdir())
        return [cell.outputs for cell in book.cells]

    return run


@pytest.mark.slow
def test_the_example_notebook_runs_and_shows_the_moment(run_cells):
    book = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code), "outputs are stripped before a commit"
    outputs = run_cells([cell.source for cell in code])
    said = ["".join(output.get("text", "") for output in one if output.get("name") == "stdout") for one in outputs]
    assert re.match(r"\d+\.\d\d to \d+\.\d\d s of \d+\.\d\d s\n", said[2])
    for shown in (outputs[2], outputs[3]):
        assert "image/png" in shown[-1]["data"]
    errors = "".join(output.get("text", "") for one in outputs for output in one if output.get("name") == "stderr")
    assert "Traceback" not in errors and "Warning" not in errors


def test_progress_in_a_kernel_is_a_bar_that_is_drawn_anew(run_cells):
    bar = "with ProgressBar(3, title='making', unit='video', leave=True) as bar:\n    bar.update(2)\n    bar.update()"
    [outputs] = run_cells([f"from vtg.progress_bar import ProgressBar\n{bar}"])
    text = "".join(output.get("text", "") for output in outputs)
    # Of text, or where ipywidgets is installed a widget.
    is_widget = any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in outputs)
    assert is_widget or re.search(r"making: 100%\|█+\| 3/3 ", text)
    assert "Warning" not in text
