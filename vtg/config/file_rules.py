"""Why a file cannot be read, or an output_dir be written to, said before anything takes time."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vtg.errors import ConfigError


def read_fault(path: str, *, absent: str = "check the path") -> str | None:
    """Why a file cannot be read, and what to do; None where it can be.

    Args:
        absent: what to do where there is none.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):
            open(path, "rb").close()
    except (FileNotFoundError, NotADirectoryError):
        return f"no such file (looked in {Path.cwd()}); {absent}"
    except OSError as error:
        return f"cannot be read ({error.strerror}); check its permissions and those of its folders"
    if stat.S_ISDIR(mode):
        return "is a folder; name a file in it"
    return None if stat.S_ISREG(mode) else "is a device or a pipe; name a file"


@contextmanager
def writing_to(output_dir: Path) -> Iterator[None]:
    """Around what is first written there: an OSError becomes a ConfigError that names the key."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"output_dir = {output_dir}: cannot be written to ({error.strerror}); choose another output_dir, or "
            "make room or give yourself the right to write there"
        ) from error


def make_output_dir(path: Path) -> None:
    """Makes the folder. Raises ConfigError where it cannot be made, or nothing can be written to it."""
    with writing_to(path):
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
