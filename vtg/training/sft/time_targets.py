"""What the losses on times compare a model with, for the answers of one batch."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch

from vtg.data.training_collator import LabelledAnswer
from vtg.tasks.all_tasks import SPAN
from vtg.training.sft.soft_targets import END, Neighbours
from vtg.training.sft.written_times import TimeGrid, TimeReader, WrittenTime


@dataclass(frozen=True, slots=True)
class TimeTargets:
    """The T tokens that choose between times, of N times that A answer tokens hold.

    Attributes:
        rows: (T,) int64: which of the A tokens.
        candidates: (T, C) int64: ids of the tokens that could stand there, C of them.
        written: (T,) int64: which of the candidates the answer has.
        shares: (T, C) float32: the soft target over these.
        places: (T, D) float32: what each of the first D of them, all that are digits or times, adds to the number that
            is written, in lengths of its clip.
        counts: (T,) bool: whether the row adds to the number; the one that ends its whole part does not.
        time_of: (T,) int64: which of the N times.
        added: (N,) float32: what the time lies behind the number, in lengths of the clip.
        true: (N,) float32: the time, in lengths of the clip. A start and its end follow each other.
    """

    rows: torch.Tensor
    candidates: torch.Tensor
    written: torch.Tensor
    shares: torch.Tensor
    places: torch.Tensor
    counts: torch.Tensor
    time_of: torch.Tensor
    added: torch.Tensor
    true: torch.Tensor

    def to(self, device: torch.device) -> Self:
        """The same on a device."""
        return type(self)(*(getattr(self, one.name).to(device, non_blocking=True) for one in fields(self)))

    @classmethod
    def of(cls, answers: Sequence[LabelledAnswer], reader: TimeReader, *, sigma_s: float) -> Self:
        """Those of answers whose tokens follow each other, of a soft target of `sigma_s` seconds."""
        made, first = _Rows(reader, sigma_s), 0
        for answer in answers:
            if answer.task == SPAN:  # the times of other answers stand in other forms
                made.add(answer, first)
            first += len(answer.ids)
        times = len(reader.times)

        def table(rows: list[torch.Tensor], columns: int) -> torch.Tensor:
            return torch.stack(rows) if rows else torch.zeros(0, columns)

        return cls(
            rows=torch.tensor(made.rows, dtype=torch.int64),
            candidates=table(made.candidates, times or END + 1).long(),
            written=torch.tensor(made.written, dtype=torch.int64),
            shares=table(made.shares, times or END + 1),
            places=table(made.places, times or END),
            counts=torch.tensor(made.counts, dtype=torch.bool),
            time_of=torch.tensor(made.time_of, dtype=torch.int64),
            added=torch.tensor(made.added, dtype=torch.float32),
            true=torch.tensor(made.true, dtype=torch.float32),
        )


class _Rows:
    """The rows of `TimeTargets` while they are collected."""

    def __init__(self, reader: TimeReader, sigma_s: float) -> None:
        self.reader, self.sigma_s = reader, sigma_s
        self.all_times = torch.tensor(reader.times)
        self.rows: list[int] = []
        self.candidates: list[torch.Tensor] = []
        self.written: list[int] = []
        self.shares: list[torch.Tensor] = []
        self.places: list[torch.Tensor] = []
        self.counts: list[bool] = []
        self.time_of: list[int] = []
        self.added: list[float] = []
        self.true: list[float] = []

    def add(self, answer: LabelledAnswer, first: int) -> None:
        """The times of an answer whose tokens begin at `first`."""
        grid = TimeGrid.of(self.reader.codec, answer.duration_s)
        length, times = answer.duration_s / grid.step_s, self.reader.read(answer.ids)
        assert len(times) % 2 == 0, f"{len(times)} times in an answer: {answer.ids}"
        for at, time in enumerate(times):
            is_end = at % 2 == 1
            # By then the start is known, and an answer that ends before it cannot be read.
            low = times[at - 1].steps + 1 - grid.end_steps if is_end else 0
            around = Neighbours(grid, time.steps, self.sigma_s / grid.step_s, low)
            if self.reader.times:
                self._add_token(time, first, around, length)
            else:
                self._add_digits(answer.ids, time, first, around, length)
            behind = grid.end_steps if is_end else 0
            self.added.append(behind / length)
            self.true.append((time.steps + behind) / length)

    def _add_token(self, time: WrittenTime, first: int, around: Neighbours, length: float) -> None:
        count = len(self.all_times)
        self._add_row(first + time.start, time.steps, True)
        self.candidates.append(self.all_times)
        self.shares.append(around.over_grid(count))
        self.places.append(torch.arange(count) / length)

    def _add_digits(self, ids: Sequence[int], time: WrittenTime, first: int, around: Neighbours, length: float) -> None:
        whole = len(str(time.steps // 10**around.grid.decimals))
        power = whole + around.grid.decimals
        for at, shares in enumerate(around.over_digits(), start=time.start):
            ends = at == time.start + whole
            if at == len(ids):  # nothing follows, so that nothing ends it: not so in a whole answer, which has its end
                continue
            power -= not ends
            following = ids[at] if ends else ids[min(time.start + whole, len(ids) - 1)]
            self._add_row(first + at, END if ends else self.reader.digits.index(ids[at]), not ends)
            self.candidates.append(torch.tensor([*self.reader.digits, following]))
            self.shares.append(torch.tensor(shares))
            self.places.append(torch.arange(END) * (0.0 if ends else 10**power / length))

    def _add_row(self, row: int, written: int, counts: bool) -> None:
        self.rows.append(row)
        self.written.append(written)
        self.counts.append(counts)
        self.time_of.append(len(self.true))
