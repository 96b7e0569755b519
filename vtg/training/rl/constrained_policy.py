"""Log-probs of completions that were sampled under a mask (`task.constrained`): those of the distribution sampled from.

What is sampled is softmax(logits / temperature) over the tokens that the grammar allows, so this is the policy: its
log-prob is log p(token) - log Σ p(allowed), and the gradient of the second term belongs to that of the reward. It is
computed from the head's rows of the tokens that an answer can hold alone, in float32.
"""

from functools import wraps
from types import MethodType
from typing import Any

import torch
from trl.trainer.utils import maybe_gather_lm_head_ctx


def add_constrained_head(model: Any, *, temperature: float) -> None:
    """Lets a plain model, in place, take `columns` and `allowed` and return log-probs under that mask.

    `model(..., labels_at=(rows, C) int64, columns=(K,) int64, allowed=(rows, C, K) bool)` returns log-probs and
    entropies (rows, C) of the last C places of its hidden states; `labels_at` are the columns of the tokens. Without
    `columns` it is the model's own forward.
    """
    own = model.forward

    # `generate` looks at the names of its parameters for what to give it.
    @wraps(own)
    def forward(
        self: Any,
        *args: Any,
        columns: torch.Tensor | None = None,
        allowed: torch.Tensor | None = None,
        labels_at: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        if columns is None or allowed is None or labels_at is None:
            return own(*args, **kwargs)
        hidden = self.model(*args, use_cache=False, **kwargs).last_hidden_state
        if "shared_prompts" not in kwargs:  # shared, only the states that predict a completion are left
            hidden = hidden[:, -labels_at.shape[1] - 1 : -1]
        head = self.get_output_embeddings()
        with maybe_gather_lm_head_ctx(head.weight):
            logits = torch.nn.functional.linear(hidden, head.weight[columns])
        return masked_log_probs(logits.float() / temperature, labels_at, allowed)

    model.forward = MethodType(forward, model)


def masked_log_probs(
    logits: torch.Tensor, labels_at: torch.Tensor, allowed: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs of `labels_at` (..., ) and entropies under softmax of `logits` (..., K) over `allowed` (..., K) bool.

    0 where nothing is allowed.
    """
    nothing = ~allowed.any(-1)
    allowed = allowed | nothing[..., None]  # a softmax over nothing is NaN, and so would its gradient be
    log_probs = logits.masked_fill(~allowed, -torch.inf).log_softmax(-1)
    chosen = log_probs.gather(-1, labels_at[..., None])[..., 0]
    # 0 · -inf is NaN: what is not allowed has no part in the entropy.
    entropy = -(log_probs.exp() * log_probs.masked_fill(~allowed, 0.0)).sum(-1)
    return chosen.masked_fill(nothing, 0.0), entropy.masked_fill(nothing, 0.0)
