"""Which tokens of a packed sequence a recurrent layer reads one after the other, and where it goes on from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True)
class TokenRun:
    """Tokens that are read from an empty state, and branches that each go on from the state they leave.

    Attributes:
        tokens: (P,) int64 indices into the packed sequence, P >= 1.
        branches: (n, R) int64 likewise, shorter ones filled up with -1 at their end; n is 0 without branches.
    """

    tokens: torch.Tensor
    branches: torch.Tensor


def runs_of(segments: torch.Tensor, branches: torch.Tensor) -> tuple[TokenRun, ...]:
    """The runs of a packed batch, by its `segments` and `branches` (L,): see `vtg.data.packing.pack`.

    Tokens of segment -1, those of padding frames, are in none of them.
    """
    device = segments.device
    # On the CPU: on a GPU every search for indices would wait for all work that was queued.
    segments, branches = segments.cpu(), branches.cpu()
    found = []
    for segment in range(int(segments.max()) + 1):
        own = segments == segment
        parts = [(own & (branches == branch)).nonzero()[:, 0] for branch in range(int(branches[own].max()) + 1)]
        found.append(TokenRun(parts[0].to(device), stacked(parts[1:]).to(device)))
    return tuple(found)


def stacked(branches: Sequence[torch.Tensor]) -> torch.Tensor:
    """(n, R) of the indices of n branches, as `TokenRun` has them."""
    if not branches:
        return torch.zeros(0, 0, dtype=torch.int64)
    return pad_sequence(list(branches), batch_first=True, padding_value=-1)
