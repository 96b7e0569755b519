"""Processes that read data ahead."""

import time
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

from vtg.data.workers import worker_context


class SlowAfterTheFirst(Dataset[int]):
    """Says in files what it begins and what it has done. Less than the 5 s that torch waits for a worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> int:
        (self.folder / f"{index} begun").touch()
        if index > 1:
            time.sleep(4)
            (self.folder / f"{index} done").touch()
        return index


@pytest.mark.parametrize("persistent", [False, True])
def test_a_loader_that_is_given_up_does_not_wait_for_what_its_workers_read_ahead(tmp_path, persistent):
    loader = DataLoader(
        SlowAfterTheFirst(tmp_path),
        batch_size=None,
        num_workers=2,
        persistent_workers=persistent,
        multiprocessing_context=worker_context(2),
    )
    batches = iter(loader)
    assert [int(next(batches)) for _ in range(2)] == [0, 1]
    while not all((tmp_path / f"{index} begun").exists() for index in (2, 3)):
        time.sleep(0.01)
    workers = list(batches._workers)
    del batches, loader
    assert not list(tmp_path.glob("* done"))
    assert [worker.exitcode for worker in workers] == [0, 0]  # not an error to those who watch over workers


def test_an_epoch_that_is_read_to_its_end_is_whole(tmp_path):
    context = worker_context(2)
    assert list(DataLoader(range(9), batch_size=None, num_workers=2, multiprocessing_context=context)) == list(range(9))
    assert worker_context(0) is None
