"""One mask of all tokens by all tokens of a packed sequence, for attention that is told by a mask alone."""

import torch

MASK_ALIGNMENT = 16
"""Rows of a mask start at multiples of so many numbers: what PyTorch's memory-efficient kernel would copy it for."""


def whole_mask(
    segments: torch.Tensor,
    branches: torch.Tensor,
    *,
    dtype: torch.dtype,
    both_ways: torch.Tensor | None = None,
    rows: int = 512,
) -> torch.Tensor:
    """What a `Layout` says as one additive mask (1, 1, L, L).

    0 where query i attends to key j, else -inf: i attends to j if j <= i, both are of one segment, and j is of its
    shared part or of i's own branch; every token attends to itself.

    Args:
        segments, branches, both_ways: (L,), as `Layout.of` takes them.
        dtype: of the queries. (A bool mask takes half, but PyTorch makes a copy of it in their dtype in every layer,
            and without gradient checkpointing keeps all of them.)
        rows: how many are made at a time.
    """
    length = len(segments)
    room = -(-length // MASK_ALIGNMENT) * MASK_ALIGNMENT
    # In blocks: all L x L booleans at once would take as much again as the mask itself.
    mask = torch.zeros(length, room, dtype=dtype, device=segments.device)[:, :length]
    at = torch.arange(length, device=segments.device)
    keys = torch.where(segments < 0, -2, segments)  # equal to no query's
    for start in range(0, length, rows):
        here = slice(start, start + rows)
        allowed = segments[here, None] == keys
        allowed &= (branches == 0) | (branches[here, None] == branches)
        earlier = at <= at[here, None]
        allowed &= earlier if both_ways is None else earlier | (both_ways[here, None] & both_ways)
        allowed |= at == at[here, None]
        mask[here].masked_fill_(~allowed, -torch.inf)
    return mask[None, None]
