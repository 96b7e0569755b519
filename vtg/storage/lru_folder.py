"""What folders bounded in bytes share: which files are the least recently used, and which were left by a dead process.

The time of last use is a file's modification time, since many file systems are mounted without access times.
"""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

# A temporary file not written to for this long was left by a process that died.
STALE_S = 3600.0


@dataclass(frozen=True, order=True, slots=True)
class Entry:
    """A file of the folder, ordered by its last use."""

    used_ns: int
    path: str
    size: int


def mark_used(path: str) -> None:
    """Makes a file the most recently used one; no error where it is gone, or somebody else's."""
    with suppress(OSError):
        os.utime(path)


def list_entries(
    folder: str, *, is_entry: Callable[[str], object], is_temporary: Callable[[str], object], follow_symlinks: bool
) -> tuple[list[Entry], int]:
    """The entries among the files of a folder, and the bytes of temporary files; removes stale temporary ones.

    Args:
        is_entry, is_temporary: tell by a file's name; others are somebody else's, and neither counted nor removed.
    """
    entries: list[Entry] = []
    temporary_bytes = 0
    with os.scandir(folder) as items:
        for item in items:
            # Removed or renamed by another process while it is looked at.
            with suppress(OSError):
                status = item.stat(follow_symlinks=follow_symlinks)
                if is_entry(item.name):
                    entries.append(Entry(status.st_mtime_ns, item.path, status.st_size))
                elif is_temporary(item.name):
                    if time.time() - status.st_mtime > STALE_S:
                        os.unlink(item.path)
                    else:
                        temporary_bytes += status.st_size
    return entries, temporary_bytes


def evict(entries: Iterable[Entry], *, excess: int, remove: Callable[[str], bool]) -> list[Entry]:
    """Removes the least recently used entries until `excess` bytes are freed; returns those removed.

    Args:
        remove: a file; False where it stays, because it is being read or cannot be removed.
    """
    evicted: list[Entry] = []
    for entry in sorted(entries):
        if excess <= 0:
            break
        if remove(entry.path):
            evicted.append(entry)
            excess -= entry.size
    return evicted
