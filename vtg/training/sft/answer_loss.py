"""The loss on the tokens of answers: each token's, weighed, so that a step's sum is a mean over all of them."""

import torch
from torch.nn.functional import cross_entropy

from vtg.config.loss_settings import LossConfig
from vtg.data.encoding import IGNORE_INDEX


def answer_weights(labels: torch.Tensor, how: str) -> torch.Tensor:
    """How much each token weighs, (B, L) float32, 0 where there is no label.

    Args:
        labels: (B, L); each unbroken run of labels in a row is an answer: before every answer stands its prompt.
        how: `loss.token_weights`.
    """
    has_label = labels != IGNORE_INDEX
    if how == "mean":
        return has_label.float()
    begins = has_label & ~torch.nn.functional.pad(has_label, (1, 0))[:, :-1]
    answer = begins.flatten().cumsum(0).view_as(labels)  # counted from 1
    tokens = torch.bincount(answer[has_label], minlength=int(begins.sum()) + 1)
    return torch.where(has_label, tokens[answer].clamp(min=1).float().rsqrt(), 0.0)


class AnswerLoss:
    """Sums over the tokens of answers, by the settings of `loss`."""

    def __init__(self, config: LossConfig) -> None:
        self.config = config

    def items(self, labels: torch.Tensor) -> torch.Tensor:
        """What the tokens of a batch, labels (B, L), weigh together; sums of losses are divided by it."""
        return answer_weights(labels[:, 1:], self.config.token_weights).sum()

    def __call__(
        self, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, *, label_smoothing: float
    ) -> torch.Tensor:
        """The weighed sum of the tokens' losses, a scalar; 0 without tokens, and it has a gradient still.

        Args:
            logits: (A, V) float32 of the A answer tokens alone.
            targets: (A,) int64.
            weights: (A,) of `answer_weights`.
        """
        each = cross_entropy(logits, targets, reduction="none", label_smoothing=label_smoothing)
        return (weights * each).sum()
