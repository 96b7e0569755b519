"""Completions of a prompt as a sequence holds them: the tokens that several begin with once, or each by itself.

    tree = CompletionTree.of(last, completions, lengths, shared=True)

Short answers of one form ("From 3.2 to 7.8 seconds.") begin alike: sampled under one prompt, half of their tokens or
more are those of another. Standing once, they cost once, and their gradient is the sum of what all need.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

# What no token has: where a completion has ended.
_END = -1


@dataclass(frozen=True)
class CompletionTree:
    """What n completions add to the sequence of their prompt, in T tokens: its last one, and theirs but the last.

    Attributes:
        ids: (T,) int64, part by part; each part comes before those that go on from it, and these right behind it.
        depths: (T,) int64: how far each is behind the prompt's last token, which has 0.
        lengths: tokens of each part.
        parents: of each part the one that it goes on from; -1: the prompt.
        places: (n, R) int64: which of the T the token of a completion is predicted from; where it has none, any.
    """

    ids: torch.Tensor
    depths: torch.Tensor
    lengths: tuple[int, ...]
    parents: tuple[int, ...]
    places: torch.Tensor

    @classmethod
    def of(cls, last: torch.Tensor, completions: torch.Tensor, lengths: Sequence[int], *, shared: bool) -> Self:
        """Of completions (n, R) int64 with padding behind their `lengths`, after the prompt's `last` token (1,); all
        on the CPU.

        Args:
            shared: what several begin with stands once; else each is a part of its own. One of no tokens is in none.
        """
        rows = np.full((len(completions), completions.shape[1] + 1), _END)
        rows[:, 0], rows[:, 1:-1] = int(last), completions[:, :-1]
        rows[np.arange(rows.shape[1]) >= np.asarray(lengths)[:, None]] = _END
        builder = _Builder(rows)
        there = [row for row, length in enumerate(lengths) if length]
        for group in [there] if shared and there else [[row] for row in there]:
            builder.grow(group, start=0, parent=-1)
        return cls(
            ids=torch.from_numpy(np.concatenate([*builder.ids, np.empty(0, np.int64)])),
            depths=torch.from_numpy(np.concatenate([*builder.depths, np.empty(0, np.int64)])),
            lengths=tuple(map(len, builder.ids)),
            parents=tuple(builder.parents),
            places=torch.from_numpy(builder.places[:, :-1]),
        )

    def to(self, device: torch.device) -> Self:
        """The same with its tensors on a device, for which nothing waits."""
        names = ("ids", "depths", "places")
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        return replace(self, **moved)


class _Builder:
    """`rows`: (n, R + 1) of tokens, _END behind each."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.places = rows, np.zeros(rows.shape, dtype=np.int64)
        self.ids: list[np.ndarray] = []
        self.depths: list[np.ndarray] = []
        self.parents: list[int] = []
        self.size = 0

    def grow(self, group: Sequence[int], *, start: int, parent: int) -> None:
        """What these rows have in common from `start` on as a part, and behind it what each goes on with."""
        ahead = self.rows[group, start:]
        alike = (ahead == ahead[0]).all(0) & (ahead[0] != _END)
        stop = start + int(alike.argmin())  # the last column is an end in all
        number = len(self.ids)
        self.ids.append(self.rows[group[0], start:stop])
        self.depths.append(np.arange(start, stop))
        self.parents.append(parent)
        # Past its end any place would do: where it ended.
        self.places[group, start:] = self.size + np.minimum(np.arange(self.rows.shape[1] - start), stop - start - 1)
        self.size += stop - start
        branches: dict[int, list[int]] = {}
        for row in group:
            if (token := int(self.rows[row, stop])) != _END:
                branches.setdefault(token, []).append(row)
        for branch in branches.values():
            self.grow(branch, start=stop, parent=number)
