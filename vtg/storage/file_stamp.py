"""Size and modification time of files, which tell one version of a file from another without reading it."""

import os

# No file has a negative size.
ABSENT = (-1, -1)


def stamp_of(status: os.stat_result) -> tuple[int, int]:
    """Size in bytes and modification time in ns."""
    # ns, since two versions written within one second are told apart only so.
    return status.st_size, status.st_mtime_ns


def file_stamp(path: str) -> tuple[int, int]:
    """The stamp of a file; `ABSENT` where there is none."""
    try:
        return stamp_of(os.stat(path))
    except OSError:
        # No error here: reading the file says better what is wrong with it.
        return ABSENT
