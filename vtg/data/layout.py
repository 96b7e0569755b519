"""Which tokens of a sequence belong together: segments, and branches of a segment. Packing, shared clips and shared
prompts say it to the model by one type; attention, recurrent layers and masks are told by it who comes before whom.

A segment is a conversation, or what several have in common: each token of it sees those before it. A branch of it is
what one of these goes on with: it sees all of its segment and those before it of its own, and no other branch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch.nn.utils.rnn import pad_sequence

LAYOUT = "layout"
"""The keyword of a model's forward by which layers are told a `Layout`."""

ATTENTIONS = {"sdpa": "segments_sdpa", "varlen": "segments_varlen"}
"""What `model.attention` names, and what transformers calls these functions of `vtg.models.attention`."""

MASK_ALIGNMENT = 16
"""Rows of a mask start at multiples of so many numbers: what PyTorch's memory-efficient kernel would copy it for."""


@dataclass(frozen=True)
class TokenRun:
    """Tokens that are read from an empty state, and branches that each go on from the state they leave.

    Attributes:
        tokens: (P,) int64 indices into the packed sequence, P >= 1.
        branches: (n, R) int64 likewise, shorter ones filled up with -1 at their end; n is 0 without branches.
    """

    tokens: torch.Tensor
    branches: torch.Tensor


@dataclass(frozen=True)
class Chunk:
    """Branches of one segment whose queries are computed together.

    Attributes:
        segment: the tokens of the segment, in the order of a `Layout`.
        own: those of the branches, one after the other.
        lengths: of each branch.
    """

    segment: slice
    own: slice
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class Bounds:
    """Where the queries and keys of n sequences begin, one after the other, and where the last ends.

    Attributes:
        queries, keys: (n + 1,) int32.
        most_queries, most_keys: of one sequence.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    most_queries: int
    most_keys: int

    @property
    def sizes(self) -> tuple[list[int], list[int], list[int]]:
        """Queries, keys and values of each sequence."""
        queries, keys = (one.diff().tolist() for one in (self.queries, self.keys))
        return queries, keys, keys


@dataclass(frozen=True)
class KeyGather:
    """Branches as sequences of their own: keys are gathered, so that each has its segment before it.

    Attributes:
        keys: (K,) int64 of each branch one after the other: the tokens of its segment, then its own.
    """

    keys: torch.Tensor
    bounds: Bounds


# Not frozen: torch 2.11 takes a frozen one apart while it compiles, and compiles anew for every number of segments.
@dataclass(eq=False)
class Layout:
    """The segments of one sequence of L tokens.

    Attributes:
        segments: tokens of each, at least 1, those of its branches not counted.
        branches: tokens of each branch of each segment; () of one without.
        nobodys: tokens that no other attends to (padding frames).
        order: (L,) int64, where in the sequence they stand: all segments, then nobody's, then all branches; None: so.
        both_ways: (S,) bool of the tokens of all segments, in that order: which see later ones of their kind too; None:
            none.
        device: of the sequence.
    """

    segments: tuple[int, ...]
    branches: tuple[tuple[int, ...], ...]
    nobodys: int
    order: torch.Tensor | None
    both_ways: torch.Tensor | None
    device: torch.device
    _masks: dict[object, torch.Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, segments: torch.Tensor, branches: torch.Tensor, both_ways: torch.Tensor | None = None) -> "Layout":
        """As `vtg.data.packing.pack` says it of L tokens.

        Args:
            segments: (L,) int64 of which segment a token is, -1 for nobody's.
            branches: (L,) int64: 0 for what all of a segment see, which comes before its branches; k for its k-th.
            both_ways: (L,) bool of the tokens that see later ones of their kind; in no branch.
        """
        device = segments.device
        # On the CPU: on a GPU every look at a number would wait for all work that was queued.
        segments, branches = segments.cpu(), branches.cpu()
        count = int(segments.max()) + 1
        places = segments * (int(branches.max()) + 1) + branches + count
        places = torch.where(segments < 0, count, torch.where(branches == 0, segments, places + 1))
        order = places.argsort(stable=True)
        found, lengths = (one.tolist() for one in places.unique(return_counts=True))
        by_place = dict(zip(found, lengths, strict=True))
        own: list[list[int]] = [[] for _ in range(count)]
        for place in found:
            if place > count:
                own[(place - count - 1) // (int(branches.max()) + 1)].append(by_place[place])
        stands_so = bool((order.diff() == 1).all())
        return cls(
            segments=tuple(by_place[at] for at in range(count)),
            branches=tuple(map(tuple, own)),
            nobodys=by_place.get(count, 0),
            order=None if stands_so else order.to(device),
            both_ways=None if both_ways is None else both_ways.to(device)[order.to(device)][: sum(lengths[:count])],
            device=device,
        )

    @property
    def heads(self) -> tuple[int, ...]:
        """Tokens of everything that sees nothing before it: segments, and nobody's together."""
        return (*self.segments, self.nobodys) if self.nobodys else self.segments

    @cached_property
    def inverse(self) -> torch.Tensor | None:
        """(L,) int64: where in `order` the tokens of the sequence are."""
        return None if self.order is None else self.order.argsort()

    @cached_property
    def runs(self) -> tuple[TokenRun, ...]:
        """The segments with their branches, as recurrent layers read them; nobody's tokens are in none."""
        lengths = [*self.heads, *(length for own in self.branches for length in own)]
        where = torch.arange(sum(lengths), device=self.device) if self.order is None else self.order
        parts = where.split(lengths)
        after = iter(parts[len(self.heads) :])
        return tuple(
            TokenRun(part, stacked([next(after) for _ in own], device=self.device))
            for part, own in zip(parts, self.branches, strict=False)
        )

    @cached_property
    def chunks(self) -> tuple[Chunk, ...]:
        """The branches, as many of a segment together as are worth it.

        They are computed against each other, masked. Where they are longer than their segment, all together, that is
        most of the work, and chunks a quarter of the segment long are worth the copies of keys that they need.
        """
        chunks, start, at = [], 0, sum(self.heads)
        for length, own in zip(self.segments, self.branches, strict=True):
            room = length if sum(own) <= length else length // 4
            taken: list[int] = []
            for branch in own:
                if taken and sum(taken) + branch > room:
                    chunks.append(Chunk(slice(start, start + length), slice(at, at + sum(taken)), tuple(taken)))
                    at, taken = at + sum(taken), []
                taken.append(branch)
            if taken:
                chunks.append(Chunk(slice(start, start + length), slice(at, at + sum(taken)), tuple(taken)))
                at += sum(taken)
            start += length
        return tuple(chunks)

    @cached_property
    def head_bounds(self) -> Bounds:
        """Of `heads`."""
        # One tensor for both: some kernels know by it that queries and keys are alike.
        bounds, most = _bounds(self.heads, self.device), max(self.heads)
        return Bounds(bounds, bounds, most, most)

    @cached_property
    def key_gather(self) -> KeyGather:
        keys, queries, start, at = [], [], 0, sum(self.heads)
        for length, own in zip(self.segments, self.branches, strict=True):
            for branch in own:
                keys += [torch.arange(start, start + length), torch.arange(at, at + branch)]
                queries.append((branch, length + branch))
                at += branch
            start += length
        most, seen = zip(*queries, strict=True)
        bounds = Bounds(_bounds(most, self.device), _bounds(seen, self.device), max(most), max(seen))
        return KeyGather(torch.cat(keys).to(self.device), bounds)

    def chunk_mask(self, chunk: Chunk, dtype: torch.dtype) -> torch.Tensor:
        """(1, 1, queries, segment and queries) of `dtype`: 0 where a query of the chunk attends to a key, else the
        lowest number. Made once for each size."""
        size = chunk.segment.stop - chunk.segment.start
        key = (size, chunk.lengths, dtype)
        if key not in self._masks:
            causal = (torch.ones(one, one, dtype=torch.bool, device=self.device).tril() for one in chunk.lengths)
            branches = torch.block_diag(*causal).bool()
            seen = torch.ones(len(branches), size, dtype=torch.bool, device=self.device)
            self._masks[key] = _additive(torch.cat([seen, branches], dim=1), dtype)
        return self._masks[key]

    def segment_mask(self, segment: slice, dtype: torch.dtype) -> torch.Tensor | None:
        """(1, 1, P, P) likewise, of a segment that holds tokens which see later ones of their kind; None: causal."""
        if self.both_ways is None or segment.stop > len(self.both_ways):
            return None
        key = (segment.start, dtype)
        if key not in self._masks:
            own = self.both_ways[segment]
            causal = torch.ones(len(own), len(own), dtype=torch.bool, device=self.device).tril()
            self._masks[key] = _additive(causal | (own[:, None] & own), dtype)
        return self._masks[key]


def stacked(branches: Sequence[torch.Tensor], *, device: torch.device) -> torch.Tensor:
    """(n, R) of the indices of n branches, as `TokenRun` has them."""
    if not branches:
        return torch.zeros(0, 0, dtype=torch.int64, device=device)
    return pad_sequence(list(branches), batch_first=True, padding_value=-1)


def no_mask(device: torch.device) -> torch.Tensor:
    """What a model is given in place of a mask beside a `Layout`: of four axes, so that it makes none itself."""
    return torch.zeros(1, 1, 1, 1, device=device)


def whole_mask(
    segments: torch.Tensor,
    branches: torch.Tensor,
    *,
    dtype: torch.dtype,
    both_ways: torch.Tensor | None = None,
    rows: int = 512,
) -> torch.Tensor:
    """The same as one additive mask (1, 1, L, L), for attention that is told by a mask alone.

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


def _additive(allowed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(1, 1, …) of `allowed` (…) bool: 0 where it is true, else the lowest number."""
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    # The lowest number and not -inf, whose sums can become NaN.
    return mask.masked_fill(~allowed, torch.finfo(dtype).min)[None, None]


def _bounds(lengths: Sequence[int], device: torch.device) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(device, torch.int32)
