"""The prompts of an evaluation, read ahead by processes that stay for the next one."""

import signal
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Dataset

from vtg.data.encoding import Features
from vtg.data.grounding_dataset import GroundingDataset
from vtg.data.skip_report import Skipped
from vtg.data.workers import worker_context
from vtg.errors import SampleError
from vtg.evaluation.question_plan import ClipQuestions

MOST_AT_ONCE = 64
"""Questions of a clip that are read together: some clips have hundreds, and the first need not wait for the last."""

Question = tuple[int, Features | Skipped]
"""A sample's index, and its encoded prompt or why there is none."""

Key = tuple[int, int, int]
"""Which data set, the sample whose query is asked, and the one whose clip it is asked about."""


class Questions(Dataset[Question]):
    """The encoded prompts of several data sets, those about one clip together."""

    def __init__(self, datasets: Sequence[GroundingDataset]) -> None:
        self.datasets = datasets

    def __getitems__(self, keys: Sequence[Key]) -> list[Question]:
        """The questions of keys with one clip, all of which have the same pixels. A DataLoader calls it."""
        at, _, shown = keys[0]
        dataset, asked = self.datasets[at], [index for _, index, _ in keys]
        samples = [dataset.samples[index] for index in asked]
        made: Sequence[Features | SampleError]
        try:
            made = dataset.questions(samples, dataset.clip(dataset.samples[shown]))
        except SampleError as error:  # the clip cannot be read
            made = [error] * len(asked)
        return [
            (index, Skipped(sample.place, str(one), sample.qid, sample.video) if isinstance(one, SampleError) else one)
            for index, sample, one in zip(asked, samples, made, strict=True)
        ]


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

    def read(self, dataset: GroundingDataset, questions: Iterable[ClipQuestions]) -> Iterator[list[Question]]:
        """The prompts about one clip after the other, in their order; at most `MOST_AT_ONCE` of a clip together.

        `dataset`: one of those that this reader was made with.
        """
        at = next(at for at, known in enumerate(self.datasets) if known is dataset)
        self._keys[:] = [
            [(at, index, one.clip) for index in one.asked[start : start + MOST_AT_ONCE]]
            for one in questions
            for start in range(0, len(one.asked), MOST_AT_ONCE)
        ]
        return iter(self._loader) if self._keys else iter(())


def _leave_signals_to_the_run(worker: int) -> None:
    """Ctrl-C reaches all processes of a terminal, Slurm's SIGUSR1 those of a step; a run may evaluate after it."""
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):  # Windows has no SIGUSR1
            signal.signal(getattr(signal, name), signal.SIG_IGN)
