"""How published evaluators find windows in an answer that is text: their own rules, bit by bit, beside which the
project's parser (`vtg.tasks.answer_numbers`) reads more forms and refuses more. None raises on any text.
"""

import re

Windows = list[tuple[float, float]]

# The scripts' `\d+\.?\d*`, which finds the same numbers: possessive (`++`), and never from within one, because a model
# that repeats a digit a thousand times would keep theirs for minutes.
_NUMBER = r"(?<!\d)(\d++(?:\.\d*+)?+)"

_TIME_R1 = re.compile(rf"{_NUMBER} (?:to|and) {_NUMBER}")
_CLOCK = re.compile(r"\b(\d{1,2}:\d{2}:\d{2}(?:\.\d+)?|\d{1,2}:\d{2}(?:\.\d+)?)\b")
_PAIRS = (re.compile(rf"{_NUMBER}\s*-\s*{_NUMBER}"), re.compile(rf"{_NUMBER}\s+to\s+{_NUMBER}"))
_TIMELENS_NUMBER = re.compile(r"\b(\d+\.\d+|\d+)\b")
_LMMS_EVAL_NUMBER = re.compile(r"\b\d++(?:\.\d*+\b|\b)")
# Numbers may have a sign where TimeLens2 reads sets.
_SIGNED = r"((?:-|(?<!\d))\d++(?:\.\d++)?+)"
_SETS = (
    re.compile(r"\[\s*(-?\d++(?:\.\d++)?+)\s*,\s*(-?\d++(?:\.\d++)?+)\s*\]"),
    re.compile(rf"{_SIGNED}\s*(?:-|to)\s*{_SIGNED}"),
)
_SIGNED_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)


def time_r1(text: str) -> Windows:
    """The last `A to B` or `A and B`, with single blanks, anywhere in the text."""
    found = _TIME_R1.findall(text)
    return [(float(found[-1][0]), float(found[-1][1]))] if found else []


def timelens(text: str) -> Windows:
    """All clock times in pairs; else all `A - B`; else all `A to B`; else all numbers in pairs."""
    return _timelens(text, _TIMELENS_NUMBER)


def lmms_eval(text: str) -> Windows:
    """As `timelens`, but a number may end with its point."""
    return _timelens(text, _LMMS_EVAL_NUMBER)


def timelens2(text: str) -> Windows:
    """As `timelens`, in the last answer tag where there is one."""
    answers = _ANSWER.findall(text)
    return timelens(answers[-1].strip() if answers else text)


def timelens2_sets(text: str) -> Windows:
    """All `[A, B]`; else all `A - B` and `A to B`; else all numbers in pairs: TimeLens2's for VUE-TR and other sets."""
    text = text.lower()
    for pattern in _SETS:
        if found := pattern.findall(text):
            return [(float(start), float(end)) for start, end in found]
    return _in_pairs([float(value) for value in _SIGNED_NUMBER.findall(text)])


def _timelens(text: str, number: re.Pattern[str]) -> Windows:
    text = text.lower()
    if windows := _in_pairs([_seconds(clock) for clock in _CLOCK.findall(text)]):
        return windows
    for pattern in _PAIRS:
        if found := pattern.findall(text):
            return [(float(start), float(end)) for start, end in found]
    return _in_pairs([float(value) for value in number.findall(text)])


def _seconds(clock: str) -> float:
    seconds = 0.0
    for part in clock.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def _in_pairs(values: list[float]) -> Windows:
    """Neighbours in pairs; a last one without a partner is passed over."""
    return list(zip(values[::2], values[1::2], strict=False))
