"""Lists of videos and their classes, `path label` or `path,label`, as V-JEPA and VideoMAE read Kinetics.

A label is a class's name, or its number where a file `*_classes.txt` or `*_labels.txt` beside names it (`12 archery`).
"""

import re
from collections.abc import Iterator

from vtg.annotations.sources.source_row import Entry, Found, FoundRow, Head, NoRow

QUESTION = "Which action is shown in the video?"
NAMES = ("*_classes.txt", "*_labels.txt")

# After a comma a label may have blanks in it; paths may have them in either form.
_LINE = re.compile(r"\s*(\S.*\.(?:mp4|avi|mkv|webm|mov|m4v))(?:\s*[,;]\s*(\S.*?)|\s+(\S+))\s*", re.IGNORECASE)


def fits(head: Head) -> bool:
    return head.shape in ("text", "table") and head.most(lambda value: _LINE.fullmatch(_line(value)))


def rows(entry: Entry) -> Iterator[Found]:
    found = _LINE.fullmatch(_line(entry.value))
    if found is None:
        yield NoRow("line-format", f"{_line(entry.value)[:60]!r} is not `VIDEO LABEL`")
        return
    label = found[2] or found[3]
    answer = str(entry.beside.get(label, label))
    yield FoundRow(video=found[1], query=QUESTION, spans=None, task={"answer": answer}, metadata={"label": label})


def _line(value: object) -> str:
    """A line, or a table's row of the columns path and label alone, as text."""
    if isinstance(value, dict):
        return ",".join(str(cell) for cell in value.values()) if len(value) <= 2 else ""
    return str(value)
