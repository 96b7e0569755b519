"""Which samples an epoch of a weighted mixture of sources holds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mixture:
    """K sources end to end: index `sum(sizes[:k]) + i` is sample i of source k.

    Attributes:
        names: of the sources.
        sizes: samples of each.
        shares: of the samples of an epoch, each source's, >= 0 in any scale.
        count: samples of an epoch.
        seed: of the draws.

    Raises:
        ValueError: a source with a share has no samples, or the shares are no shares.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    shares: tuple[float, ...]
    count: int
    seed: int

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.sizes) == len(self.shares) or not self.names:
            raise ValueError(
                f"a mixture needs a size and a share for each source, got {len(self.names)} names, {len(self.sizes)} "
                f"sizes, {len(self.shares)} shares"
            )
        parts = np.asarray(self.shares, np.float64)
        if not np.isfinite(parts).all() or (parts < 0).any() or not parts.sum():
            raise ValueError(f"shares of a mixture are finite, not negative and not all 0, got {list(self.shares)}")
        if empty := [name for name, size, part in zip(self.names, self.sizes, parts, strict=True) if part and not size]:
            raise ValueError(f"{', '.join(empty)}: has a weight but no samples: leave it out, or give it the weight 0")
        if self.count < 1:
            raise ValueError(f"an epoch of a mixture has at least 1 sample, got {self.count}")

    @property
    def wanted(self) -> np.ndarray:
        """(K,) the share of each source, of 1."""
        parts = np.asarray(self.shares, np.float64)
        return parts / parts.sum()

    def quotas(self, count: int | None = None) -> np.ndarray:
        """(K,) int64 samples of each source in an epoch of `count`: the shares, by largest remainder."""
        total = self.count if count is None else count
        exact = total * self.wanted
        quotas = np.floor(exact).astype(np.int64)
        quotas[np.argsort(quotas - exact, kind="stable")[: total - quotas.sum()]] += 1
        return quotas

    def draw(self, epoch: int, *, count: int | None = None) -> np.ndarray:
        """The samples of an epoch, (count,) int64, grouped by source: plan them like any other list, `plan_epoch(
        lengths[indices], …)`, and translate the plan with `Plan.of(indices)`.

        Each source is gone through in shuffled passes that go on from epoch to epoch: no sample comes again before all
        others of its source have come as often.

        Args:
            count: samples to draw of those of the epoch, where not all of them can be taken; None for all.
        """
        first, drawn = 0, [np.empty(0, np.int64)]
        taken = self.quotas(count).tolist()
        for source, (size, quota, take) in enumerate(zip(self.sizes, self.quotas().tolist(), taken, strict=True)):
            # From the whole quota: what one epoch leaves out does not move the passes of the next ones.
            begin, take = epoch * quota, min(take, quota)
            for turn in range(begin // size, -(-(begin + take) // size)) if take else ():
                shuffled = np.random.default_rng([self.seed, source, turn, 1]).permutation(size)
                drawn.append(first + shuffled[max(begin - turn * size, 0) : begin + take - turn * size])
            first += size
        return np.concatenate(drawn)

    def kept(self, keep: np.ndarray) -> "Mixture":
        """The mixture of the samples where `keep`, (N,) bool, says so; shares and count stay."""
        parts = np.split(keep, np.cumsum(self.sizes)[:-1])
        sizes = tuple(int(part.sum()) for part in parts)
        return Mixture(self.names, sizes, self.shares, self.count, self.seed)

    def source_of(self, indices: np.ndarray) -> np.ndarray:
        """(n,) int64 the number of the source of each sample, (n,) indices."""
        return np.searchsorted(np.cumsum(self.sizes), indices, side="right")


def source_shares(
    sizes: Sequence[int],
    weights: Sequence[float],
    *,
    by: str = "explicit",
    groups: Sequence[str | None] = (),
    parts: dict[str, float] | None = None,
) -> tuple[float, ...]:
    """The share of each source, in any scale.

    Molmo2 draws so (arXiv:2601.10611, section SFT): each category has a part of its own, which its sets share by the
    square root of their sizes.

    Args:
        by: what the weights multiply: nothing (`explicit`), the sizes (`proportional`), or their roots (`sqrt`).
        groups: of each source, with `parts`, the part of each group.
    """
    scale = {"explicit": lambda size: 1.0, "proportional": float, "sqrt": lambda size: float(size) ** 0.5}[by]
    shares = [weight * scale(size) for size, weight in zip(sizes, weights, strict=True)]
    if not parts:
        return tuple(shares)
    totals = {group: sum(s for s, own in zip(shares, groups, strict=True) if own == group) for group in parts}
    return tuple(
        share / totals[group] * parts[group] if group is not None and totals[group] else 0.0
        for share, group in zip(shares, groups, strict=True)
    )


def epoch_of_source(mixture: Mixture, source: str) -> int:
    """Samples of an epoch in which each sample of this source is drawn once."""
    at = mixture.names.index(source)
    size, share = mixture.sizes[at], float(mixture.wanted[at])
    about = round(size / share)
    # Shares are rounded to whole samples: a neighbour may be what has exactly `size` of this source.
    near = sorted(range(max(1, about - 2), about + 3), key=lambda count: (abs(count - about), count))
    return next((count for count in near if mixture.quotas(count)[at] == size), about)
