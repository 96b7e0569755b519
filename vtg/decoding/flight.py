"""Which rows are decoded together: they enter as there is room for their keys, and leave when they end."""

import itertools
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch

from vtg.decoding.constrained import TokenConstraint
from vtg.decoding.paged_attention import Shape
from vtg.decoding.prompt_sequence import Prompt
from vtg.decoding.slots import Completion, Peak, Row, Slot
from vtg.decoding.step_tensors import USERS
from vtg.decoding.stepper import Stepper
from vtg.decoding.token_choice import uniforms

OWN_STEP = 128
"""Where sizes of steps are rounded up: by so many tokens of a row's own."""

MOST_COMPUTED = {"cuda": 2.0}
"""How many times what is attended to may be computed because prompts share pages, by the kind of device; elsewhere
`MOST_COMPUTED_ELSEWHERE`. All pages are computed for as many prompts as the most shared one has. For a GPU, which lacks
memory first, it is a guess."""

MOST_COMPUTED_ELSEWHERE = 1.25


class Flight:
    """One call of `DecodingEngine.decode`.

    Args:
        key_bytes: the most that may be held; None: what `at_once` rows of the first prompt take, each with its own.
        rounded: sizes of steps are rounded up to few, each worth a graph; else they are what is needed, and
            continuations of a prompt are one row for as long as they are alike.
    """

    def __init__(
        self,
        stepper: Stepper,
        prompts: Iterator[Prompt],
        *,
        n: int,
        seed: int,
        constraint: TokenConstraint | None,
        key_bytes: int | None,
        at_once: int,
        rounded: bool,
    ) -> None:
        self.stepper, self.prompts, self.n, self.seed = stepper, prompts, n, seed
        self.constraint, self.rounded = constraint, rounded
        self.key_bytes, self.at_once = key_bytes, at_once
        self.peak = Peak()
        self._live: list[Slot] = []
        self._next: Slot | None = None
        self._requests = 0
        # Of the step as it is laid out: slot i has the rows i * width to (i + 1) * width.
        self._order: list[Slot | None] = []
        self._width = 0
        self._laid_out: tuple[int, ...] | None = None
        self._parted = False  # rows that were one wait to be moved apart

    def completions(self) -> Iterator[Completion]:
        while True:
            entered = self._admit()
            if not self._live:
                return
            self._prefill(entered)
            self._place_rows()
            yield from self._step()

    # Who is in flight.

    def _admit(self) -> list[Slot]:
        """Lets continuations and prompts enter, as long as there is room; the slots that are new."""
        begins, entered = not self._live, []
        for slot in self._live:
            count = 0
            # One at least, or nothing would ever be written.
            while count < len(slot.waiting) and (
                self._room(self._live, more={slot: count + 1}) or not (count or any(one.rows for one in self._live))
            ):
                count += 1
            self._enter(slot, count)
        while (slot := self._following()) is not None:
            self._give_pages(slot)
            slots, count = [*self._live, slot], len(slot.waiting)
            if self._live and self._room(slots, more={slot: count}, begins=begins) is None:
                break  # whole or not at all: half a group would hold its prompt's keys for longer
            while count > 1 and self._room(slots, more={slot: count}, begins=begins) is None:
                count -= 1
            self._enter(slot, count)
            self._live, self._next = slots, None
            entered.append(slot)
        if self._live:
            room = self._room(self._live, begins=begins) or self._needed(self._live)
            self.stepper.reserve(pages=room[0], rows=room[1])
        return entered

    def _enter(self, slot: Slot, count: int) -> None:
        """The next continuations of a prompt begin, all alike."""
        begun = [slot.waiting.popleft() for _ in range(count)]
        slot.rows += [Row([one]) for one in begun] if self.rounded or not begun else [Row(begun)]

    def _following(self) -> Slot | None:
        """The next prompt that waits."""
        if self._next is None:
            prompt = next(self.prompts, None)
            if prompt is None:
                return None
            length = int(prompt.features["attention_mask"][:-1].sum())
            grammar = self.constraint.grammar(prompt.duration_s) if self.constraint else None
            self._next = Slot(self._requests, prompt, length, deque(range(self.n)), grammar)
            if not self.stepper.sampling.is_greedy:
                first = self._requests * self.n
                self._next.draws = uniforms(self.seed, first, rows=self.n, count=self.stepper.room)
            self._requests += 1
            self.stepper.open_pool()
            if self.key_bytes is None:
                self.key_bytes = self._bytes_of_rows(self.at_once, length)
        return self._next

    def _room(
        self, slots: Sequence[Slot], *, more: Mapping[Slot, int] = MappingProxyType({}), begins: bool = False
    ) -> tuple[int, int] | None:
        """Pages and rows to hold for these slots, where they fit; `more`: rows that some would have beside theirs.

        `begins`: nothing was in flight, so what is held for others can be given back.
        """
        pool = self.stepper.pool
        assert pool is not None and self.key_bytes is not None
        pages, rows = self._needed(slots, more)
        held = max(pages, pool.pages), max(rows, pool.rows)
        for room in (held, (pages, rows)) if begins else (held,):
            if pool.bytes_of(pages=room[0], rows=room[1]) <= self.key_bytes:
                return room
        return None

    def _needed(self, slots: Sequence[Slot], more: Mapping[Slot, int] = MappingProxyType({})) -> tuple[int, int]:
        width = max(slot.in_flight + more.get(slot, 0) for slot in slots)  # each could become a row of its own
        highest = max(page for slot in slots for page in (0, *slot.pages))
        return self._pages(highest + 1), self._rows(len(slots)) * self._rows(width)

    def _bytes_of_rows(self, count: int, length: int) -> int:
        """What so many rows take, each of its own prompt of `length` tokens."""
        assert self.stepper.pool is not None
        pages = self._pages(1 + count * -(-length // self.stepper.page))
        return self.stepper.pool.bytes_of(pages=pages, rows=self._rows(count))

    def _give_pages(self, slot: Slot) -> None:
        """The pages that a prompt in flight which begins alike fills with that, and free ones for the rest."""
        prompt, whole = slot.prompt, slot.prompt.common // self.stepper.page
        count = -(-slot.length // self.stepper.page)
        users = Counter(one.pages[0] for one in self._live if one.pages)
        alike = (one.pages[:whole] for one in self._live if whole and prompt.begins_as(one.prompt))
        shared = next((pages for pages in alike if self._pays(pages, users, count)), [])
        slot.pages, slot.shared = [*shared, *self._free_pages(count - len(shared))], len(shared)

    def _pays(self, pages: Sequence[int], users: Counter[int], count: int) -> bool:
        """Whether a prompt of `count` pages is to share these, by what that adds to what is computed; `users`: how many
        prompts have each first page."""
        more = users[pages[0]] + 1
        if more > USERS:
            return False
        held = len({page for one in self._live for page in one.pages}) + count
        most, attended = max(users.values()), sum(len(one.pages) for one in self._live) + count
        alone, together = held * self._rows(most), (held - len(pages)) * self._rows(max(most, more))
        most_computed = MOST_COMPUTED.get(self.stepper.plain.device.type, MOST_COMPUTED_ELSEWHERE)
        return together <= max(alone, most_computed * attended)

    def _free_pages(self, count: int) -> list[int]:
        """The first pages that no prompt in flight has; page 0 stays empty."""
        taken = {page for slot in self._live for page in slot.pages}
        free = (page for page in itertools.count(1) if page not in taken)
        return list(itertools.islice(free, count))

    def _rows(self, count: int) -> int:
        """A number of slots or of rows to a slot, rounded up."""
        return 1 << (count - 1).bit_length() if self.rounded else count

    def _pages(self, count: int) -> int:
        """A number of pages, rounded up by at most a quarter."""
        step = max(2, 1 << max(0, count.bit_length() - 3)) if self.rounded else 1
        return -(-count // step) * step

    # Where they are.

    def _prefill(self, entered: Sequence[Slot]) -> None:
        pool = self.stepper.pool
        assert pool is not None
        every = self.stepper.prompts.every([slot.prompt for slot in entered])
        for slot, layers in zip(entered, every, strict=True):
            attended = slot.prompt.features["attention_mask"][:-1].bool().clone()
            attended[: slot.shared * self.stepper.page] = False
            pool.write_prompt(layers, attended, torch.tensor(slot.pages[slot.shared :], device=attended.device))
            slot.states = pool.states_of(layers)

    def _place_rows(self) -> None:
        """Gives every row a place, and writes the beginning of those that are new."""
        slots, width = self._rows(len(self._live)), self._rows(max(len(slot.rows) for slot in self._live))
        if (slots, width) != (len(self._order), self._width) or self._parted:
            self._rearrange(slots, width)
        for slot in self._live:
            if slot not in self._order:
                self._order[self._order.index(None)], self._laid_out = slot, None
            first = self._order.index(slot) * width
            free = sorted(set(range(first, first + width)) - {row.place for row in slot.rows})
            fresh = [row for row in slot.rows if row.place is None]
            for row, place in zip(fresh, free, strict=False):
                row.place = place
            if fresh:
                self._begin(slot, fresh)

    def _rearrange(self, slots: int, width: int) -> None:
        """Moves the rows that are there to where they are in a step of other sizes."""
        self._order = [*self._live, *[None] * (slots - len(self._live))]
        sources = [0] * (slots * width)
        for at, slot in enumerate(self._live):
            for place, row in enumerate((row for row in slot.rows if row.place is not None), start=at * width):
                assert row.place is not None
                sources[place], row.place = row.place, place
        self._width, self._laid_out, self._parted = width, None, False
        if sources != list(range(len(sources))):
            self.stepper.move_rows(sources, used=self._used())

    def _begin(self, slot: Slot, rows: Sequence[Row]) -> None:
        features = slot.prompt.features
        places = [row.place for row in rows if row.place is not None]
        last = features["input_ids"][-1:], features["position_ids"][..., -1:].view(-1, 1)
        self.stepper.enter(places, *last, slot.states)

    def _used(self) -> int:
        """How many tokens the longest row has."""
        return max((len(row.tokens) for slot in self._live for row in slot.rows), default=0)

    # What they write.

    def _step(self) -> Iterator[Completion]:
        shape, tensors = self._shape(), self.stepper.tensors
        sizes = (shape.slots, shape.pages, shape.longest, shape.users)
        if self._laid_out != sizes:
            tensors.lay_out(shape, [(slot.pages, slot.length) if slot else ([], 0) for slot in self._order])
            self._laid_out = sizes
        if self.constraint is not None:
            tensors.allowed[: shape.rows] = torch.from_numpy(self._allowed(self.constraint, shape.rows))
        written = self._written(shape)
        self._watch()
        for slot in list(self._live):
            rows, slot.rows = slot.rows, []
            for row in rows:
                parts = row.write(*written[row])
                for part in parts:
                    if self.constraint is not None and slot.grammar is not None:
                        part.state = self.constraint.after(slot.grammar, part.state, part.tokens[-1])
                    if part.tokens[-1] not in self.stepper.sampling.ends and len(part.tokens) < self.stepper.room:
                        slot.rows.append(part)
                        continue
                    for one in part.continuations:
                        yield Completion(slot.request, one, [*part.tokens], [*part.log_probs])
            self._parted = self._parted or len({row.place for row in slot.rows}) < len(slot.rows)
            if not slot.rows and not slot.waiting:
                self._live.remove(slot)
                self._order[self._order.index(slot)] = None

    def _written(self, shape: Shape) -> dict[Row, tuple[list[int], list[float]]]:
        """Runs a step; of each row the tokens of its continuations, and their log-probs."""
        # A graph is of rows alone, each of one continuation.
        continued: list[tuple[int, int]] | None = None if self.rounded else []
        where = dict[Row, Sequence[int]]()
        draws = np.ones(shape.rows if self.rounded else sum(slot.in_flight for slot in self._live))
        for slot in self._live:
            for row in slot.rows:
                assert row.place is not None
                where[row] = [row.place]
                if continued is not None:
                    first, count = len(continued), len(row.continuations)
                    where[row] = range(first, first + count)
                    continued += [(row.place, slot.last_token(row))] * count
                if slot.draws is not None:
                    draws[where[row]] = slot.draws[row.continuations, len(row.tokens)]
        is_greedy = self.stepper.sampling.is_greedy
        tokens, log_probs = self.stepper.step(shape, draws=None if is_greedy else draws, continued=continued)
        return {row: ([int(tokens[one]) for one in at], [log_probs[one] for one in at]) for row, at in where.items()}

    def _shape(self) -> Shape:
        pages = self._pages(1 + max(page for slot in self._live for page in (0, *slot.pages)))
        longest = self._pages(max(1, *(len(slot.pages) for slot in self._live), 1))
        own = 1 + max(len(row.tokens) for slot in self._live for row in slot.rows)
        if self.rounded:
            own = min(self.stepper.room, -(-own // OWN_STEP) * OWN_STEP)
        users = max(Counter(slot.pages[0] for slot in self._live if slot.pages).values(), default=1)
        return Shape(len(self._order), self._width, pages, longest, own, self._rows(users))

    def _allowed(self, constraint: TokenConstraint, rows: int) -> np.ndarray:
        """(rows, columns) float32, 0 for what each may write next, else -inf."""
        allowed = np.full((rows, len(constraint.columns)), -np.inf, dtype=np.float32)
        columns = np.asarray(constraint.columns)
        allowed[:, 0] = 0  # a place without a row: a softmax over nothing is NaN
        for slot in self._live:
            assert slot.grammar is not None
            for row in slot.rows:
                ids = constraint.allowed(slot.grammar, row.state, room=self.stepper.room - len(row.tokens))
                allowed[row.place] = -np.inf
                allowed[row.place, np.searchsorted(columns, ids)] = 0
        return allowed

    def _watch(self) -> None:
        pool = self.stepper.pool
        assert pool is not None
        self.peak.bytes = max(self.peak.bytes, pool.bytes_of(pages=pool.pages, rows=pool.rows))
        self.peak.rows = max(self.peak.rows, sum(slot.in_flight for slot in self._live))
        self.peak.steps += 1
