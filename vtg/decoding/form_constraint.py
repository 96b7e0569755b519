"""Decoding that writes JSON of a form and nothing else: its fixed text, times within bounds, and texts.

Fixed text and the end of a text may be cut into tokens in every way, so that a model writes them as it is used to.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from transformers import ProcessorMixin

from vtg.data.encoding import turn_end_id
from vtg.decoding.constrained import BLANK
from vtg.tasks.answer_grammar import State, reaches
from vtg.tasks.json_form import DECIMALS, Fixed, JsonForm

# Of a list: a model that finds no end of it would never end.
MAX_ITEMS = 64

# Bytes that are no characters, as byte-level vocabularies write them; JSON texts hold none.
_CONTROL = frozenset(map(chr, range(0x100, 0x120)))


class Spelling:
    """How the tokens of a vocabulary are spelled.

    Attributes:
        ids: text → the token that is it; special tokens are none.
        free: tokens that may stand anywhere in a JSON text, ascending; visible: those of them that are not blank.
        quoting: id → spelling of tokens that hold a quote.
    """

    def __init__(self, processor: ProcessorMixin) -> None:
        tokenizer: Any = processor.tokenizer  # type: ignore[attr-defined]
        self.end = turn_end_id(processor)
        special = {*tokenizer.get_added_vocab().values(), *tokenizer.all_special_ids}
        entries = {text: number for text, number in tokenizer.get_vocab().items() if number not in special}
        self.ids = {text.replace(BLANK, " "): number for text, number in entries.items()}
        plain = {text: at for text, at in self.ids.items() if text and "\\" not in text and not _CONTROL & set(text)}
        self.free = tuple(sorted(at for text, at in plain.items() if '"' not in text))
        self.visible = tuple(sorted(at for text, at in plain.items() if '"' not in text and text.strip()))
        self.quoting = {at: text for text, at in plain.items() if '"' in text}
        self.text_of = {at: text for text, at in self.ids.items()}


class FormConstraint:
    """What a model may write as an answer of a form; states are (item, piece, written of the piece, last number).

    Attributes:
        columns: ids of all tokens that an answer can hold and of the one that ends it, ascending.
    """

    def __init__(self, form: JsonForm, spelling: Spelling) -> None:
        self.form, self.spelling, self.end = form, spelling, spelling.end
        self._free = frozenset(spelling.free)
        fixed = {way for piece in form.pieces if isinstance(piece, Fixed) for way, _ in piece.ways}
        parts = {text[at : at + size] for text in fixed for at in range(len(text)) for size in range(1, len(text) + 1)}
        known = {spelling.ids[part] for part in parts | set("0123456789.") if part in spelling.ids}
        self.columns = sorted(known | self._free | spelling.quoting.keys() | {self.end})
        # What closes a text before one of some ways, and what may stand in it or close it: nearly the whole vocabulary.
        self._closing = cache(lambda ways: tuple(sorted(_closing(spelling, ways))))
        self._going_on = cache(lambda ways: np.sort([*spelling.free, *self._closing(ways)]))

    def grammar(self, duration_s: float) -> JsonForm:
        """The form, whatever the clip."""
        return self.form

    def allowed(self, grammar: JsonForm, state: State | None, *, room: int) -> Sequence[int] | np.ndarray:
        """Ids of the tokens that may come next; of a state of None, which is an answer that has ended, the end alone.

        `room`: how many tokens may still be written, with the one that ends the answer.
        """
        if state is None or state[1] == len(grammar.pieces):
            return (self.end,)
        _, piece, written, _ = state
        if grammar.pieces[piece] == "number":
            ids = self.spelling.ids
            return tuple(sorted(ids[one] for one in "0123456789." if self._number(state, written + one)))
        if grammar.pieces[piece] == "text":
            ways = self._ways((state[0], piece + 1, "", state[3]), room=room)
            # As long as the text that ends the answer may be written character by character.
            must_end = len(written) >= grammar.text_tokens or room <= 2 + max(map(len, ways))
            if not written:
                return self.spelling.visible
            return self._closing(ways) if must_end else self._going_on(ways)
        begun = [way for way in self._ways(state, room=room) if way.startswith(written)]
        # A further item that was begun while there was room for it goes on, although there is less by now.
        begun = begun or [way for way, _ in grammar.pieces[piece].ways if way.startswith(written)]  # type: ignore[union-attr]
        rest = [way[len(written) :] for way in begun]
        parts = {way[:size] for way in rest for size in range(1, len(way) + 1)}
        return tuple(sorted(self.spelling.ids[part] for part in parts if part in self.spelling.ids))

    def after(self, grammar: JsonForm, state: State | None, token: int) -> State | None:
        """The state after a token that was allowed; None after the end."""
        if state is None or token == self.end:
            return None
        item, piece, written, last = state
        text = self.spelling.text_of[token]
        if grammar.pieces[piece] == "number":
            return self._after_number(state, written + text)
        if grammar.pieces[piece] == "text":
            if token in self._free:
                return item, piece, written + ".", last  # how many, not which: what may follow is the same
            return self._after_fixed((item, piece + 1, text[text.index('"') :], last))
        return self._after_fixed((item, piece, written + text, last))

    def _ways(self, state: State, *, room: int) -> tuple[str, ...]:
        """The fixed texts that may stand at a piece: a further item, where there is one, needs room to end."""
        item, piece, _, last = state
        fixed = self.form.pieces[piece]
        assert isinstance(fixed, Fixed)
        fits = last + self.form.least <= self.form.high and room > self._longest + self.form.text_tokens
        more = fits and item + 1 < MAX_ITEMS
        return tuple(way for way, after in fixed.ways if more or piece == 0 or after != self.form.again)

    @property
    def _longest(self) -> int:
        """Characters of an item but its text, about."""
        ways = [max(len(way) for way, _ in piece.ways) for piece in self.form.pieces if isinstance(piece, Fixed)]
        return sum(ways) + 2 * (len(str(self.form.high)) + 1)

    def _number(self, state: State, text: str) -> bool:
        low, high = self._bounds(state)
        return reaches(text, low, high, decimals=DECIMALS)

    def _bounds(self, state: State) -> tuple[int, int]:
        _, piece, _, last = state
        low, high, least = max(last, self.form.low), self.form.high, self.form.least
        is_start = "number" not in self.form.pieces[:piece]
        return (low, high - least) if is_start else (low + least, high)

    def _after_number(self, state: State, written: str) -> State:
        item, piece, _, last = state
        if len(written.partition(".")[2]) < DECIMALS:
            return item, piece, written, last
        return item, piece + 1, "", int(written.replace(".", ""))

    def _after_fixed(self, state: State) -> State:
        item, piece, written, last = state
        fixed = self.form.pieces[piece]
        assert isinstance(fixed, Fixed)
        after = dict(fixed.ways).get(written)
        if after is None:
            return state
        return item + (piece > 0 and after == self.form.again), after, "", last


def _closing(spelling: Spelling, ways: tuple[str, ...]) -> Iterator[int]:
    """Tokens that end a text with a part of what may follow it, and perhaps with its last characters."""
    for number, text in spelling.quoting.items():
        if any(way.startswith(text[text.index('"') :]) for way in ways):
            yield number
