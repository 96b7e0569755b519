"""The lock of a run directory: one run at a time, across the machines of a shared file system. Imports no torch.

Rank 0 of a run holds a POSIX lock on `.lock`, which ends with the process, however that ends, and which children do
not inherit. Not every shared file system passes locks on to other machines, so `.running` names the holder and is a
heartbeat: a holder on another machine that has not renewed the file's time for `STALE_S` has ended.
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
from vtg.storage.atomic import is_running
from vtg.storage.json_files import write_json

if sys.platform == "win32":
    fcntl = None
else:
    import fcntl

# Two files, because closing any descriptor of a file gives up the process's POSIX lock on it.
LOCK_FILE, HOLDER_FILE = ".lock", ".running"

BEAT_S = 10.0
"""The holder renews its file's time this often."""

# Six heartbeats: a process can be held up, and a network file system shows a time with a delay.
STALE_S = 60.0
"""A holder on another machine that does not renew it for so long has ended."""

# So far off are no two machines' clocks: what is older needs no wait, and a requeued job starts at once.
LONG_AGO_S = 600.0
"""Not renewed for so long by this machine's clock: ended, without waiting for a heartbeat."""

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""Errors of a file system without locks."""


@contextmanager
def hold_run_lock(folder: Path) -> Iterator[None]:
    """Holds the lock of `folder` inside. The folder is made if need be, and removed again if left empty.

    Raises:
        ConfigError: another process holds it: names its host, its number and since when.
        OSError: the folder cannot be written to.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    running = folder / HOLDER_FILE
    descriptor, has_locks = _locked(folder)
    ended = threading.Event()
    # A thread, because a training step can take minutes.
    beating = threading.Thread(target=_beat, args=(running, ended), daemon=True)
    try:
        # Before the file of the other holder is overwritten.
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
    # A lock, and not the file's existence: it ends with a process that was killed.
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
    """Returns once the holder that the folder names has ended.

    For a holder on this machine the lock that could be taken proves it or, where the file system has no locks, that no
    process has its number.
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
    until = time.monotonic() + STALE_S  # this machine's clock alone: the other's may differ
    while time.monotonic() < until:
        time.sleep(1)
        if _renewed(folder) not in (seen, None):
            raise _in_use(folder)


def _is_earlier_start(holder: dict[str, Any]) -> bool:
    """Whether the holder was this Slurm job before it was requeued."""
    # Slurm ends a job before it requeues it, often on another machine: no reason to wait for a heartbeat.
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
    """The holder that the folder names; {} where the file is missing, or half written."""
    try:
        holder = json.loads((folder / HOLDER_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    is_whole = isinstance(holder, dict) and {"host", "pid", "since", "slurm"} <= holder.keys()
    return holder if is_whole else {}


def _renewed(folder: Path) -> float | None:
    """When the holder last renewed its file; None where the file is gone."""
    # Opened rather than asked for its status, which NFS answers from a cache; at an open it asks its server.
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
