"""Annotation files of JSON rows, as JSON Lines or as one array: what a path is read as that no other format claims."""

import errno
import os
import stat

from vtg.annotations.raw_rows import NotRows, opened
from vtg.storage.file_stamp import stamp_of


def single_file(path: str) -> list[tuple[str, int, int]]:
    """(true path, bytes, time in ns) of an annotation file that is one file.

    Raises:
        OSError: it cannot be opened, or is a pipe.
    """
    with opened(path) as file:
        status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise NotRows(errno.EINVAL, "is a pipe, which can be read only once; write its rows to a file", path)
    return [(os.path.realpath(path), *stamp_of(status))]
