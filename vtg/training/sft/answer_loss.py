"""The loss on the tokens of answers: each token's, weighed, so that a step's sum is a mean over all of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch.nn.functional import cross_entropy, pad, smooth_l1_loss

from vtg.config.loss_settings import LossConfig
from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import IGNORE_INDEX
from vtg.data.training_collator import LabelledAnswer
from vtg.tasks.all_tasks import TASKS
from vtg.training.sft.time_targets import TimeTargets
from vtg.training.sft.written_times import TimeReader

# In lengths of the clip. Smooth L1 is quadratic below it: a tenth is where an error begins to cost tIoU in earnest.
SMOOTH_BELOW = 0.1

# Of 4 / sqrt(n), as Molmo2 weighs answers by their length: it sets them against the fixed weights of other tasks.
LENGTH_SCALE = 4.0

TIME_TERMS = ("soft_time", "expected_time_weight", "boundary_weight")
"""Settings of the terms that look at an answer's times."""


def answer_weights(labels: torch.Tensor, how: str, fixed: Sequence[float | None] = ()) -> torch.Tensor:
    """How much each token weighs, (B, L) float32, 0 where there is no label.

    Args:
        labels: (B, L); each unbroken run of labels in a row is an answer: before every answer stands its prompt.
        how: `loss.token_weights`.
        fixed: with `by_task`, of each answer in its order what a token of it weighs; None: by its length.
    """
    has_label = labels != IGNORE_INDEX
    if how == "mean":
        return has_label.float()
    begins = has_label & ~pad(has_label, (1, 0))[:, :-1]
    answer = begins.flatten().cumsum(0).view_as(labels)  # counted from 1
    tokens = torch.bincount(answer[has_label], minlength=int(begins.sum()) + 1)
    each = tokens.clamp(min=1).float().rsqrt()  # of answers; the first is of what is none
    if how == "by_task":
        own = [math.nan, *(math.nan if weight is None else weight for weight in fixed)]
        known = torch.tensor(own, device=labels.device)
        each = torch.where(known.isnan(), LENGTH_SCALE * each, known)
    return torch.where(has_label, each[answer], 0.0)


@dataclass(frozen=True, slots=True)
class AnswerTokens:
    """The A tokens of a batch's answers, with what is compared with the model.

    Attributes:
        targets: (A,) int64.
        weights: (A,) float32 of `answer_weights`.
        times: of the loss's `TimeReader`, None where no term looks at times.
    """

    targets: torch.Tensor
    weights: torch.Tensor
    times: TimeTargets | None = None


@dataclass(frozen=True, slots=True)
class AnswerLoss:
    """Sums over the tokens of answers, by the settings of `loss`.

    Attributes:
        reader: finds the times of answers; None where no term looks at them.
    """

    config: LossConfig
    reader: TimeReader | None

    @classmethod
    def of(cls, config: LossConfig, task: TaskConfig, tokenizer: Any) -> Self:
        """Raises ConfigError where a term needs times as tokens that the form of answer or the tokenizer has not."""
        on = [key for key in TIME_TERMS if getattr(config, key)]
        if not on:
            return cls(config, None)
        return cls(config, TimeReader.of(task, tokenizer, setting=f"loss.{on[0]} = {getattr(config, on[0])}"))

    def weights(self, labels: torch.Tensor, answers: Sequence[LabelledAnswer]) -> torch.Tensor:
        """What each token of labels (B, L), whose answers are `answers`, weighs: (B, L) float32."""
        settings = {"caption": self.config.caption_weight, "point": self.config.point_weight, None: None}
        by_name = {name: settings[task.weighed_as] for name, task in TASKS.items()}
        return answer_weights(labels, self.config.token_weights, [by_name.get(answer.task) for answer in answers])

    def items(self, labels: torch.Tensor, answers: Sequence[LabelledAnswer]) -> torch.Tensor:
        """What the tokens of a batch, labels (B, L), weigh together; sums of losses are divided by it."""
        return self.weights(labels[:, 1:], answers).sum()

    def __call__(
        self, logits: torch.Tensor, tokens: AnswerTokens, *, label_smoothing: float = 0.0
    ) -> dict[str, torch.Tensor]:
        """The terms, scalars whose sum is the loss; 0 without tokens, and then with a gradient still.

        Args:
            logits: (A, V) float32 of the answer tokens alone.
            label_smoothing: `loss.label_smoothing`, or the Trainer's own.
        """
        each = cross_entropy(logits, tokens.targets, reduction="none", label_smoothing=label_smoothing)
        terms = {"cross_entropy": (tokens.weights * each).sum()}
        times = tokens.times
        if times is None:
            return terms
        # (T, C), looked up once: the gradient of each look is as large as all logits.
        chosen = logits[times.rows[:, None], times.candidates]
        weights = tokens.weights[times.rows]
        if self.config.soft_time:
            # Cross-entropies of one distribution differ by their targets' logits alone: its normaliser is the same.
            hard = each[times.rows]
            written = chosen.gather(1, times.written[:, None])[:, 0]
            soft = hard + (1 - label_smoothing) * (written - (times.shares * chosen).sum(1))
            terms["soft_time"] = self.config.soft_time * (weights * soft).sum()
            terms["cross_entropy"] = terms["cross_entropy"] - self.config.soft_time * (weights * hard).sum()
        if self.config.expected_time_weight or self.config.boundary_weight:
            terms |= self._distances(chosen, times, weights)
        return terms

    def _distances(self, chosen: torch.Tensor, times: TimeTargets, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        """The terms on expected times: each time, and each moment, counts as one token of its answer does."""
        expected = expected_times(chosen, times)
        of_time = weights.new_zeros(len(times.true)).scatter(0, times.time_of, weights)
        moments = len(times.true) // 2, 2
        terms = {}
        if weight := self.config.expected_time_weight:
            distance = smooth_l1_loss(expected, times.true.to(expected.dtype), reduction="none", beta=SMOOTH_BELOW)
            terms["expected_time"] = weight * (of_time * distance).sum()
        if weight := self.config.boundary_weight:
            overlap = generalised_iou(expected.view(moments), times.true.to(expected.dtype).view(moments))
            terms["boundary"] = weight * (of_time[1::2] * (1 - overlap)).sum()
        return terms


def expected_times(chosen: torch.Tensor, times: TimeTargets) -> torch.Tensor:
    """The expected times (N,), in lengths of their clips, of logits (T, C) of the candidates.

    Over temporal tokens that is the mean of a distribution over times. In digits it is the sum of the mean digits, each
    given the true ones before it, times what a digit's place is worth.
    """
    places = times.places[times.counts].to(chosen.dtype)
    means = (chosen[times.counts, : places.shape[1]].softmax(1) * places).sum(1)
    return times.added.to(chosen.dtype).index_add(0, times.time_of[times.counts], means)


def generalised_iou(expected: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """GIoU (N,) of moments (N, 2), the true ones not empty: -1 to 1, and under 0 where they do not meet.

    On a line GIoU (Rezatofighi et al., 2019) is one quotient: the overlap, or less the gap, over what both span. It has
    a gradient everywhere, and so it has for an expected end before the expected start.
    """
    (start, end), (true_start, true_end) = expected.unbind(1), true.unbind(1)
    overlap = torch.minimum(end, true_end) - torch.maximum(start, true_start)
    return overlap / (torch.maximum(end, true_end) - torch.minimum(start, true_start))
