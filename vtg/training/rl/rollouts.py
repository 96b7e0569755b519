"""The endless stream of micro-batches that GRPO trains on, with decoded clips, and the position in it."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers.trainer_utils import seed_worker

from vtg.data.grounding_dataset import GroundingDataset, GroundingItem
from vtg.data.workers import worker_context

Plan = list[list[np.ndarray]]
"""Of one pass: rollouts, each of micro-batches (ranks, n) of sample indices; n is the same on every rank."""


@dataclass
class Rollout:
    """This rank's part of the prompts that are rolled out together.

    Attributes:
        indices: of the samples, a list for each micro-batch.
        items: what the data set made of them (`GroundingDataset`), alike.
        trained: how many of its micro-steps were handed out before (a run that resumes in the middle of it).
    """

    indices: list[list[int]]
    items: list[list[GroundingItem]]
    trained: int = 0


@dataclass(frozen=True)
class MicroStep:
    """One forward and backward: micro-batch `at` of a rollout."""

    rollout: Rollout
    at: int


@dataclass
class RolloutState:
    """The position in the stream: passes over the samples, rollouts of this pass, micro-steps of the next rollout."""

    passes: int = 0
    rollouts: int = 0
    micro_steps: int = 0
    chosen: list[int] | None = None
    """The samples of this pass, in the order in which the curriculum gave them."""


@dataclass
class RolloutLoader:
    """The micro-steps of one rank, decoding each clip once a rollout. Iterated again, it continues at `state`.

    Attributes:
        choose: pass → the samples it takes; asked when the pass begins, so the curriculum knows all that came before.
        plan: samples, pass, ranks → their rollouts on so many ranks.
        iterations: how often every rollout is trained on (`num_iterations` of GRPO).
        whole: samples of a pass that leaves none out; None: each once.
    """

    dataset: GroundingDataset
    choose: Callable[[int], Sequence[int]]
    plan: Callable[[Sequence[int], int, int], Plan]
    rank: int
    ranks: int
    iterations: int
    workers: int = 0
    prefetch: int | None = None
    pin_memory: bool = False
    whole: Sequence[int] | None = None
    state: RolloutState = field(default_factory=RolloutState)
    _stream: Iterator[MicroStep] | None = None

    @cached_property
    def micro_steps(self) -> int:
        """Of a pass over all samples, or `whole`. (The loader has no length: its stream has no end.)"""
        # Of all samples: how many the curriculum takes is known only when a pass begins.
        whole = range(len(self.dataset)) if self.whole is None else self.whole
        return self.iterations * sum(map(len, self.plan(whole, 0, self.ranks)))

    def __iter__(self) -> Iterator[MicroStep]:
        if self._stream is None:
            self._stream = self._steps()
        return self._stream

    def end(self) -> None:
        """Drops what was decoded ahead, and the workers that decode. Iterated again, it continues at `state`."""
        self._stream = None

    def set_epoch(self, epoch: int) -> None:
        """The stream counts its own passes."""

    def resume(
        self,
        state: RolloutState,
        *,
        ranks: int,
        plan: Callable[[Sequence[int], int, int], Plan] | None = None,
    ) -> None:
        """Resumes from a state that was saved with a world size of `ranks`, and under another `plan` if one is given.

        With another world size or plan, the rest of this pass is planned again, including the prompts of a rollout that
        was not trained to its end.
        """
        if (ranks != self.ranks or plan is not None) and state.chosen is not None:
            planned = (plan or self.plan)(state.chosen, state.passes, ranks)[: state.rollouts]
            trained = Counter(index for rollout in planned for batch in rollout for index in batch.ravel().tolist())
            # Counted, not a set: a plan may repeat samples to fill the last micro-batches.
            left = list((Counter(state.chosen) - trained).elements())
            state = RolloutState(state.passes, chosen=left) if left else RolloutState(state.passes + 1)
        self.state, self._stream = state, None

    def _steps(self) -> Iterator[MicroStep]:
        state = self.state
        while True:
            if state.chosen is None:
                state.chosen = list(self.choose(state.passes))
            rollouts = self.plan(state.chosen, state.passes, self.ranks)[state.rollouts :]
            self.dataset.set_epoch(state.passes)
            local = [[batch[self.rank].tolist() for batch in rollout] for rollout in rollouts]
            for indices, items in zip(local, self._decoded(local), strict=True):
                steps = len(indices) * self.iterations
                rollout = Rollout(indices, items, trained=state.micro_steps)
                for done in range(state.micro_steps, steps):
                    # Advanced before the yield: a checkpoint is written after this micro-step was trained.
                    state.micro_steps = done + 1
                    if state.micro_steps == steps:
                        state.rollouts, state.micro_steps = state.rollouts + 1, 0
                    yield MicroStep(rollout, done % len(indices))
            state.passes, state.rollouts, state.chosen = state.passes + 1, 0, None

    def _decoded(self, rollouts: list[list[list[int]]]) -> Iterator[list[list[GroundingItem]]]:
        """The items of every rollout; the clips of later ones are decoded meanwhile, where there are workers."""
        flat = [[index for batch in rollout for index in batch] for rollout in rollouts]
        seed = partial(seed_worker, num_workers=self.workers, rank=self.rank)
        loader = DataLoader(
            self.dataset,
            batch_sampler=flat,
            collate_fn=list,
            num_workers=self.workers,
            # One loader for the whole pass: workers start once, and decode the next rollout during this one.
            multiprocessing_context=worker_context(self.workers),
            prefetch_factor=self.prefetch if self.workers else None,
            worker_init_fn=seed if self.workers else None,
            pin_memory=self.pin_memory,
            generator=torch.Generator(),  # its own: starting it must not advance the one that samples completions
        )
        for rollout, items in zip(rollouts, loader, strict=True):
            left = iter(items)
            yield [[next(left) for _ in batch] for batch in rollout]
