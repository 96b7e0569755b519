"""Soft targets over times: the mass of neighbouring times that each next token would lead to.

The target at a time is a normal distribution around it, a standard deviation of some seconds, cut off at TRUNCATION of
them and at the ends of the clip; each step of the grid has the mass of its cell (HL-Gauss: Imani and White, "Improving
Regression Performance with Distributional Losses", 2018). Over temporal tokens that is the target. Written in digits,
a time is a path: given the digits before (those of the truth, in training), a next digit has the mass of all times that
are written with these digits and that one first, over the mass of all that are written with these digits first. The
product along the path is the time's own mass, so that both forms have the same target, token by token.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch

from vtg.training.sft.written_times import TimeGrid

# Behind three standard deviations lies 0.3 % of the mass, and it would be spread over most of the clip.
TRUNCATION = 3.0

END = 10
"""The place, after the ten digits, of the token that ends the whole part of a number: a point, or what follows it."""


@dataclass(frozen=True)  # without slots, which have no room for a cached property
class Neighbours:
    """A time's distribution over the grid.

    Attributes:
        steps: the time.
        sigma: the standard deviation, in steps.
        low: the first step that could stand here: of an end, the first that is no earlier than its start allows.
    """

    grid: TimeGrid
    steps: int
    sigma: float
    low: int = 0

    @cached_property
    def window(self) -> tuple[int, int]:
        """The first and the last step that have mass."""
        reach = math.ceil(TRUNCATION * self.sigma)
        last = max(self.grid.last, self.steps)
        return max(min(self.low, self.steps), self.steps - reach, 0), min(last, self.steps + reach)

    def mass(self, first: int, last: int) -> float:
        """The mass, not normalised, of the steps from `first` to `last`."""
        low, high = self.window
        first, last = max(first, low), min(last, high)
        if first > last:
            return 0.0
        if self.sigma <= 0:
            return float(first <= self.steps <= last)
        return self._below(last + 0.5) - self._below(first - 0.5)

    def _below(self, step: float) -> float:
        return 0.5 * math.erf((step - self.steps) / (self.sigma * math.sqrt(2)))

    def over_grid(self, count: int) -> torch.Tensor:
        """(count,) float32: the share of each step, of the steps from 0."""
        low, high = self.window
        edges = torch.arange(low, high + 2, dtype=torch.float64) - 0.5 - self.steps
        below = torch.erf(edges / (max(self.sigma, 1e-6) * math.sqrt(2)))
        shares = torch.zeros(count)
        cells = below.diff()
        shares[low : high + 1] = (cells / cells.sum()).float()
        return shares

    def over_digits(self) -> list[list[float]]:
        """The shares (11 each) of the digits 0 to 9 and of `END`, at every token that writes the time and at the one
        that ends its whole part."""
        # Those of the truth are never all 0: the time itself is written so.
        return [[one / total for one in masses] for masses in self._masses() for total in [sum(masses)]]

    def _masses(self) -> Iterator[list[float]]:
        unit = 10**self.grid.decimals
        whole, fraction = divmod(self.steps, unit)
        before: int | None = None
        for digit in str(whole):
            yield [*(self._whole_part(before, one) for one in range(10)), self._ends(before)]
            before = (before or 0) * 10 + int(digit)
        yield [*(self._whole_part(before, one) for one in range(10)), self._ends(before)]
        prefix, size = whole, unit
        for digit in f"{fraction:0{self.grid.decimals}d}" if self.grid.decimals else "":
            size //= 10
            firsts = [(prefix * 10 + one) * size for one in range(10)]
            yield [*(self.mass(first, first + size - 1) for first in firsts), 0.0]
            prefix = prefix * 10 + int(digit)

    def _whole_part(self, before: int | None, digit: int) -> float:
        """The mass of the times whose whole part begins with the digits of `before` and then `digit`."""
        if before == 0:  # no number has a digit behind a leading zero
            return 0.0
        begins, size, total = (before or 0) * 10 + digit, 10**self.grid.decimals, 0.0
        while begins * size <= self.window[1]:
            total += self.mass(begins * size, (begins + 1) * size - 1)
            if not begins:
                break
            size *= 10
        return total

    def _ends(self, before: int | None) -> float:
        """The mass of the times whose whole part is `before`."""
        if before is None:
            return 0.0
        unit = 10**self.grid.decimals
        return self.mass(before * unit, (before + 1) * unit - 1)
