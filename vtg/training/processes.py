"""The processes of a run: which of them writes, and how all of them end, whatever becomes of one."""

import errno
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vtg.data.lost_worker import worker_lost
from vtg.errors import JointRunError, RunError

RESUME_HINT = "the same command goes on from the last checkpoint"

LOST_PEER = re.compile(
    r"gloo|NCCL|Connection (closed|reset) by peer|Socket Timeout|Broken pipe|store.*timed? ?out", re.I
)
"""What torch.distributed says in a process whose peer has gone, or does not answer any more."""

NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Errors of the system that only a place to write to can have."""


def is_main_process() -> bool:
    """Whether this process writes: the first of all processes."""
    return int(os.environ.get("RANK", "0")) == 0


def wait_for_all() -> None:
    """Until every process of the run has come here."""
    if in_process_group():
        import torch

        torch.distributed.barrier()


def in_process_group() -> bool:
    """Whether a process group was started; there is none before torch was imported."""
    if "torch" not in sys.modules:
        return False
    import torch

    return torch.distributed.is_available() and torch.distributed.is_initialized()


@contextmanager
def processes_exit_together() -> Iterator[None]:
    """Ends the process group where all ranks come to the end, or are stopped, together; an error is not held up.

    A process that exits while its group is open can be aborted by the group's own threads.

    Raises:
        RunError: also in place of what torch and the system raise when another process or a data worker is gone, or a
            disk is full: says so, and how to go on.
    """
    try:
        with _explained_errors():
            yield
    except (SystemExit, JointRunError):
        _end_process_group()
        raise
    except RunError:
        if in_process_group():
            # The launcher ends this process as soon as another has ended: what went wrong is said first.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise
    _end_process_group()


@contextmanager
def _explained_errors() -> Iterator[None]:
    try:
        yield
    except RunError:
        raise
    except OSError as error:
        if error.errno not in NOT_WRITTEN:
            raise
        where = f"{error.filename}: " if error.filename else ""
        raise RunError(
            f"{where}{error.strerror}: files of the run cannot be written; make room, or choose another output_dir. "
            f"What was saved is whole; {RESUME_HINT}"
        ) from error
    except RuntimeError as error:
        found = _process_lost(str(error))
        if found is None:
            raise
        raise RunError(found) from error


def _process_lost(said: str) -> str | None:
    """What to tell of a RuntimeError of torch that is about another process; None of any other."""
    worker = worker_lost(said)
    if worker:
        return f"{worker}: lower trainer.dataloader_num_workers; {RESUME_HINT}"
    if in_process_group() and LOST_PEER.search(said):
        import torch

        first = next((line.strip() for line in said.splitlines() if LOST_PEER.search(line)), said)
        return (
            f"rank {torch.distributed.get_rank()}: another process of this run has ended, or does not answer "
            f"({first[:200]})\nWhat it said stands in its own output; if it said nothing, it was killed, as the system "
            f"does when memory runs out (see dmesg). {RESUME_HINT[0].upper()}{RESUME_HINT[1:]}"
        )
    return None


def _end_process_group() -> None:
    wait_for_all()
    if in_process_group():
        import torch

        torch.distributed.destroy_process_group()
