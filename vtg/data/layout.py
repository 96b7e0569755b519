"""Which tokens of a sequence belong together: segments, and branches of a segment. Packing, shared clips and shared
prompts say it to the model by one type; attention, recurrent layers and masks are told by it who comes before whom.

A segment is a conversation, or what several have in common: each token of it sees those before it. A branch of it is
what one of these goes on with: it sees all of its segment and those before it of its own, and no other branch. A branch
may have branches too: of a clip its questions, and of each question its completions, which see all three.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from vtg.data.branch_chunks import Chunk, ancestors, chunks_of
from vtg.data.recurrent_order import Levels, Windows, levels_of, windows_of

LAYOUT = "layout"
"""The keyword of a model's forward by which layers are told a `Layout`."""

ATTENTIONS = {"sdpa": "segments_sdpa", "varlen": "segments_varlen"}
"""What `model.attention` names, and what transformers calls these functions of `vtg.models.attention`."""


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
    """Some branches as sequences of their own: keys are gathered, so that each has what it goes on from before it.

    Attributes:
        own: the tokens of the branches, in the order of a `Layout`.
        keys: (K,) int64 of each branch one after the other: the tokens that it goes on from, then its own.
    """

    own: slice
    keys: torch.Tensor
    bounds: Bounds


# Not frozen: torch 2.11 takes a frozen one apart while it compiles, and compiles anew for every number of segments.
@dataclass(eq=False)
class Layout:
    """The segments of one sequence of L tokens and their branches, each a part of it.

    Attributes:
        lengths: tokens of each part, at least 1: all segments, then all branches.
        parents: of each part the number of the one that it goes on from, which comes before it; -1 of a segment.
        nobodys: tokens that no other attends to (padding frames).
        order: (L,) int64, where in the sequence they stand: all segments, then nobody's, then all branches; None: so.
        both_ways: (S,) bool of the tokens of all segments, in that order: which see later ones of their kind too; None:
            none.
        device: of the sequence.
    """

    lengths: tuple[int, ...]
    parents: tuple[int, ...]
    nobodys: int
    order: torch.Tensor | None
    both_ways: torch.Tensor | None
    device: torch.device
    _masks: dict[object, torch.Tensor] = field(default_factory=dict, repr=False)
    _windows: dict[int, Windows] = field(default_factory=dict, repr=False)
    _gathers: dict[int, tuple[KeyGather, ...]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, segments: torch.Tensor, branches: torch.Tensor, both_ways: torch.Tensor | None = None) -> "Layout":
        """As `vtg.data.packing.pack` says it of L tokens.

        Args:
            segments: (L,) int64 of which segment a token is, -1 for nobody's.
            branches: (L,) int64: 0 for what all of a segment see, which comes before its branches; k for its k-th.
            both_ways: (L,) bool of the tokens that see later ones of their kind; in no branch.
        """
        # On the CPU: on a GPU every look at a number would wait for all work that was queued.
        device, segments, branches = segments.device, segments.cpu(), branches.cpu()
        count, most = int(segments.max()) + 1, int(branches.max()) + 1
        # Numbers of segments, then of branches, with gaps.
        places = torch.where(branches == 0, segments, count + segments * most + branches)
        found, numbers = places[segments >= 0].unique(return_inverse=True)
        parts = torch.full_like(segments, -1)
        parts[segments >= 0] = numbers
        parents = [-1 if place < count else (place - count) // most for place in found.tolist()]
        return cls.of_parts(parts.to(device), parents, both_ways)

    @classmethod
    def of_parts(cls, parts: torch.Tensor, parents: Sequence[int], both_ways: torch.Tensor | None = None) -> "Layout":
        """Segments with branches of any depth.

        Args:
            parts: (L,) int64 of which part a token is, -1 for nobody's.
            parents: as the attribute says.
            both_ways: (L,) bool of the tokens that see later ones of their kind; in no branch.
        """
        device, parts, segments = parts.device, parts.cpu(), sum(parent < 0 for parent in parents)
        assert all(parent < 0 for parent in parents[:segments]), "segments come before branches"
        lengths = parts[parts >= 0].bincount(minlength=len(parents)).tolist()
        places = torch.where(parts < 0, segments, parts + (parts >= segments))
        order = places.argsort(stable=True)
        stands_so = bool((order.diff() == 1).all())
        order = order.to(device)
        return cls(
            lengths=tuple(lengths),
            parents=tuple(parents),
            nobodys=int((parts < 0).sum()),
            order=None if stands_so else order,
            both_ways=None if both_ways is None else both_ways.to(device)[order][: sum(lengths[:segments])],
            device=device,
        )

    @cached_property
    def segments(self) -> tuple[int, ...]:
        """Tokens of each segment, those of its branches not counted."""
        return self.lengths[: sum(parent < 0 for parent in self.parents)]

    @property
    def heads(self) -> tuple[int, ...]:
        """Tokens of everything that sees nothing before it: segments, and nobody's together."""
        return (*self.segments, self.nobodys) if self.nobodys else self.segments

    @cached_property
    def inverse(self) -> torch.Tensor | None:
        """(L,) int64: where in `order` the tokens of the sequence are."""
        return None if self.order is None else self.order.argsort()

    @cached_property
    def _places(self) -> tuple[slice, ...]:
        """Where in `order` the tokens of each part are."""
        ends = itertools.accumulate(self.lengths)
        after = (self.nobodys if parent >= 0 else 0 for parent in self.parents)
        return tuple(
            slice(end - length + shift, end + shift)
            for end, length, shift in zip(ends, self.lengths, after, strict=True)
        )

    @cached_property
    def _whole_order(self) -> torch.Tensor:
        """(L,) int64: `order`, also where the tokens stand so."""
        size = sum(self.lengths) + self.nobodys
        return torch.arange(size, device=self.device) if self.order is None else self.order

    @cached_property
    def levels(self) -> Levels:
        """The parts as a recurrent state reads them."""
        return levels_of(self.parents, self._places, self._whole_order)

    def windows(self, size: int) -> Windows:
        """The parts as a convolution reads them that sees `size` tokens. Made once for each size."""
        if size not in self._windows:
            self._windows[size] = windows_of(self.parents, self._places, self._whole_order, size)
        return self._windows[size]

    @cached_property
    def chunks(self) -> tuple[Chunk, ...]:
        """The branches, as they are computed under masks."""
        return chunks_of(self.parents, self._places)

    @cached_property
    def cuts(self) -> tuple[int, ...]:
        """Where in `order` segments, chunks, and what chunks go on from begin and end."""
        read = [place for chunk in self.chunks for place in (*chunk.before, chunk.own)]
        ends = itertools.accumulate(self.heads, initial=0)
        return tuple(sorted({*ends, *(end for place in read for end in (place.start, place.stop))}))

    @cached_property
    def head_bounds(self) -> Bounds:
        """Of `heads`."""
        # One tensor for both: some kernels know by it that queries and keys are alike.
        bounds, most = _bounds(self.heads, self.device), max(self.heads)
        return Bounds(bounds, bounds, most, most)

    def key_gathers(self, most: int) -> tuple[KeyGather, ...]:
        """All branches, as many of them together as have `most` keys; one that has more is alone. Made once for each
        number."""
        if most not in self._gathers:
            groups: list[list[int]] = []
            held = 0
            for part in range(len(self.segments), len(self.parents)):
                keys = sum(self.lengths[one] for one in (*ancestors(self.parents, part), part))
                if not groups or held + keys > most:
                    groups, held = [*groups, []], 0
                groups[-1].append(part)
                held += keys
            self._gathers[most] = tuple(map(self._gathered, groups))
        return self._gathers[most]

    def _gathered(self, parts: Sequence[int]) -> KeyGather:
        keys, sizes = [], []
        for part in parts:
            seen = [self._places[one] for one in (*ancestors(self.parents, part), part)]
            keys += [torch.arange(place.start, place.stop) for place in seen]
            sizes.append((self.lengths[part], sum(place.stop - place.start for place in seen)))
        queries, seen = zip(*sizes, strict=True)
        bounds = Bounds(_bounds(queries, self.device), _bounds(seen, self.device), max(queries), max(seen))
        own = slice(self._places[parts[0]].start, self._places[parts[-1]].stop)
        return KeyGather(own, torch.cat(keys).to(self.device), bounds)

    def chunk_mask(self, chunk: Chunk, dtype: torch.dtype) -> torch.Tensor:
        """(1, 1, queries, tokens before and queries) of `dtype`: 0 where a query of the chunk attends to a key, else
        the lowest number. Made once for each shape."""
        key = (chunk.keys, chunk.lengths, chunk.parents, dtype)
        if key not in self._masks:
            self._masks[key] = _additive(chunk.attended(self.device), dtype)
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


def no_mask(device: torch.device) -> torch.Tensor:
    """What a model is given in place of a mask beside a `Layout`: of four axes, so that it makes none itself."""
    return torch.zeros(1, 1, 1, 1, device=device)


def _additive(allowed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(1, 1, …) of `allowed` (…) bool: 0 where it is true, else the lowest number."""
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    # The lowest number and not -inf, whose sums can become NaN.
    return mask.masked_fill(~allowed, torch.finfo(dtype).min)[None, None]


def _bounds(lengths: Sequence[int], device: torch.device) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(device, torch.int32)
