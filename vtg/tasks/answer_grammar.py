"""The answers that can be read, as what may follow what has been written: for decoding that can write nothing else.

Every form writes times as numbers of its grid, so that a grammar is a moment's pieces (numbers and the text around
them) and the bounds of the numbers: what it lets through is in the clip, and ends after it starts.
"""

from dataclasses import dataclass

from vtg.tasks.answer import MAX_MOMENTS, NO_MOMENT, SEPARATOR

State = tuple[int, int, str, int]
"""Moments before this one; the piece of it that is being written; what is written of that; the moment's start in grid
steps. After the last piece a moment is complete, and what is written is a part of the separator."""

BEGIN: State = (0, 0, "", 0)

# In place of a moment's piece: that there is none is being written.
_NONE = -1


@dataclass(frozen=True, slots=True)
class AnswerGrammar:
    """What may be written of an answer, symbol by symbol: a character, or a temporal token as a whole.

    Attributes:
        pieces: of a moment, in order; None stands for a number, of which there are two.
        last: the largest number, in grid steps.
        decimals: a number is written as steps / 10^decimals, with so many digits after the point.
        least: grid steps from the start of a moment to its end.
        symbols: numbers are temporal tokens `<12>`.
        may_be_none: the answer may be that there is no moment.
    """

    pieces: tuple[str | None, ...]
    last: int
    decimals: int = 0
    least: int = 0
    symbols: bool = False
    may_be_none: bool = False

    @property
    def alphabet(self) -> frozenset[str]:
        """The characters that texts of this grammar are made of, where they are no temporal tokens."""
        texts = [SEPARATOR, *(piece for piece in self.pieces if piece), NO_MOMENT * self.may_be_none]
        numbers = "" if self.symbols else "0123456789" + "." * bool(self.decimals)
        return frozenset("".join([*texts, numbers]))

    @property
    def longest(self) -> int:
        """Symbols of the longest moment, and of the text that there is none."""
        number = 1 if self.symbols else max(len(str(self.last)), self.decimals + 1) + bool(self.decimals)
        moment = sum(number if piece is None else len(piece) for piece in self.pieces)
        return max(moment, len(NO_MOMENT) * self.may_be_none)

    def step(self, state: State, symbol: str, *, more: bool = True) -> State | None:
        """The state after one more symbol; None where no answer goes on so. `more`: another moment may begin."""
        moments, piece, written, start = state
        longer = written + symbol
        if piece == 0 and not moments and not written and self.may_be_none and symbol == NO_MOMENT[0]:
            return 0, _NONE, symbol, 0
        if piece == _NONE:
            return (0, _NONE, longer, 0) if NO_MOMENT.startswith(longer) else None
        if piece == len(self.pieces):
            if not (written or (more and moments + 1 < MAX_MOMENTS)) or not SEPARATOR.startswith(longer):
                return None
            return (moments + 1, 0, "", 0) if longer == SEPARATOR else (moments, piece, longer, start)
        text = self.pieces[piece]
        if text is not None:
            done = longer == text
            return (moments, piece + done, "" if done else longer, start) if text.startswith(longer) else None
        low, high = self._bounds(state)
        if self.symbols:
            value = int(symbol[1:-1]) if symbol[:1] == "<" and symbol[1:-1].isdecimal() else -1
            return (moments, piece + 1, "", value) if low <= value <= high else None
        if reaches(longer, low, high, decimals=self.decimals):
            return moments, piece, longer, start
        value = self._value(written, low, high)
        return None if value is None else self.step((moments, piece + 1, "", value), symbol, more=more)

    def may_end(self, state: State) -> bool:
        """Whether the answer may end here."""
        _, piece, written, _ = state
        if piece == _NONE:
            return written == NO_MOMENT
        if piece == len(self.pieces) - 1 and self.pieces[piece] is None:
            return self._value(written, *self._bounds(state)) is not None
        return piece == len(self.pieces) and not written

    def _bounds(self, state: State) -> tuple[int, int]:
        """The numbers that may stand here: a start leaves room for its end, an end comes after its start."""
        _, piece, _, start = state
        is_start = None not in self.pieces[:piece]
        return (0, self.last - self.least) if is_start else (start + self.least, self.last)

    def _value(self, text: str, low: int, high: int) -> int | None:
        """The number that `text` is, where it is whole and from `low` to `high` grid steps."""
        _, _, rest = text.partition(".")
        if not reaches(text, low, high, decimals=self.decimals) or len(rest) != self.decimals:
            return None
        value = int(text.replace(".", ""))
        return value if low <= value <= high else None


def reaches(text: str, low: int, high: int, *, decimals: int) -> bool:
    """Whether some number from `low` to `high` steps of 10^-decimals is written as `text` and what may follow."""
    whole, point, rest = text.partition(".")
    digits = whole + rest
    if not (whole and digits.isascii() and digits.isdecimal()) or (whole[0] == "0" and len(whole) > 1):
        return False
    if point:
        unit = 10 ** (decimals - len(rest)) if len(rest) <= decimals else 0
        return bool(unit and decimals) and int(digits) * unit <= high and (int(digits) + 1) * unit > low
    number, unit = int(whole), 10**decimals
    while number * unit <= high:  # more digits before the point: each makes the number ten times as large
        if (number + 1) * unit > low:
            return True
        if number == 0:
            break
        unit *= 10
    return False
