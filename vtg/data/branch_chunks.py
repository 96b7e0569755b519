"""Which branches of a `vtg.data.layout.Layout` attention under a mask computes together."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Chunk:
    """Branches that go on from the same tokens, and branches of theirs, whose queries are computed together.

    Attributes:
        before: the tokens of the segment, and of the branches between it and these, in the order of a `Layout`.
        own: those of the branches, one after the other.
        lengths: of each branch.
        parents: of each the number of the one that it goes on from, counted within the chunk; -1: from `before`.
    """

    before: tuple[slice, ...]
    own: slice
    lengths: tuple[int, ...]
    parents: tuple[int, ...]

    @property
    def keys(self) -> int:
        """Tokens before the branches."""
        return sum(place.stop - place.start for place in self.before)

    def attended(self, device: torch.device) -> torch.Tensor:
        """(queries, tokens before and queries) bool: which of them a query attends to."""
        sees = torch.eye(len(self.lengths), dtype=torch.bool)
        for part, parent in enumerate(self.parents):
            if parent >= 0:
                sees[part] |= sees[parent]
        part_of = torch.arange(len(self.lengths)).repeat_interleave(torch.tensor(self.lengths)).to(device)
        own = sees.to(device)[part_of][:, part_of].tril()
        return torch.cat([own.new_ones(len(own), self.keys), own], dim=1)


def ancestors(parents: Sequence[int], part: int) -> tuple[int, ...]:
    """The parts that a part goes on from, its segment first; `parents` as `Layout` has them."""
    parent = parents[part]
    return () if parent < 0 else (*ancestors(parents, parent), parent)


def chunks_of(parents: Sequence[int], spans: Sequence[slice]) -> tuple[Chunk, ...]:
    """All branches, in their order, as many that go on from the same tokens together as are worth it.

    They are computed against each other, masked. Where they are longer than what they go on from, all together, that is
    most of the work, and chunks a quarter as long are worth the copies of keys that they need. A branch and the
    branches right behind it that go on from it are one tree, which is computed whole; of one that is too long first its
    first branch, then the rest.

    Args:
        parents: of each part the one that it goes on from, which comes before it; -1 of a segment, which come first.
        spans: where in the order of the layout its tokens are.
    """
    segments = sum(parent < 0 for parent in parents)
    return tuple(_chunks(_trees(range(segments, len(parents)), parents), parents, spans))


def _chunks(trees: Sequence[Sequence[int]], parents: Sequence[int], spans: Sequence[slice]) -> Iterator[Chunk]:
    for _, group in itertools.groupby(trees, key=lambda tree: parents[tree[0]]):
        own = list(group)
        length = _length(ancestors(parents, own[0][0]), spans)
        sizes = [_length(tree, spans) for tree in own]
        room = length if sum(sizes) <= length else length // 4
        taken: list[int] = []
        held = 0
        for tree, size in zip(own, sizes, strict=True):
            if taken and held + size > room:
                yield _chunk(taken, parents, spans)
                taken, held = [], 0
            if size > room and len(tree) > 1:
                yield _chunk(tree[:1], parents, spans)
                yield from _chunks(_trees(tree[1:], parents), parents, spans)
            else:
                taken, held = [*taken, *tree], held + size
        if taken:
            yield _chunk(taken, parents, spans)


def _trees(parts: Iterable[int], parents: Sequence[int]) -> list[list[int]]:
    """Branches that stand one after the other, each with those right behind it that go on from it."""
    trees: list[list[int]] = []
    for part in parts:
        if trees and parents[part] >= trees[-1][0]:
            trees[-1].append(part)
        else:
            trees.append([part])
    return trees


def _chunk(parts: Sequence[int], parents: Sequence[int], spans: Sequence[slice]) -> Chunk:
    return Chunk(
        before=tuple(spans[part] for part in ancestors(parents, parts[0])),
        own=slice(spans[parts[0]].start, spans[parts[-1]].stop),
        lengths=tuple(_length([part], spans) for part in parts),
        parents=tuple(max(parents[part] - parts[0], -1) for part in parts),
    )


def _length(parts: Sequence[int], spans: Sequence[slice]) -> int:
    return sum(spans[part].stop - spans[part].start for part in parts)
