"""Which clips make an optimizer step, and which of them each process has.

The order is a function of seed and epoch. A step takes the next clips of it, so many in all, and deals them out among
processes and micro-batches. What a step learns is therefore the same with any number of processes, and the number of
steps says all of how far training has come.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import DataLoader, Sampler

from vtg.training.latents.clip_dataset import ClipDataset


@dataclass(frozen=True)
class StepShape:
    """How a step is dealt out: `batch_size` clips to each of `ranks` processes, `accumulation` times."""

    batch_size: int
    accumulation: int
    ranks: int

    @property
    def clips(self) -> int:
        """Clips of a step."""
        return self.batch_size * self.accumulation * self.ranks


class ClipBatches(Sampler[list[int]]):
    """One process's batches of an epoch: lists of indices, some of them empty where a last step has few clips left."""

    def __init__(self, dataset: ClipDataset, shape: StepShape, *, rank: int, seed: int) -> None:
        self.dataset, self.shape, self.rank, self.seed, self.epoch = dataset, shape, rank, seed, 0

    @property
    def steps(self) -> int:
        """Optimizer steps of an epoch."""
        return -(-len(self.dataset) // self.shape.clips)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch whose batches come next, also for the data set."""
        self.epoch = epoch
        self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        # Whole steps, however few clips the last one has: the Trainer would make an update of every remainder.
        return self.steps * self.shape.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        # Over all clips and then dealt out: ranks that drew for themselves would train some twice, others never.
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.dataset))
        shape = self.shape
        for step in range(self.steps):
            clips = order[step * shape.clips : (step + 1) * shape.clips]
            # As even as can be: at the end of an epoch no process waits for one that has all that is left.
            parts = np.array_split(clips, shape.accumulation * shape.ranks)
            for micro in range(shape.accumulation):
                yield parts[micro * shape.ranks + self.rank].tolist()


class ClipLoader(DataLoader):
    """A DataLoader over `ClipBatches` that passes the epoch on to them."""

    def set_epoch(self, epoch: int) -> None:
        assert isinstance(self.batch_sampler, ClipBatches)
        self.batch_sampler.set_epoch(epoch)
