"""What every program of vtg does as it starts."""

import gc
import subprocess
import sys
from pathlib import Path

from vtg.entry import loading

ROOT = Path(__file__).parents[1]


def test_loading_says_so_and_leaves_what_is_made_to_no_collection(capsys, monkeypatch):
    made = []
    try:
        with loading("much"):
            assert not gc.isenabled()
            made.append([object()])
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0 and not any(found is made[0] for found in gc.get_objects())
    finally:
        gc.unfreeze()
    assert capsys.readouterr().err == "loading much\n"
    monkeypatch.setenv("RANK", "1")
    with loading("much"):
        pass
    gc.unfreeze()
    assert capsys.readouterr().err == ""


def test_collections_go_on_after_imports_that_fail():
    try:
        with loading("nothing"):
            raise ImportError
    except ImportError:
        assert gc.isenabled()
    finally:
        gc.unfreeze()


def test_bindings_find_nothing_left_at_the_end_of_a_process():
    """nanobind, with which triton is bound, prints what was never freed."""
    code = "from vtg.entry import loading\nwith loading('torch'):\n    import vtg.training.sft.run_sft\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "loading torch\n")
