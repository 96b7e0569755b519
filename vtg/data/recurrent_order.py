"""How recurrent layers read the parts of a `vtg.data.layout.Layout`: from a state that another part left, and with the
tokens before a part that a convolution sees. All indices are made once for a sequence: no layer waits for a GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Level:
    """Parts of one segment that are equally deep, as n rows: each goes on from the state that another one left.

    Attributes:
        tokens: (n, R) int64 indices into the sequence; a shorter part's row runs on past its end, over any tokens.
        past: (n, R) bool: which are past the end.
        parents: (n,) int64: of each the row of the level above that it goes on from; 0 of a segment.
    """

    tokens: torch.Tensor
    past: torch.Tensor
    parents: torch.Tensor


@dataclass(frozen=True)
class Levels:
    """The parts of a sequence of L tokens as a recurrent state reads them; nobody's tokens are in none.

    Attributes:
        segments: of each segment: itself, its branches, their branches and so on.
        places: (M,) int64 of the tokens of all rows, one after the other: where in the sequence what is made of them
            belongs; L of those past an end.
    """

    segments: tuple[tuple[Level, ...], ...]
    places: torch.Tensor


@dataclass(frozen=True)
class Windows:
    """All parts one after the other, M tokens, each part with the last tokens of what it goes on from before it.

    Attributes:
        tokens: (M,) int64 indices into the sequence.
        empty: (E,) int64: which of these stand for none, as there are not as many before.
        places: (M,) int64: where in the sequence what is made of each belongs; L of those before a part.
    """

    tokens: torch.Tensor
    empty: torch.Tensor
    places: torch.Tensor


def levels_of(parents: Sequence[int], spans: Sequence[slice], order: torch.Tensor) -> Levels:
    """The rows of all parts.

    Args:
        parents: of each part the one that it goes on from, which comes before it; -1 of a segment, which come first.
        spans: where in `order` its tokens are.
        order: (L,) int64: where in the sequence.
    """
    segments: list[list[list[int]]] = []
    found: list[tuple[list[list[int]], int, int]] = []  # of each part: its segment's levels, which of them, its row
    for part, parent in enumerate(parents):
        if parent < 0:
            segments.append([])
        levels, depth = (segments[-1], 0) if parent < 0 else (found[parent][0], found[parent][1] + 1)
        if len(levels) == depth:
            levels.append([])
        found.append((levels, depth, len(levels[depth])))
        levels[depth].append(part)

    def level(parts: Sequence[int]) -> Level:
        starts, stops = torch.tensor([(spans[part].start, spans[part].stop) for part in parts])[..., None].unbind(1)
        at = starts + torch.arange(int((stops - starts).max()))
        rows = torch.tensor([found[parents[part]][2] if parents[part] >= 0 else 0 for part in parts])
        # Past an end any token would do. They are different ones: the gradient of one that is read often is slow.
        tokens = order[(at % len(order)).to(order.device)]
        return Level(tokens, (at >= stops).to(order.device), rows.to(order.device))

    made = tuple(tuple(map(level, levels)) for levels in segments)
    places = [one.tokens.masked_fill(one.past, len(order)).flatten() for levels in made for one in levels]
    return Levels(made, torch.cat(places))


def windows_of(parents: Sequence[int], spans: Sequence[slice], order: torch.Tensor, size: int) -> Windows:
    """For a convolution that sees `size` tokens, the last of which is its own; the rest is as `levels_of` takes it."""
    before = torch.full((size - 1,), -1)
    ends: dict[int, torch.Tensor] = {-1: before}
    read, made = [], []
    for part, (parent, span) in enumerate(zip(parents, spans, strict=True)):
        own = torch.arange(span.start, span.stop)
        read.append(torch.cat([ends[parent], own]))
        made.append(torch.cat([before, own]))
        ends[part] = read[-1][len(own) :]  # of a short part also what is before it
    tokens, places = torch.cat(read), torch.cat(made)
    empty = (tokens < 0).nonzero()[:, 0].to(order.device)
    # Of -1 it is one more than the last place: L.
    ends_at = torch.cat([order, order.new_tensor([len(order)])])
    return Windows(order[tokens.clamp(min=0).to(order.device)], empty, ends_at[places.to(order.device)])
