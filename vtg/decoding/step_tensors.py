"""What one step of decoding reads and writes beside keys: the last token, position and place of every row, and a draw
of every continuation."""

from collections.abc import Sequence
from typing import Any

import torch

from vtg.decoding.paged_attention import LOWEST, PagedLayout, Shape

USERS = 8
"""The most prompts that share a page: all pages are computed for as many users as the one with the most has."""


class StepTensors:
    """Buffers for `rows` rows and `pages` pages of `page` tokens; a step looks at the first of them.
    There are at least as many rows as continuations in flight, each of which can become one.

    Attributes:
        ids: (rows,) the last token of each, which the next step is given.
        at: (rows,) how many tokens each has written.
        positions: (4 or 1, rows) of its last token.
        draws: (rows,) float64, what the tokens of the step are drawn by.
        allowed: (rows, columns) float32, 0 for what a constrained row may write, else -inf.
        written: (2, rows) float64: the token that the step wrote, and its log-prob. Of continuations, as draws are.
    """

    def __init__(self, *, rows: int, pages: int, page: int, columns: int, mrope: bool, device: torch.device) -> None:
        self.rows, self.pages, self.page = rows, pages, page
        whole: dict[str, Any] = {"dtype": torch.int64, "device": device}
        self.ids, self.at = torch.zeros(rows, **whole), torch.zeros(rows, **whole)
        self.positions = torch.zeros(4 if mrope else 1, rows, **whole)
        self.draws = torch.ones(rows, dtype=torch.float64, device=device)
        self.allowed = torch.zeros(rows, columns, device=device)
        self.written = torch.zeros(2, rows, dtype=torch.float64, device=device)
        self._slots_of_page, self._page_lengths = torch.zeros(pages * USERS, **whole), torch.zeros(pages, **whole)
        self._places_of_slot = torch.zeros(rows * pages, **whole)

    def move_rows(self, sources: torch.Tensor) -> None:
        """Row r becomes what row `sources[r]` was."""
        count = len(sources)
        for buffer in (self.ids, self.at):
            buffer[:count] = buffer[sources]
        self.positions[:, :count] = self.positions[:, sources]

    def take(self, old: "StepTensors") -> None:
        """What the rows of other buffers are becomes what the first of these are."""
        rows = min(self.rows, old.rows)
        for name in ("ids", "at"):
            getattr(self, name)[:rows] = getattr(old, name)[:rows]
        self.positions[:, :rows] = old.positions[:, :rows]

    def enter(self, places: torch.Tensor, *, last: torch.Tensor, position: torch.Tensor) -> None:
        """Rows begin, at `places` (n,), with the last token of their prompt (1,) and its position (4 or 1, 1)."""
        self.ids[places], self.at[places] = last, 0
        self.positions[:, places] = position

    def lay_out(self, shape: Shape, slots: Sequence[tuple[Sequence[int], int]]) -> None:
        """Which pages hold the prompt of each slot, and how many tokens it has."""
        users: list[list[int]] = [[] for _ in range(shape.pages)]
        page_lengths, places = [0] * shape.pages, [[0] * shape.longest for _ in range(shape.slots)]
        for slot, (own, length) in enumerate(slots):
            for at, page in enumerate(own):
                places[slot][at] = page * shape.users + len(users[page])
                users[page].append(slot)
                page_lengths[page] = min(self.page, length - at * self.page)
        slots_of_page = [(own + [0] * shape.users)[: shape.users] for own in users]
        device = self.ids.device
        self._slots_of_page[: shape.pages * shape.users] = torch.tensor(slots_of_page, device=device).flatten()
        self._page_lengths[: shape.pages] = torch.tensor(page_lengths, device=device)
        self._places_of_slot[: shape.slots * shape.longest] = torch.tensor(places, device=device).flatten()

    def layout(self, shape: Shape, layers: Sequence[tuple[torch.Tensor, torch.Tensor] | None]) -> PagedLayout:
        """What attention is told in a step; `layers`: keys and values of prompts (pages, heads, page, d) in each."""
        ticks = torch.arange(max(self.page, shape.own), device=self.ids.device)
        own = ticks[: shape.own] <= self.at[: shape.rows, None]
        there = ticks[: self.page] < self._page_lengths[: shape.pages, None]
        return PagedLayout(
            shape=shape,
            slots_of_page=self._slots_of_page[: shape.pages * shape.users].view(shape.pages, shape.users),
            places_of_slot=self._places_of_slot[: shape.slots * shape.longest].view(shape.slots, shape.longest),
            page_bias=_bias(there),
            own_bias=_bias(own),
            layers=tuple(layers),
        )


def _bias(attended: torch.Tensor) -> torch.Tensor:
    """(n, tokens) bool → (n, 1, 1, tokens) float32: 0 where it is true, else LOWEST."""
    bias = torch.zeros(attended.shape, device=attended.device)
    return bias.masked_fill(~attended, LOWEST)[:, None, None]
