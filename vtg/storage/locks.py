"""File locks (flock), which end with the process that holds them, however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def locked(file: int, *, shared: bool = False, wait: bool = True) -> Iterator[bool]:
    """Locks an open file inside; yields False, without the lock, where another holds it and `wait` is off.

    Args:
        file: its descriptor. What was written to a buffer of it must be flushed before the block ends.
        shared: others may hold it too, if they share it as well.

    Raises:
        OSError: the file system has no locks.
    """
    mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(file, mode | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        # By hand: a child forked meanwhile holds a copy, and closing this one would not free the lock.
        fcntl.flock(file, fcntl.LOCK_UN)


@contextmanager
def one_at_a_time(path: Path, *, remove: bool = False) -> Iterator[OSError | None]:
    """One thread of one process inside, by the lock of a file that is made; where there are no locks, all at once.

    Yields the error of a file system without locks, None with the lock. So it is for work that is only wasted when it
    is done twice.

    Args:
        remove: the lock file at the end; only where nobody locks it once the work is done, since who waits has another
            file than who comes later.
    """
    with path.open("a") as file, ExitStack() as stack:
        error: OSError | None = None
        try:
            stack.enter_context(locked(file.fileno()))
        except OSError as failure:
            error = failure
        try:
            yield error
        finally:
            if remove:
                path.unlink(missing_ok=True)


def remove_unless_locked(path: str) -> bool:
    """Removes a file on which nobody holds a lock, as its readers do; whether it did."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        with locked(file, wait=False) as is_mine:
            # Another may have removed it meanwhile, and given its name to a file that somebody reads by now.
            if is_mine and is_named(file, path):
                os.unlink(path)
                return True
            return False
    except OSError:  # no locks there, or removed by another process
        return False
    finally:
        os.close(file)


def is_named(file: int, path: str) -> bool:
    """Whether an open file is the one under this name."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except OSError:
        return False
