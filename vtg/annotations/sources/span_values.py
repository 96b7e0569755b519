"""Times and spans in the forms that annotation files write them: numbers, text, clock times, one span or several."""

import math
import re
from typing import Any

from vtg.annotations.sources.source_row import is_number

_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)")
_TIME = r"\d+(?::\d{1,2}){1,2}(?:\.\d+)?|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
# "3.5-7", "3.5 to 7 s", "[3.5, 7]", "(3.5, 7)", "0:03 - 0:07", "from 3.5s to 7s".
_PAIR = re.compile(
    rf"(?<!\d)(?P<start>{_TIME})\s*(?:s|sec|seconds)?\s*(?:-|\u2013|\u2014|~|,|;|\bto\b|\band\b)\s*(?P<end>{_TIME})",
    re.IGNORECASE,
)


def number_of(value: object) -> float | None:
    """Seconds from a JSON number, a number in text, or a clock time; None for what is none, NaN among it."""
    if is_number(value):
        number = float(value)  # type: ignore[arg-type]
    elif isinstance(value, str):
        text = value.strip().removesuffix("s").removesuffix(" ")
        if clock := _CLOCK.fullmatch(text):
            hours, minutes, seconds = clock.groups(default="0")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        try:
            # The decimal comma of spreadsheets; a thousands separator would make more than one group.
            number = float(re.sub(r"^(-?\d+),(\d+)$", r"\1.\2", text))
        except ValueError:
            return None
    else:
        return None
    return number if math.isfinite(number) else None


def spans_of_text(text: str) -> list[list[float]]:
    """The pairs of times that a text names, in its order."""
    pairs = ((number_of(pair["start"]), number_of(pair["end"])) for pair in _PAIR.finditer(text))
    return [[start, end] for start, end in pairs if start is not None and end is not None]


def span_list(value: Any) -> list[Any] | None:
    """Spans, each a list of two values of any kind, from one span, a list of them, or text; None for anything else."""
    if isinstance(value, str):
        return spans_of_text(value) or None
    if not isinstance(value, list | tuple) or not value:
        return None
    if len(value) == 2 and not any(isinstance(time, list | tuple | dict) for time in value):
        if all(isinstance(time, str) and number_of(time) is None for time in value):
            return [span for text in value for span in spans_of_text(text)] or [list(value)]
        return [list(value)]
    spans: list[Any] = []
    for span in value:
        if isinstance(span, str) and number_of(span) is None:
            spans += spans_of_text(span) or [span]
        elif isinstance(span, dict):
            spans.append([_of(span, "start", "begin", "st"), _of(span, "end", "stop", "ed")])
        else:
            spans.append(list(span) if isinstance(span, list | tuple) else span)
    return spans


def _of(span: dict[str, Any], *names: str) -> Any:
    return next((span[key] for name in names for key in (name, f"{name}_time", f"{name}_s") if key in span), None)
