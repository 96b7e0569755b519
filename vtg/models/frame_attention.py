"""Attention of vision towers within frames, for all frames at once: a function of transformers'.

Vision towers of Qwen-VL see frames, or windows of them, one by one. transformers runs SDPA once for each: for 128 of
them in 24 layers 3,072 times; `frames_attention` runs it once for all of one size.
"""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

# To an implementation that has "flash" in its name towers hand all frames at once, with their bounds; for all others
# they cut them apart (transformers.utils.generic.is_flash_attention_requested).
FRAMES = "frames_flash"


def frames_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of (1, heads, L, d) → (1, L, heads, d) within frames that begin at `cu_seq_lens_q` (n + 1,).

    One call for all frames of a size. Where sizes alternate, as those of windows do, frames are put in their order.
    """
    assert cu_seq_lens_q is not None
    order, inverse, groups = _same_sizes(cu_seq_lens_q)
    # (L, heads, d), as the tower's projection made them: cut into frames without a copy.
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    if order is not None:
        query, key, value = (states[order] for states in (query, key, value))
    made, start = [], 0
    for size, count in groups:
        frames = [
            states[start : start + size * count].unflatten(0, (count, size)).transpose(1, 2)
            for states in (query, key, value)
        ]
        states = scaled_dot_product_attention(*frames, dropout_p=dropout, scale=scaling)
        made.append(states.transpose(1, 2).flatten(0, 1))
        start += size * count
    joined = made[0] if len(made) == 1 else torch.cat(made)
    return (joined if inverse is None else joined[inverse])[None], None


# By the tensor itself, which all layers of a tower are given: on a GPU each look at its numbers would wait for all work
# that was queued. Two, as windows take turns with whole frames.
@lru_cache(maxsize=2)
def _same_sizes(bounds: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, Sequence[tuple[int, int]]]:
    """The order (L,) in which frames that begin at `bounds` stand by size, its inverse, and (size, how many) of each.

    The orders are None where frames of a size stand together already.
    """
    starts = bounds.cpu().long()
    sizes = starts.diff()
    changes = int((sizes.diff() != 0).sum())
    groups = Counter(sizes.tolist())
    if changes < len(groups):
        return None, None, [(size, count) for size, count in groups.items() if size]
    frames = sizes.argsort(stable=True)
    tokens = torch.repeat_interleave(starts[:-1][frames], sizes[frames])
    within = torch.arange(len(tokens)) - torch.repeat_interleave(sizes[frames].cumsum(0) - sizes[frames], sizes[frames])
    order = tokens + within
    return order.to(bounds.device), order.argsort().to(bounds.device), sorted(groups.items())
