"""The processes of a run: which of them is the main one, and how they end, together or after one was lost."""

import errno
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vtg.data.lost_worker import worker_lost
from vtg.errors import JointRunError, RunError

RESUME_HINT = "the same command goes on from the last checkpoint"

# torch raises a plain RuntimeError for a lost peer: only its text tells it from a bug.
LOST_PEER = re.compile(
    r"gloo|NCCL|Connection (closed|reset) by peer|Socket Timeout|Broken pipe|store.*timed? ?out", re.I
)
"""In the message of torch.distributed where another process of the group has ended or stopped answering."""

# Other errors of the system, such as a missing file, can come from reading: they are raised as they are.
NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Errors of the system that only writing can have: full disk, quota, file size limit, read-only file system."""


def wait_for_all() -> None:
    """Returns once every process of the run has called it; at once where there is one process."""
    if in_process_group():
        import torch

        torch.distributed.barrier()


def in_process_group() -> bool:
    """Whether torch's process group was started."""
    if "torch" not in sys.modules:  # checks of settings must not import it, which takes seconds
        return False
    import torch

    return torch.distributed.is_available() and torch.distributed.is_initialized()


@contextmanager
def processes_exit_together() -> Iterator[None]:
    """Ends the process group when all ranks come to the end, or are stopped, together.

    An error of one rank alone is raised at once: the others would wait at a barrier that it never reaches.

    Raises:
        RunError: also in place of what torch and the system raise when a peer or a data worker is lost, or a disk is
            full: says so, and how to resume.
    """
    # A process that exits while its group is open can be aborted by the group's own threads.
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
    """Errors of lost processes and full disks as RunError; all others as they are."""
    try:
        yield
    except RunError:  # is a RuntimeError, and explained already
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
        explanation = _process_lost(str(error))
        if explanation is None:
            raise
        raise RunError(explanation) from error


def _process_lost(message: str) -> str | None:
    """The text of the RunError for a RuntimeError of torch about a lost data worker or peer; None for any other."""
    worker = worker_lost(message)
    if worker:
        return f"{worker}: lower trainer.dataloader_num_workers; {RESUME_HINT}"
    if in_process_group() and LOST_PEER.search(message):
        import torch

        first = next((line.strip() for line in message.splitlines() if LOST_PEER.search(line)), message)
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
