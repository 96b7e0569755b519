"""Terms of the mixture in the form in which TRL calls rewards."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vtg.annotations.sample import Sample
from vtg.tasks.all_tasks import SPAN, Tasks
from vtg.tasks.answer import Answer
from vtg.tasks.span_task import SpanTask
from vtg.tasks.task import Reading
from vtg.training.rl.rewards.completion import Completion
from vtg.training.rl.rewards.mixture import Term


@dataclass(frozen=True, slots=True)
class RewardFunction:
    """A term as one of TRL's `reward_funcs`; its weight goes to `reward_weights`."""

    term: Term
    tasks: Tasks

    @property
    def __name__(self) -> str:
        return self.term.label  # TRL logs each function under its `__name__`

    def __call__(
        self,
        *,
        completions: Sequence[Any],
        sample: Sequence[Sample],
        skipped: Sequence[bool] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Unweighted rewards, one a completion: a text, or messages in chat form of which the last one counts. None,
        which TRL leaves out, for a sample of another task than spans, or whose own clip could not be shown.
        """
        rows = _shown_rows(completions, sample, skipped)
        return [None if row is None or row.target.task != SPAN else self._reward(text, row) for text, row in rows]

    def _reward(self, text: str, sample: Sample) -> float:
        answer = self.tasks.read(text, sample)
        assert isinstance(answer, Answer), sample
        return self.term(Completion(text, answer, sample.spans, sample.duration_s))


@dataclass(frozen=True, slots=True)
class TaskReward:
    """What samples of other tasks than spans are worth by their own task, as one of TRL's `reward_funcs`."""

    tasks: Tasks

    @property
    def __name__(self) -> str:
        return "task"

    def __call__(
        self,
        *,
        completions: Sequence[Any],
        sample: Sequence[Sample],
        skipped: Sequence[bool] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """As `RewardFunction`; None for a sample of spans."""
        rows = _shown_rows(completions, sample, skipped)
        return [None if row is None or row.target.task == SPAN else self._reward(text, row) for text, row in rows]

    def _reward(self, text: str, sample: Sample) -> float:
        read = self.tasks.read(text, sample)
        assert isinstance(read, Reading), sample
        return self.tasks.others[sample.target.task].reward(read, sample)


def reward_functions(terms: Iterable[Term], task: SpanTask) -> list[RewardFunction]:
    """One function a term, for TRL's `reward_funcs`; `reward_weights` is `[term.weight for term in terms]`."""
    tasks = Tasks(task)
    return [RewardFunction(term, tasks) for term in terms]


def _shown_rows(
    completions: Sequence[Any], samples: Sequence[Sample], skipped: Sequence[bool] | None
) -> Iterator[tuple[str, Sample | None]]:
    """The text of each completion and its sample; None for a sample whose own clip could not be shown."""
    # None, not 0: a clip that could not be decoded says nothing about the policy, and 0 would pull its group down.
    for completion, sample, is_hidden in zip(completions, samples, skipped or [False] * len(samples), strict=True):
        text = completion if isinstance(completion, str) else completion[-1]["content"]
        yield text, None if is_hidden else sample
