"""Charades itself, Charades_v1_train.csv: actions as `c092 11.90 21.20;c147 0.00 12.60`, and the length of each video.

The sentence of an action is its name in Charades_v1_classes.txt beside the file (`c092 Closing a window`), or its code.
"""

from collections.abc import Iterator

from vtg.annotations.sources.source_row import Change, Entry, Found, FoundRow, Head, NoRow
from vtg.annotations.sources.worker_table import number_in_table

KEPT = ("subject", "scene")


def fits(head: Head) -> bool:
    return head.shape == "table" and {"id", "actions", "length"} <= set(head.keys)


def rows(entry: Entry) -> Iterator[Found]:
    value = entry.value
    for action in filter(None, (part.strip() for part in (value.get("actions") or "").split(";"))):
        code, *times = action.split()
        if len(times) != 2:
            yield NoRow("action-format", f"{action[:60]!r} is not `CODE START END`")
            continue
        name = entry.beside.get(code)
        changes = (
            [] if name else [Change("class-name-unknown", f"{code} (put Charades_v1_classes.txt beside the file)")]
        )
        metadata = {"action": code} | {key: value[key] for key in KEPT if value.get(key)}
        yield FoundRow(
            video=value.get("id"),
            query=name or code,
            spans=[number_in_table(time) for time in times],
            duration=number_in_table(value.get("length") or "") or None,
            metadata=metadata,
            changes=changes,
        )
