"""Files that lie beside published annotations and complete them."""

import glob
import os
from collections.abc import Sequence

from vtg.annotations.sources.file_entries import entries
from vtg.annotations.sources.source_row import Entry, Source


def files_beside(path: str, source: Source, kind: str) -> list[str]:
    """The files in the folder of `path` that its form knows to hold durations, names or questions, sorted."""
    folder = glob.escape(os.path.dirname(path) or ".")
    found = {name for pattern in source.beside.get(kind, ()) for name in glob.glob(os.path.join(folder, pattern))}
    return sorted(found - {path})


def names_in(paths: Sequence[str]) -> dict[str, str]:
    """Codes and names from lines such as `c092 Closing a window`."""
    names = {}
    for path in paths:
        for entry in entries(path):
            if isinstance(entry, Entry) and isinstance(entry.value, str):
                code, _, name = entry.value.strip().partition(" ")
                names[code] = name.strip()
    return names
