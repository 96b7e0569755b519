"""Which published form a file is in, by how it begins."""

from collections.abc import Sequence
from dataclasses import dataclass

from vtg.annotations.sources import BENCHMARKS, SOURCES, forms_of, own_rows
from vtg.annotations.sources.file_entries import head_of
from vtg.annotations.sources.source_row import Head

OWN_ROWS = "rows"
"""The form of vtg's own rows, which needs no name."""


@dataclass(frozen=True)
class Recognized:
    """The forms that a file's begin fits, what it looks like, in words, and whether its entries tell a duration.

    A file of no other form whose columns have usual names is one of `rows`. `fault` is that of `Head`.
    """

    forms: tuple[str, ...]
    looks: str
    has_durations: bool
    has_entries: bool = True
    fault: str | None = None


def recognize(path: str, *, name: str | None = None) -> Recognized:
    """The forms that fit, among those of a benchmark where one is named. Raises OSError when it cannot be opened."""
    head = head_of(path)
    wanted: Sequence[str] = (
        forms_of(name) if name is not None else tuple(form for form, source in SOURCES.items() if not source.by_name)
    )
    forms = tuple(form for form in wanted if head.first and SOURCES[form].fits(head))
    if not forms and OWN_ROWS in wanted and own_rows.has_usual_names(head):
        forms = (OWN_ROWS,)
    has_durations = any(head.have(key) for key in ("duration", "video_duration"))
    return Recognized(forms, looks_like(head), has_durations, bool(head.first), head.fault)


def looks_like(head: Head) -> str:
    """A file's begin in a few words, for messages."""
    if not head.first:
        return "a file without rows"
    if head.shape == "text":
        return f"lines such as {head.first[0][1][:50]!r}"
    if head.shape == "table":
        return f"a table of the columns {', '.join(head.keys[:8])}"
    keys = next((list(value) for value in head.objects()), [])
    inner = f" of objects with {', '.join(map(repr, keys[:6]))}" if keys else ""
    where = f"an object whose {head.inside!r} holds entries" if head.inside else f"an {head.shape}"
    return ("lines" if head.shape == "lines" else where) + inner


def names() -> list[str]:
    """Every name that FORMAT can be, benchmarks first."""
    return list(dict.fromkeys([*BENCHMARKS, *SOURCES]))
