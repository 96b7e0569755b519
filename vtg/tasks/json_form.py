"""Answers in JSON of a form: texts, or items of two times in seconds and a text, one after another."""

from dataclasses import dataclass
from typing import Literal

Slot = Literal["number", "text"]

DECIMALS = 1
"""Of the seconds: as precise as the times that models are shown."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """What is written as it stands: one of some texts, each with the number of the piece after it."""

    ways: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonForm:
    """What an answer is written in, piece by piece: fixed text, numbers, and texts of at most so many tokens.

    A text holds neither quotes nor backslashes; the fixed text after it begins with the quote that ends it.

    Attributes:
        pieces: of an answer. After the last one it is complete.
        low, high: bounds of numbers, in steps of 10^-DECIMALS. Each is at least as large as the one before it.
        least: steps from a start to its end, the numbers that stand second, fourth and so on.
        text_tokens: the most that a text has: a model that finds no end would fill the whole answer with it.
        again: the number of the piece at which a further item begins; None where there is one alone.
    """

    pieces: tuple[Fixed | Slot, ...]
    low: int = 0
    high: int = 0
    least: int = 0
    text_tokens: int = 512
    again: int | None = None


def text_form(name: str) -> JsonForm:
    """`{"name": "…"}`"""
    return JsonForm(pieces=(Fixed(((f'{{"{name}": "', 1),)), "text", Fixed((('"}', 3),))))


def spans_form(low_s: float, high_s: float, *, least_s: float) -> JsonForm:
    """`[{"start": 0.0, "end": 1.0, "text": "…"}, …]`: times from `low_s` to `high_s`, each item after the one before.

    `least_s`: every item is longer. Where the bounds leave no room for an item, the list is empty.
    """
    scale = 10**DECIMALS
    low, high = -int(-low_s * scale // 1), int(high_s * scale + 1e-6)
    least = int(least_s * scale) + 1
    opened = "[]" if high - low < least else '[{"start": '
    return JsonForm(
        pieces=(
            Fixed(((opened, 7 if opened == "[]" else 1),)),
            "number",
            Fixed(((', "end": ', 3),)),
            "number",
            Fixed(((', "text": "', 5),)),
            "text",
            Fixed((('"}]', 7), ('"}, {"start": ', 1))),
        ),
        low=low,
        high=high,
        least=least,
        text_tokens=64,  # of one short sentence
        again=1,
    )
