"""How the events of a synthetic world are spoken of: plainly while the tiny model is pretrained; in the demo data by
sentences that name another event too, so that fine-tuning has something real to learn: which of the two is meant.
"""

import numpy as np

from vtg.demo.world import COLORS, SHAPES, Event

PLAIN_SENTENCES = (
    "the {color} {shape}",
    "a {color} {shape} is visible",
    "the {color} {shape} can be seen",
    "a {color} {shape} is in the room",
)
DEMO_SENTENCES = ("not the {other} but the {asked}",)

SYNONYMS = {
    "red": "crimson",
    "green": "emerald",
    "blue": "sapphire",
    "yellow": "golden",
    "magenta": "fuchsia",
    "cyan": "turquoise",
    "circle": "disc",
    "square": "tile",
    "triangle": "wedge",
    "cross": "plus",
}
"""Words the tokenizer knows and the tiny model has never been taught: for data sets harder than the demo."""

SYNONYM_SENTENCES = (
    "the {color} {shape} is on",
    "someone shows the {color} {shape}",
    "a {color} {shape} hangs there",
    "the {color} {shape} comes up and stays",
    "we look at a {color} {shape}",
)


def plain_sentence(event: Event, rng: np.random.Generator) -> str:
    """A sentence for an event in the form the tiny model is pretrained on."""
    return str(rng.choice(PLAIN_SENTENCES)).format(color=event.color, shape=event.shape)


def demo_sentence(event: Event, other: Event, rng: np.random.Generator) -> str:
    """A sentence of the demo data, which asks for `event` and names `other` beside it."""
    names = {"asked": f"{event.color} {event.shape}", "other": f"{other.color} {other.shape}"}
    return str(rng.choice(DEMO_SENTENCES)).format(**names)


def vocabulary() -> list[str]:
    """Sentences to learn a tokenizer from: plain ones, and ones with synonyms."""
    plain = [s.format(color=c, shape=h) for s in PLAIN_SENTENCES for c in COLORS for h in SHAPES]
    other = [s.format(color=SYNONYMS[c], shape=SYNONYMS[h]) for s in SYNONYM_SENTENCES for c in COLORS for h in SHAPES]
    return plain + other
