"""Files that lie beside published annotations and complete them."""

import glob
import os
from typing import Any

from vtg.annotations.sources.file_entries import entries
from vtg.annotations.sources.source_row import Entry, Source


def files_beside(path: str, source: Source, kind: str) -> list[str]:
    """The files in the folder of `path` that its form knows to hold durations, names or questions, sorted."""
    folder = glob.escape(os.path.dirname(path) or ".")
    found = {name for pattern in source.beside.get(kind, ()) for name in glob.glob(os.path.join(folder, pattern))}
    return sorted(found - {path})


def told_beside(path: str, source: Source) -> dict[str, Any]:
    """What the files beside `path` tell: names of classes, questions; and its own name under "stem", the
    folders it is in under "folders".

    Raises OSError when one cannot be opened.
    """
    told: dict[str, Any] = {}
    if source.needs_stem:
        told["stem"] = os.path.basename(path).split(".")[0]
        told["folders"] = os.path.dirname(os.path.abspath(path)).split(os.sep)
    for other in files_beside(path, source, "names"):
        for entry in entries(other):
            if isinstance(entry, Entry) and isinstance(entry.value, str):  # `c092 Closing a window`
                code, _, name = entry.value.strip().partition(" ")
                told[code] = name.strip()
    for other in files_beside(path, source, "questions"):
        for entry in entries(other):
            if isinstance(entry, Entry) and isinstance(entry.value, dict) and "video_id" in entry.value:
                told[f"{entry.value['video_id']}_{entry.value.get('qid')}"] = entry.value
    return told
