"""One run at a time in a directory: who runs there, and whether they still do. Imports no torch.

The first process of a run holds a POSIX lock on `.lock`, which ends with the process, however that ends, and which
children do not inherit. Not every shared file system passes locks on to other machines, so `.running` tells who holds
it, and its time is renewed while they live: what another machine has not renewed for `STALE_S` is a run that ended.
(Two files, because closing any descriptor of a file gives up the process's lock on it.)
"""

import errno
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from vtg.errors import ConfigError
from vtg.output import is_running, write_json

if sys.platform == "win32":
    fcntl = None
else:
    import fcntl

LOCK_FILE, HOLDER_FILE = ".lock", ".running"

BEAT_S = 10.0
"""The holder renews the file's time this often."""

STALE_S = 60.0
"""A holder on another machine that does not renew it for so long is gone. Six beats: a process can be held up."""

LONG_AGO_S = 600.0
"""Not renewed for so long by this machine's clock: nobody waits to see whether it will be. Clocks differ by less."""

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What a file system says that has no locks."""


@contextmanager
def hold_run_lock(folder: Path) -> Iterator[None]:
    """Inside, this process is the only one of its kind in `folder`, which is made, and removed again if left empty.

    Raises:
        ConfigError: another process is in it: says its host, its number and since when.
        OSError: the folder cannot be written to.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    running = folder / HOLDER_FILE
    descriptor, has_locks = _locked(folder)
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(running, ended), daemon=True)
    try:
        _wait_for_another_machine(folder, has_locks=has_locks)
        write_json(running, _this_process())
        beating.start()
        try:
            yield
        finally:
            ended.set()
            beating.join()
            running.unlink(missing_ok=True)
    finally:
        (folder / LOCK_FILE).unlink(missing_ok=True)
        os.close(descriptor)
        if made and not any(folder.iterdir()):
            folder.rmdir()


def _locked(folder: Path) -> tuple[int, bool]:
    """An open descriptor of the lock file, and whether it is locked: the file system may have no locks."""
    path = folder / LOCK_FILE
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        has_locks = fcntl is not None
        try:
            if fcntl is not None:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(descriptor)
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    raise _in_use(folder) from None
                raise
            has_locks = False
        if path.exists() and os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return descriptor, has_locks
        os.close(descriptor)  # its holder ended, and removed it, between opening and locking


def _wait_for_another_machine(folder: Path, *, has_locks: bool) -> None:
    """Until it is clear that whoever is named in the folder runs no more.

    A lock that could be taken says so of the processes of this machine; where the file system has no locks, their
    number does.
    """
    holder = _holder(folder)
    if not holder or _is_earlier_start(holder):
        return
    if holder["host"] == socket.gethostname():
        if not has_locks and holder["pid"] != os.getpid() and is_running(holder["pid"]):
            raise _in_use(folder)
        return
    seen = _renewed(folder)
    if seen is None or time.time() - seen > LONG_AGO_S:
        return
    print(
        f"{folder}: process {holder['pid']} on {holder['host']} has left no word that it ended; waiting up to "
        f"{STALE_S:.0f} s for a sign of life",
        file=sys.stderr,
        flush=True,
    )
    until = time.monotonic() + STALE_S
    while time.monotonic() < until:
        time.sleep(1)
        if _renewed(folder) not in (seen, None):
            raise _in_use(folder)


def _is_earlier_start(holder: dict[str, Any]) -> bool:
    """Whether the holder was this Slurm job before it was requeued, which ended it."""
    mine = _this_process()
    return mine["slurm"] is not None and holder["slurm"] is not None and _requeued(holder["slurm"], mine["slurm"])


def _requeued(before: list[Any], now: list[Any]) -> bool:
    return before[0] == now[0] and before[1] < now[1]


def _beat(running: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT_S):
        with suppress(OSError):  # a file system that is away for a moment
            os.utime(running)


def _this_process() -> dict[str, Any]:
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    job = os.environ.get("SLURM_JOB_ID")
    slurm = None if job is None else [job, int(os.environ.get("SLURM_RESTART_COUNT") or 0)]
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": since, "slurm": slurm}


def _holder(folder: Path) -> dict[str, Any]:
    """Who is named in the folder; nobody where nothing is, or no such thing."""
    try:
        found = json.loads((folder / HOLDER_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    is_whole = isinstance(found, dict) and {"host", "pid", "since", "slurm"} <= found.keys()
    return found if is_whole else {}


def _renewed(folder: Path) -> float | None:
    """When the holder gave the last sign of life; opened, because NFS asks its server then. None where it is gone."""
    try:
        with (folder / HOLDER_FILE).open("rb") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return None


def _in_use(folder: Path) -> ConfigError:
    holder = _holder(folder)
    who = f"process {holder['pid']} on {holder['host']} since {holder['since']}" if holder else "another process"
    return ConfigError(
        f"output_dir = {folder}: a run is going on there ({who}); choose another run_name or output_dir, or wait until "
        "it ends"
    )
