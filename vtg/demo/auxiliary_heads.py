"""Auxiliary losses of pretraining, on what the middle layers of the tiny model know."""

from typing import Any

import torch

from vtg.data.encoding import IGNORE_INDEX
from vtg.demo.pretrain_batches import KINDS, AuxiliaryTargets
from vtg.demo.world import COLORS, SHAPES


class AuxiliaryHeads(torch.nn.Module):
    """Linear heads on middle layers, and losses that teach each layer its part of the task.

    After layer 2 a vision token should hold its time, after layer 3 what appeared or vanished in it and, in an answer
    token, what is asked; in layer 4 the first attention head should look where that appeared, the second where it
    vanished. The heads are not part of the saved model.
    """

    def __init__(self, width: int, *, to_id: int) -> None:
        super().__init__()
        self.to_id = to_id
        self.second = torch.nn.Linear(width, 32)
        self.change = torch.nn.Linear(width, 2 * KINDS)
        self.color = torch.nn.Linear(width, len(COLORS))
        self.shape = torch.nn.Linear(width, len(SHAPES))

    def forward(
        self, out: Any, is_vision: torch.Tensor, labels: torch.Tensor, facts: AuxiliaryTargets
    ) -> list[torch.Tensor]:
        """Losses of time, change, colour, shape and looking. `labels` (B, L-1) are shifted, `is_vision` is (B, L)."""
        functional = torch.nn.functional
        answered = labels != IGNORE_INDEX
        first = answered & ~functional.pad(answered, (1, 0))[:, :-1]
        question = (first.flatten().cumsum(0) - 1).view_as(first)[answered]  # of every answer token, over the batch
        row, position = answered.nonzero(as_tuple=True)
        asked = out.hidden_states[3][row, position].float()
        # The tokens of the end stand behind the answer's " to".
        is_end = (labels[answered] == self.to_id).long().cumsum(0) > question
        kind = facts.colors[question] * len(SHAPES) + facts.shapes[question]
        changes = torch.zeros(*is_vision.shape, 2 * KINDS, device=labels.device)
        changes[is_vision] = facts.changes
        there = changes[row, :, kind + KINDS * is_end]
        looking = out.attentions[3][row, is_end.long(), position].float()
        mass = (looking * there).sum(-1)[there.any(-1)]
        # Weighted by 10: changes are rare, and their mean over all tokens and kinds would vanish beside the others.
        return [
            functional.cross_entropy(self.second(out.hidden_states[2][is_vision].float()), facts.seconds),
            10
            * functional.binary_cross_entropy_with_logits(
                self.change(out.hidden_states[3][is_vision].float()), facts.changes
            ),
            functional.cross_entropy(self.color(asked), facts.colors[question]),
            functional.cross_entropy(self.shape(asked), facts.shapes[question]),
            -(mass + 1e-6).log().mean(),
        ]
