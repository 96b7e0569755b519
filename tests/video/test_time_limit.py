import ctypes
import subprocess
import sys

import pytest

from vtg.video.time_limit import within


def test_what_is_done_in_time_is_handed_on():
    assert within(60, divmod, 17, 5) == (3, 2)
    assert within(60, dict, at=None) == {"at": None}
    with pytest.raises(ZeroDivisionError):
        within(60, divmod, 17, 0)


def test_a_call_that_blocks_outside_python_is_left_behind():
    with pytest.raises(TimeoutError, match=r"^took longer than 0\.1 s$"):
        within(0.1, ctypes.CDLL(None).pause)
    assert within(60, divmod, 17, 5) == (3, 2)


def test_what_was_left_behind_does_not_hold_up_the_end_of_the_process():
    code = (
        "import ctypes, vtg.video.time_limit as limit\n"
        "try: limit.within(0.1, ctypes.CDLL(None).pause)\n"
        "except TimeoutError: print('left')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "left\n")
