"""The app as a program of its own, as a shell starts it."""

import os
import re
import signal
import tempfile
import time
from pathlib import Path

import forked


class App:
    """`python -m vtg.app` with what it is given, on a free port. `folder`: where it may put what it keeps."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        env = {**os.environ, "TMPDIR": str(folder)}
        self.program = forked.Program("vtg.app", *words, "--port", "0", env=env, before=_look_for_the_folder_anew)
        self.url = self._url()

    def _url(self) -> str:
        out = self.program.streams[0]
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.program.processes[0].is_alive():
            if out.is_file() and (found := re.search(r"http://\S+", out.read_text())):
                return found[0]
            time.sleep(0.05)
        raise AssertionError(self.program.streams[1].read_text())

    def end(self) -> tuple[int, str]:
        """Ctrl-C: the exit code, and what it wrote to stderr."""
        self.program.send_signal(signal.SIGINT)
        done = self.program.ended(timeout_s=60)
        return done.returncode, done.stderr


def _look_for_the_folder_anew() -> None:
    """What the process that is forked from has found as the folder of temporary files is not that of `TMPDIR` here."""
    tempfile.tempdir = None
