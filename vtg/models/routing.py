"""The loss that keeps the experts of a mixture evenly used, of routers' own logits.

    routers = Routers(model)                                  # a plain model or one with PEFT around it
    with routers.recorded() as logits:
        outputs = model(**inputs)
    loss = loss + coefficient * routers.balance(logits, token_weights(batch))

transformers adds it to a loss that it computes itself, which vtg never asks for, and reads an attention mask of two
axes only: a packed batch has one of four. So the routers' logits are read off by hooks, and weighed token by token.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from vtg.models.families import family_of


class Routers:
    """The routers of a model; forwards are recorded where `recorded` is entered, and only those with a gradient."""

    def __init__(self, model: Any) -> None:
        """`model`: of a mixture, with PEFT around it or not."""
        self._recording: list[torch.Tensor] | None = None
        family = family_of(model.config)
        for name, module in model.named_modules():
            if name.endswith(tuple(f".{one}" for one in family.routers)):
                module.register_forward_hook(self._record)
        text = model.config.get_text_config()
        self._experts, self._chosen = int(text.num_experts), int(text.num_experts_per_tok)

    @contextmanager
    def recorded(self) -> Iterator[list[torch.Tensor]]:
        """The logits (tokens, experts) of every router, in the order of the layers, once the block is left."""
        # Left before the backward pass: gradient checkpointing runs layers again there, which must not count twice.
        self._recording = found = []
        try:
            yield found
        finally:
            self._recording = None

    def balance(self, logits: Sequence[torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        """E · Σ f_e · P_e over the experts e (Switch Transformer, equations 4 to 6), as transformers has it: of all
        layers together, f_e is the share of tokens that e is chosen for, and P_e its mean probability.

        Args:
            logits: of `recorded`, T tokens each.
            weights: (T,) how often each token counts, 0 for padding.
        """
        weights = weights.float()
        chosen = logits[0].new_zeros(self._experts, dtype=torch.float32)
        probability = chosen
        for layer in logits:
            shares = layer.float().softmax(-1)
            best = shares.topk(self._chosen, dim=-1).indices
            chosen = chosen.scatter_add(0, best.flatten(), weights.repeat_interleave(self._chosen))
            probability = probability + weights @ shares
        count = (len(logits) * weights.sum()).clamp(min=1)
        return self._experts * ((chosen / count) * (probability / count)).sum()

    def _record(self, module: Any, args: Any, output: Any) -> None:
        if self._recording is not None and torch.is_grad_enabled():
            self._recording.append(output[0])


def token_weights(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(B · L,) how often each token of a batch counts: as often as conversations have it, and padding never.

    What several branches share (`vtg.data.packing.share`) counts once for each, so that batches that are packed, shared
    or padded have one loss.
    """
    if "segments" not in batch:
        return batch["attention_mask"].flatten()
    segments, branches = batch["segments"][0], batch["branches"][0]
    weights = (segments >= 0).long()
    for segment in segments.unique():
        own = segments == segment
        weights[own & (branches == 0)] *= max(1, int(branches[own].max()))
    return weights
