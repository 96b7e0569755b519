"""Processes that read data ahead of a DataLoader."""

import multiprocessing
from typing import Any

_METHOD = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
_CONTEXT: Any = multiprocessing.get_context(_METHOD)


class Worker(_CONTEXT.Process):
    """A data worker that ends as soon as its loader waits for it to end.

    A loader waits when nobody wants what it reads any more, up to 5 s for each of its workers: for as long as these
    decode clips for batches that will never be trained or answered.
    """

    def join(self, timeout: float | None = None) -> None:
        self.terminate()
        super().join(timeout)


class WorkerContext(type(_CONTEXT)):
    """What a DataLoader is to start its workers with."""

    Process = Worker


def worker_context(num_workers: int) -> WorkerContext | None:
    """`multiprocessing_context` of a DataLoader with so many workers; it wants none for none."""
    return WorkerContext() if num_workers else None
