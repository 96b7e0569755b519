"""Questions that arrive while others are decoded, as the engine reads them."""

from collections.abc import Callable, Iterator
from typing import Any

from vtg.decoding.prompt_sequence import Prompt
from vtg.evaluation.answering import clip_prompts
from vtg.serving.asked_question import Job


class AllGone(Exception):
    """Nobody waits for what is being decoded any more."""


class Arrivals(Iterator[Prompt]):
    """The prompts of the questions that are ready, on the model's device, for one call of the engine.

    It ends where none is ready, and goes on when there are more: the engine asks again before every step.

    Args:
        next_ready: a question that is ready; None: there is none now.
        is_over: whether the server is to stop.

    Attributes:
        asked: number of a prompt → its question, and the number of its query there; as long as it is not answered.

    Raises:
        AllGone: when asked, where nobody waits for what was asked so far, or the server is to stop.
    """

    def __init__(self, model: Any, next_ready: Callable[[], Job | None], *, is_over: Callable[[], bool]) -> None:
        self.asked: dict[int, tuple[Job, int]] = {}
        self._model, self._next_ready, self._is_over, self._count = model, next_ready, is_over, 0
        self._entering: Job | None = None
        self._prompts: Iterator[tuple[int, Prompt]] = iter(())

    def __next__(self) -> Prompt:
        if self._is_over() or (self.asked and all(job.future.done() for job in self.jobs())):
            raise AllGone
        while self._entering is None or (found := next(self._prompts, None)) is None:
            self._entering = self._next_ready()
            if self._entering is None:
                raise StopIteration
            self._prompts = self._prompts_of(self._entering)
        at, prompt = found
        self.asked[self._count] = (self._entering, at)
        self._count += 1
        return prompt

    def jobs(self) -> set[Job]:
        """The questions that are not wholly answered."""
        entering = set() if self._entering is None else {self._entering}
        return {job for job, _ in self.asked.values()} | entering

    def _prompts_of(self, job: Job) -> Iterator[tuple[int, Prompt]]:
        assert job.clip is not None
        durations_s = [job.clip.duration_s] * len(job.prompts)
        for at, prompt in enumerate(clip_prompts(self._model, job.prompts, durations_s)):
            if job.future.done():  # nobody waits for the rest
                return
            yield at, prompt
