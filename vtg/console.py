"""What a terminal is shown: text in columns, on a standard output that may be unable to show a character and whose
reader may leave early.
"""

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines: the first column to the left, the others to the right, each as wide as its widest."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))])
        for first, *rest in rows
    ]


def print_any_text() -> None:
    """From here on printing what stdout's encoding cannot show, such as a file name that is no UTF-8, is no error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def stdout_may_close() -> Iterator[None]:
    """Printing inside is no error when the reader (head, less) has gone; nor is what stdout cannot show."""
    print_any_text()
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout at exit and would complain: point it elsewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
