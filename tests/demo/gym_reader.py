"""Answers the gym's questions from pixels alone: what independent eyes and an independent reading of English say."""

import re

import numpy as np

from vtg.demo.world import COLORS, SHAPES

Runs = dict[tuple[str, str], list[np.ndarray]]
"""Of each kind, the frames of each of its appearances, (T,) bool."""

NUMBERS = {"first": 0, "second": 1, "third": 2, "fourth": 3, "last": -1}


def appearances(frames: np.ndarray) -> Runs:
    """When each coloured kind is visible in `frames` (T, H, W, 3) uint8, one entry for each time that it appears."""
    half = frames.shape[1] // 2
    seen: dict[tuple[str, str], np.ndarray] = {}
    for top in (0, half):
        for left in (0, half):
            corner = frames[:, top : top + half, left : left + half].astype(np.int16)
            for color, value in COLORS.items():
                # Compression moves colours a little; those of the world are at least 110 apart.
                near = np.abs(corner - np.array(value)).max(-1) < 70
                for at in np.flatnonzero(near.sum((1, 2)) > 50):
                    seen.setdefault((color, shape_of(near[at])), np.zeros(len(frames), bool))[at] = True
    return {kind: _runs(visible) for kind, visible in seen.items()}


def shape_of(mask: np.ndarray) -> str:
    """Which shape the pixels of a colour make, by how they fill the box around them."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    third = len(box) // 3
    if box.mean() > 0.9:
        return "square"
    if box.mean() > 0.67:
        return "circle"
    return "triangle" if box[-third:].mean() > box[:third].mean() + 0.25 else "cross"


def answer(sentence: str, found: Runs) -> list[np.ndarray]:
    """The frames of each moment that a sentence asks for; none where it does not happen."""
    kinds = [(color, shape) for color, shape in re.findall(rf"({'|'.join(COLORS)}) ({'|'.join(SHAPES)})", sentence)]
    if mark := re.search(r"\b(before|after)\b", sentence):
        asked, other = kinds if mark.start() > 0 else kinds[::-1]
        (reference,) = found[other]
        first, last = np.flatnonzero(reference)[[0, -1]]
        asked_for = found.get(asked, [])
        if mark[1] == "before":
            return [run for run in asked_for if np.flatnonzero(run)[-1] < first]
        return [run for run in asked_for if np.flatnonzero(run)[0] > last]
    (kind,) = kinds
    runs = found.get(kind, [])
    if nth := next((word for word in NUMBERS if word in sentence.split()), None):
        return [runs[NUMBERS[nth]]] if NUMBERS[nth] < len(runs) else []
    assert sentence.startswith("every ") or len(runs) <= 1, f"{sentence!r} leaves open which of {len(runs)} is meant"
    return runs


def _runs(visible: np.ndarray) -> list[np.ndarray]:
    """The stretches of (T,) bool, each as a (T,) bool of its own."""
    number = np.cumsum(np.diff(visible.astype(np.int8), prepend=0) == 1)
    return [visible & (number == at) for at in range(1, int(number[-1]) + 1)]
