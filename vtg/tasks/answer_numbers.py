"""Finding pairs of times in what a model wrote.

Nothing here raises on a model's text, and every step takes time linear in its length: numbers are found by one pass of
a regular expression whose repetitions are all bounded, and what stands between two numbers is judged only if short.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

_CLOSE_THINK = re.compile(r"</think>", re.IGNORECASE)
_OPEN_THINK = re.compile(r"<think>", re.IGNORECASE)
_OPEN_ANSWER = re.compile(r"<answer>", re.IGNORECASE)
_CLOSE_ANSWER = re.compile(r"</answer>", re.IGNORECASE)

# Every repetition is bounded: a model that writes one digit for ever must not make a match slow.
_NUMBER = r"(?:[0-9]{1,12}(?:\.[0-9]{1,18})?|\.[0-9]{1,18})(?:[eE][-+]?[0-9]{1,3})?"
_BEFORE = r"(?<![\w.])(?<![0-9]:)"  # not the tail of a word, a version number or a clock time
_AFTER = r"(?!\w)(?![.:][0-9])(?!\s?%)"
_SECOND = r"\s{0,2}(?:seconds?|secs?|s)(?!\w)"
_MINUTE = r"\s{0,2}(?:minutes?|mins?|m)(?![^\W0-9])"

NUMBERS_IN_SECONDS = re.compile(
    rf"{_BEFORE}(?:"
    rf"(?:(?P<h>[0-9]{{1,3}}):)?(?P<min>[0-9]{{1,4}}):(?P<sec>[0-5][0-9](?:\.[0-9]{{1,9}}|,[0-9]{{3}})?)(?!\w)(?![.:][0-9])"
    rf"|(?P<m>{_NUMBER}){_MINUTE}(?:\s{{0,2}}(?:and\s)?(?P<ms>{_NUMBER}){_SECOND})?"
    rf"|(?P<n>{_NUMBER})(?:(?P<unit>{_SECOND})|{_AFTER}))",
    re.IGNORECASE,
)
"""Times of the `seconds` form: `3.2`, `3.2s`, `3.2 seconds`, `01:05`, `1:01:05.5`, `1 minute 5 seconds`, `2m`."""

FRACTIONS = re.compile(rf"{_BEFORE}(?P<n>{_NUMBER})(?:\s?(?P<percent>%)|{_AFTER}(?!{_SECOND}))", re.IGNORECASE)
"""Numbers of the `relative` form: `0.123`, `12.3%`; a number with a unit of time is not a fraction."""

INTEGERS = re.compile(rf"{_BEFORE}(?P<n>[0-9]{{1,12}}){_AFTER}(?!{_SECOND})", re.IGNORECASE)
"""Numbers of the `bins` form; a number with decimals or a unit of time is not a bin."""

TOKENS = re.compile(r"<(?P<n>[0-9]{1,6})>")
"""Temporal tokens: `<0>`, `<999>`."""

# White space, brackets, quotes and markdown that models put around a number: [3.2], `3.2`, **3.2**.
_OPEN, _CLOSE = "[\\s\\[({<\"'`*]{0,8}", "[\\s\\])}>\"'`*]{0,8}"
_EXPLICIT = re.compile(
    rf"{_CLOSE}(?:to|until|till|through|[-\u2010-\u2015\u2212~\u2192]{{1,3}}>?"
    r"|[,;.]?\s{0,2}(?:and\s)?(?:it\s)?[\"']?(?:ends?|ending|stops?|finishe?s?)(?:[ _-]?time)?[\"']?"
    r"\s{0,2}(?:at|is|:|=)?(?:\s(?:about|around))?"
    rf"){_OPEN}",
    re.IGNORECASE,
)
_LISTED = re.compile(rf"{_CLOSE}(?:,|;|and|,\s?and){_OPEN}", re.IGNORECASE)
_COMMA = re.compile(r"\s{0,4}[,;]\s{0,4}")
_AND = re.compile(rf"{_CLOSE}and{_OPEN}", re.IGNORECASE)
_COUNTED_WORD = re.compile(r"\s{1,2}(?!(?:and|or|then|also|in|of|as|is|when|while)\b)[^\W\d_]", re.IGNORECASE)
# Longer text between two numbers is a sentence, not a separator; it also bounds the time of a match.
_LONGEST_GAP = 40


@dataclass(frozen=True, slots=True)
class _Atom:
    """One number of the text: its position, its value, and whether it was written as a time."""

    start: int
    end: int
    value: float
    marked: bool = False
    minutes: bool = False  # a bare count of minutes, which lends its unit to a bare number before it ("3 to 5 minutes")


def answer_part(text: str) -> str:
    """The part of a completion that is the answer: without its thinking, and inside its last answer tag if it has one.

    Whatever comes before the last `</think>` is thinking. An answer tag that is never closed runs to the end. With
    neither an answer tag nor a closed think tag, what follows `<think>` is no answer.
    """
    # The last one of each: while it thinks, a model may quote the tags that it was told to use.
    rest = text[_last_end(_CLOSE_THINK, text) :]
    if opened := _last_end(_OPEN_ANSWER, rest):
        return _CLOSE_ANSWER.split(rest[opened:], maxsplit=1)[0]
    return _OPEN_THINK.split(rest, maxsplit=1)[0]


def _last_end(pattern: re.Pattern[str], text: str) -> int:
    """Where the last match of `pattern` ends; 0 without one."""
    end = 0
    for match in pattern.finditer(text):
        end = match.end()
    return end


def read_pairs(text: str, numbers: re.Pattern[str]) -> list[tuple[float, float]]:
    """The pairs of numbers in `text` that are meant as (start, end), in the order written; empty where none is meant.

    Three readings, the first that finds anything holds:
    1. explicit: a number, then `to`, a dash, `until`, `ends at` and the like, a number; `between a and b`; `[a, b]`.
       "2 to 3 people" is dropped where another pair is a time (has a unit, brackets, or no noun after it).
    2. listed: an even number of numbers, parted by nothing but commas, semicolons or `and`.
    3. loose: exactly two numbers, both written as times or parted by a blank alone.
    Readings 2 and 3 look at the numbers written as times (`3.2s`, `01:05`) alone, where there are any.
    """
    atoms = list(_atoms(text, numbers))
    if pairs := _explicit_pairs(text, atoms):
        return [_values(first, second) for first, second in pairs]
    if any(atom.marked for atom in atoms):
        atoms = [atom for atom in atoms if atom.marked]
    listed = len(atoms) % 2 == 0 and all(_joined(text, a, b, _LISTED) for a, b in pairwise(atoms))
    if not listed and not _loose(text, atoms):
        return []
    return [_values(first, second) for first, second in zip(atoms[::2], atoms[1::2], strict=True)]


def _loose(text: str, atoms: list[_Atom]) -> bool:
    if len(atoms) != 2:
        return False
    return all(atom.marked for atom in atoms) or not text[atoms[0].end : atoms[1].start].strip()


def _values(first: _Atom, second: _Atom) -> tuple[float, float]:
    start = first.value * 60 if second.minutes and not first.marked else first.value
    return start, second.value


def _atoms(text: str, numbers: re.Pattern[str]) -> Iterator[_Atom]:
    """Every number of the text, with its sign."""
    previous_end = 0
    for match in numbers.finditer(text):
        start, end = match.span()
        value, marked, minutes = _value(match)
        if _negative(text, previous_end, start):
            value = -value
        yield _Atom(start, end, value, marked, minutes)
        previous_end = end


def _value(match: re.Match[str]) -> tuple[float, bool, bool]:
    """(value, written as a time, written in bare minutes) of one number."""
    groups = match.groupdict()
    if groups.get("sec"):
        hours, minutes, seconds = groups["h"] or 0, groups["min"], groups["sec"].replace(",", ".")
        return float(hours) * 3600 + float(minutes) * 60 + float(seconds), True, False
    if groups.get("m"):
        return float(groups["m"]) * 60 + float(groups["ms"] or 0), True, groups["ms"] is None
    if groups.get("percent"):
        return float(groups["n"]) / 100, True, False
    return float(groups["n"]), bool(groups.get("unit")) or match.re is TOKENS, False


def _negative(text: str, previous_end: int, start: int) -> bool:
    """Whether a minus before a number is its sign, rather than the dash of `3.2-7.5` or of a word."""
    if start == previous_end or text[start - 1] not in "-\u2212":
        return False
    before = text[previous_end : start - 1]
    is_dash = previous_end > 0 and not before.strip()
    return not is_dash and not before[-1:].isalnum()


def _explicit_pairs(text: str, atoms: list[_Atom]) -> list[tuple[_Atom, _Atom]]:
    pairs: list[tuple[_Atom, _Atom]] = []
    i = 0
    while i + 1 < len(atoms):
        if _is_explicit(text, atoms[i], atoms[i + 1]):
            pairs.append((atoms[i], atoms[i + 1]))
            i += 1
        i += 1
    # "2 to 3 people walk in from 4.0 to 6.5": numbers before a noun count things.
    times = [pair for pair in pairs if pair[1].marked or not _COUNTED_WORD.match(text, pair[1].end)]
    return times or pairs


def _is_explicit(text: str, first: _Atom, second: _Atom) -> bool:
    if first.end == second.start or _joined(text, first, second, _EXPLICIT):  # only tokens can touch: `<12><45>`
        return True
    before, after = text[max(0, first.start - 24) : first.start], text[second.end : second.end + 4].lstrip()
    if _joined(text, first, second, _COMMA):
        return before.rstrip()[-1:] in ("[", "(") and after[:1] in ("]", ")")
    return "between" in before.lower() and _joined(text, first, second, _AND)


def _joined(text: str, first: _Atom, second: _Atom, gap: re.Pattern[str]) -> bool:
    """Whether `gap` is all that stands between two numbers (a sign aside)."""
    if second.start - first.end > _LONGEST_GAP:
        return False
    between = text[first.end : second.start]
    if second.value < 0:
        between = between[:-1]
    return gap.fullmatch(between) is not None
