"""Transformer blocks over latents: attention in space and time, conditioned by adaptive layer norm that starts at zero.

Tokens are (B, T, S, W): T times, S places of the grid, W wide. A condition is (B, T, W), one for each time.
"""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

Over = Literal["space", "time", "space_time"]
"""What a token attends to: tokens of its own time, tokens of its own place, or all."""

MLP_RATIO = 4


class Attention(nn.Module):
    """Multi-head attention of tokens to themselves or to others."""

    def __init__(self, width: int, heads: int, over: Over) -> None:
        super().__init__()
        self.heads, self.over = heads, over
        self.queries = nn.Linear(width, width)
        self.keys_values = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor, others: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
        """(B, T, S, W) from tokens of that shape that attend to others.

        Args:
            others: (B, U, S, W); U = T where attention is over space.
            observed: (B, U) bool, which times of the others are attended to, at least one of each clip; over space all.
        """
        batch, times, places, width = tokens.shape
        queries, keys_values = self.queries(tokens), self.keys_values(others)
        # Other axes become part of the batch: attention is over the last but one.
        keep = None
        if self.over == "space":
            queries, keys_values = queries.flatten(0, 1), keys_values.flatten(0, 1)
        elif self.over == "time":
            queries, keys_values = (part.transpose(1, 2).flatten(0, 1) for part in (queries, keys_values))
            keep = observed.repeat_interleave(places, dim=0)
        else:
            queries, keys_values = queries.flatten(1, 2), keys_values.flatten(1, 2)
            keep = observed.repeat_interleave(places, dim=1)
        keys, values = keys_values.chunk(2, dim=-1)
        heads = [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (queries, keys, values)]
        found = functional.scaled_dot_product_attention(*heads, attn_mask=None if keep is None else keep[:, None, None])
        found = found.transpose(1, 2).flatten(2)
        if self.over == "time":
            return self.out(found.view(batch, places, times, width).transpose(1, 2))
        return self.out(found.view(batch, times, places, width))


class Block(nn.Module):
    """Attention among the tokens, to a context where there is one, and an MLP (Peebles and Xie, 2023, arXiv
    2212.09748: adaLN-Zero).

    Each part reads its tokens shifted and scaled by the condition, and is added times a gate. All of these start at
    zero, so that a block starts as the identity.
    """

    def __init__(self, width: int, heads: int, *, within: tuple[Over, ...], across: Over | None = None) -> None:
        super().__init__()
        self.within = nn.ModuleList(Attention(width, heads, over) for over in within)
        self.across = Attention(width, heads, across) if across is not None else None
        self.mlp = nn.Sequential(
            nn.Linear(width, MLP_RATIO * width), nn.GELU(approximate="tanh"), nn.Linear(MLP_RATIO * width, width)
        )
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        parts = len(within) + (across is not None) + 1
        self.modulation = nn.Linear(width, 3 * parts * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(
        self,
        tokens: torch.Tensor,
        condition: torch.Tensor,
        observed: torch.Tensor,
        context: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """The tokens, (B, T, S, W).

        Args:
            observed: (B, T) bool, which times are attended to.
            context: (B, U, S, W) tokens and (B, U) which of them are attended to.
        """
        modulation = self.modulation(functional.silu(condition)).unsqueeze(2)
        shifts_scales_gates = iter(modulation.split(3 * tokens.shape[-1], dim=-1))
        for attention in self.within:
            shift, scale, gate = next(shifts_scales_gates).chunk(3, dim=-1)
            read = self.norm(tokens) * (1 + scale) + shift
            tokens = tokens + gate * attention(read, read, observed)
        if self.across is not None:
            assert context is not None
            shift, scale, gate = next(shifts_scales_gates).chunk(3, dim=-1)
            tokens = tokens + gate * self.across(self.norm(tokens) * (1 + scale) + shift, *context)
        shift, scale, gate = next(shifts_scales_gates).chunk(3, dim=-1)
        return tokens + gate * self.mlp(self.norm(tokens) * (1 + scale) + shift)
