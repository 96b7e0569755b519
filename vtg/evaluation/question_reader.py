"""The prompts of an evaluation, read ahead by processes that stay for the next one."""

import signal
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby

import torch
from torch.utils.data import DataLoader, Dataset

from vtg.data.encoding import Features
from vtg.data.grounding_dataset import GroundingDataset
from vtg.data.skip_report import Skipped
from vtg.data.workers import worker_context
from vtg.errors import SampleError
from vtg.video.clip import Clip

Question = tuple[int, Features | Skipped]
"""A sample's index, and its encoded prompt or why there is none."""

Key = tuple[int, int, bool]
"""Which data set, which of its samples, and whether that is asked about another video."""


class Questions(Dataset[Question]):
    """The encoded prompts of several data sets, by `Key`."""

    def __init__(self, datasets: Sequence[GroundingDataset]) -> None:
        self.datasets = datasets

    def __getitem__(self, key: Key) -> Question:
        at, index, shuffled_videos = key
        dataset = self.datasets[at]
        sample = dataset.samples[index]
        try:
            clip = other_clip(dataset, index) if shuffled_videos else None
            return index, dataset.features(sample, clip)
        except SampleError as error:
            return index, Skipped(sample.place, str(error), sample.qid, sample.video)


class QuestionReader:
    """Reads the prompts of data sets, whichever is asked for, with workers that are started once.

    Where processes are not forked, starting one costs seconds of imports; and those that stay keep recent clips in
    memory, so a small validation set is decoded once.

    Args:
        datasets: all that will be asked for. They must not change afterwards: the workers have copies.
        num_workers: processes that read ahead; 0 for none. They start with the first question and end with this object.
    """

    def __init__(self, datasets: Iterable[GroundingDataset], *, num_workers: int = 0) -> None:
        self.datasets = list(datasets)
        self.num_workers = min(num_workers, sum(map(len, self.datasets)))
        self._keys: list[list[Key]] = []
        self._loader = DataLoader(
            Questions(self.datasets),
            batch_sampler=self._keys,
            collate_fn=list,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            multiprocessing_context=worker_context(self.num_workers),
            worker_init_fn=_leave_signals_to_the_run if self.num_workers else None,
            generator=torch.Generator(),  # nothing is drawn of what training goes on with
        )

    def read(
        self, dataset: GroundingDataset, indices: Iterable[int], *, most: int, shuffled_videos: bool = False
    ) -> Iterator[Question]:
        """In their order; those of a clip come from one worker, at most `most` at once.

        `dataset`: one of those that this reader was made with.
        """
        at = next(at for at, known in enumerate(self.datasets) if known is dataset)
        of_a_clip = (list(group) for _, group in groupby(indices, key=lambda index: dataset.samples[index].video))
        together = (group[start : start + most] for group in of_a_clip for start in range(0, len(group), most))
        self._keys[:] = [[(at, index, shuffled_videos) for index in group] for group in together]
        return chain.from_iterable(self._loader) if self._keys else iter(())


def other_clip(dataset: GroundingDataset, index: int) -> Clip:
    """The clip of the nearest later sample of another video."""
    own = dataset.samples[index].video
    for step in range(1, len(dataset)):
        other = dataset.samples[(index + step) % len(dataset)]
        if other.video != own:
            return dataset.clip(other)
    raise SampleError("the shuffled-video control needs at least two videos")


def _leave_signals_to_the_run(worker: int) -> None:
    """Ctrl-C reaches all processes of a terminal, Slurm's SIGUSR1 those of a step; a run may evaluate after it."""
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):  # Windows has no SIGUSR1
            signal.signal(getattr(signal, name), signal.SIG_IGN)
