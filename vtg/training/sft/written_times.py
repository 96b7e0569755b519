"""The times in the tokens of an answer: which tokens write them, and which other times could stand in their place."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from vtg.config.task_settings import TaskConfig
from vtg.errors import ConfigError
from vtg.tasks.answer import Codec
from vtg.tasks.answer_forms.bins import BinsCodec
from vtg.tasks.answer_forms.relative import RelativeCodec
from vtg.tasks.answer_forms.seconds import SecondsCodec
from vtg.tasks.span_task import SpanTask
from vtg.tasks.time_vocabulary import time_vocabulary

TRIED_S = 123.4
"""A clip of so many seconds is what a tokenizer is tried on: its times have one digit, several, and zeros in them."""


@dataclass(frozen=True, slots=True)
class TimeGrid:
    """The times that a form of answer can write about one clip: whole numbers of steps, from 0 to `last`.

    Attributes:
        step_s: seconds of a step.
        decimals: digits behind the decimal point of what is written, which is steps / 10^decimals.
        end_steps: what the end of a moment lies behind the number that is written for it: 1 where that is its last bin.
    """

    last: int
    step_s: float
    decimals: int = 0
    end_steps: int = 0

    @classmethod
    def of(cls, codec: Codec, duration_s: float) -> Self:
        """That of a form of answer, for a clip of `duration_s` seconds; the form has passed `TimeReader.of`."""
        if isinstance(codec, SecondsCodec):
            return cls(math.ceil(duration_s * 10**codec.decimals), codec.resolution_s(duration_s), codec.decimals)
        if isinstance(codec, RelativeCodec):
            digits = codec.decimals + 2
            return cls(10**digits, codec.resolution_s(duration_s), digits)
        assert isinstance(codec, BinsCodec)
        return cls(codec.num_bins - 1, codec.resolution_s(duration_s), end_steps=1)


@dataclass(frozen=True, slots=True)
class WrittenTime:
    """A time in an answer's tokens.

    Attributes:
        steps: the number, in steps of the `TimeGrid`.
        start, stop: its tokens are those from `start` to before `stop`: a temporal token, or digits and a point.
    """

    steps: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class TimeReader:
    """Finds times in token ids.

    Attributes:
        times: ids of the temporal tokens in their order; empty where times are written in digits.
        digits: ids of the digits 0 to 9.
        point: id of the decimal point.
    """

    codec: Codec
    times: tuple[int, ...]
    digits: tuple[int, ...]
    point: int

    @classmethod
    def of(cls, task: TaskConfig, tokenizer: Any, *, setting: str) -> Self:
        """The reader of a form of answer.

        Args:
            tokenizer: with the temporal tokens of the form, if it has some.
            setting: what needs it, as an error shall name it.

        Raises:
            ConfigError: a form whose times are not known, or a tokenizer that does not write them digit by digit.
        """
        codec = SpanTask(task).codec
        if not isinstance(codec, SecondsCodec | RelativeCodec | BinsCodec):
            raise ConfigError(
                f"{setting} needs to know which times an answer can name, and of task.answer = {task.answer!r} that is "
                "not known; set task=seconds, relative, bins or tokens, or loss=cross_entropy"
            )
        times, known = time_vocabulary(tokenizer, task), tokenizer.get_vocab()
        digits = tuple(known.get(str(digit), -1) for digit in range(10))
        reader = cls(codec, times.ids if times else (), digits, known.get(".", -1))
        text = codec.encode([(0.012 * TRIED_S, 0.083 * TRIED_S), (0.5 * TRIED_S, TRIED_S)], TRIED_S)
        wanted = [int(number.replace(".", "")) for number in re.findall(r"\d+(?:\.\d+)?", text)]
        if [time.steps for time in reader.read(tokenizer(text, add_special_tokens=False)["input_ids"])] != wanted:
            raise ConfigError(
                f"{setting} needs an answer's times as tokens of single digits, and this model's tokenizer writes "
                f"{text!r} otherwise; set loss=cross_entropy, or take another model"
            )
        return reader

    def read(self, ids: Sequence[int]) -> list[WrittenTime]:
        """The times in the tokens of an answer, in their order: start, end, start, end …"""
        if self.times:
            steps_of = {token: steps for steps, token in enumerate(self.times)}
            return [WrittenTime(steps_of[one], at, at + 1) for at, one in enumerate(ids) if one in steps_of]
        found, at = [], 0
        decimals = TimeGrid.of(self.codec, TRIED_S).decimals
        while at < len(ids):
            stop = self._digits_end(ids, at)
            if stop > at and decimals and stop < len(ids) and ids[stop] == self.point:
                stop = self._digits_end(ids, stop + 1)
            if stop > at:
                written = (self.digits.index(one) for one in ids[at:stop] if one != self.point)
                found.append(WrittenTime(int("".join(map(str, written))), at, stop))
            at = max(stop, at + 1)
        return found

    def _digits_end(self, ids: Sequence[int], at: int) -> int:
        while at < len(ids) and ids[at] in self.digits:
            at += 1
        return at
