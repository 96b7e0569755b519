"""Terms of the mixture in the form in which TRL calls rewards."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vtg.annotations.sample import Sample
from vtg.tasks.span_task import SpanTask
from vtg.training.rl.rewards.completion import Completion
from vtg.training.rl.rewards.mixture import Term


@dataclass(frozen=True, slots=True)
class RewardFunction:
    """A term as one of TRL's `reward_funcs`; its weight goes to `reward_weights`."""

    term: Term
    task: SpanTask

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
        which TRL leaves out, for a sample whose own clip could not be shown.
        """
        # None, not 0: a clip that could not be decoded says nothing about the policy, and 0 would pull its group down.
        hidden = skipped or [False] * len(sample)
        rows = zip(completions, sample, hidden, strict=True)
        return [None if is_hidden else self._reward(completion, row) for completion, row, is_hidden in rows]

    def _reward(self, completion: Any, sample: Sample) -> float:
        text = completion if isinstance(completion, str) else completion[-1]["content"]
        answer = self.task.parse(text, duration_s=sample.duration_s)
        return self.term(Completion(text, answer, sample.spans, sample.duration_s))


def reward_functions(terms: Iterable[Term], task: SpanTask) -> list[RewardFunction]:
    """One function a term, for TRL's `reward_funcs`; `reward_weights` is `[term.weight for term in terms]`."""
    return [RewardFunction(term, task) for term in terms]
