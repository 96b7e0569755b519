"""Rows with a column for each thing: vtg's own form (Time-R1's TimeRFT, LWT235's guides), lists of captions, and
tables of a user's own, whose columns `--columns video=vid,…` names.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from typing import Any

from vtg.annotations.sources.source_row import Change, Entry, Found, FoundRow, Head, Reader, is_number, of_objects

FIELDS = (
    "video", "sentence", "timestamp", "start", "end", "duration", "qid", "video_start", "video_end", "difficulty",
    "pred",
)  # fmt: skip
"""What a column can be named as. `start` and `end` take the place of `timestamp`."""

# Names under which a column is known without being named; the first that a row has is taken.
NAMES: dict[str, tuple[str, ...]] = {
    "video": ("video", "vid", "video_id", "video_name", "video_path", "video_file", "path", "file", "filename"),
    "sentence": ("sentence", "query", "caption", "description", "text", "query_text", "question"),
    "timestamp": (
        "timestamp",
        "timestamps",
        "relevant_windows",
        "span",
        "spans",
        "segment",
        "segments",
        "moment",
        "gt",
    ),
    "start": ("start", "start_time", "start_s", "start_sec", "begin", "t_start", "startTime"),
    "end": ("end", "end_time", "end_s", "end_sec", "stop", "t_end", "endTime"),
    "duration": ("duration", "video_duration", "length", "duration_s", "video_length"),
    "qid": ("qid", "query_id", "id", "annotation_id"),
}

SYNONYMS = {"query": "sentence", "caption": "sentence", "vid": "video", "span": "timestamp"}
"""What else `--columns` takes on the left side."""


def fits(head: Head) -> bool:
    if head.shape not in ("lines", "array"):
        return False
    told = head.have("video", "timestamp", "sentence") or head.have("video", "timestamp", "caption")
    return told or head.have("video", "duration", "sentence")


def has_usual_names(head: Head) -> bool:
    """Whether a video, a sentence and times are in columns of a known name, so that a file of no form can be read."""

    def is_one(value: Any) -> bool:
        at = _columns(tuple(value), ()) if isinstance(value, dict) else dict.fromkeys(FIELDS)
        has_times = at["timestamp"] or (at["start"] and at["end"])
        return bool(at["video"] and at["sentence"] and has_times)

    return head.most(is_one)


def rows(entry: Entry) -> Iterator[Found]:
    """Rows in vtg's own form, or with `caption` for `sentence`."""
    return named_rows(entry, columns={})


def reader(columns: Mapping[str, str]) -> Reader:
    """Of a table with these columns: field → name of its column."""
    return partial(named_rows, columns=columns)


@of_objects
def named_rows(entry: Entry, *, columns: Mapping[str, str]) -> Iterator[Found]:
    """The row of an entry, its fields in the named columns or in those of a known name."""
    value = {key: content for key, content in entry.value.items() if content is not None and content != ""}
    changes: list[Change] = []
    if isinstance(kwargs := value.get("kwargs"), dict) and "kwargs" not in columns.values():
        # The guides of LWT235 keep what is optional in there, a difficulty in words among it.
        value = {key: content for key, content in value.items() if key != "kwargs"} | kwargs
        if not is_number(value.get("difficulty", 0)):
            value["difficulty_word"] = value.pop("difficulty")
        changes.append(Change("kwargs-unpacked", ", ".join(kwargs)))
    at = _columns(tuple(value), tuple(columns.items()))
    found = {field: value.get(column) for field, column in at.items() if column is not None}
    start_end = [found.get("start"), found.get("end")]
    spans = found.get("timestamp")
    if spans is None and any(time is not None for time in start_end):
        spans = start_end
    yield FoundRow(
        video=found.get("video", entry.key),
        query=found.get("sentence"),
        spans=spans,
        duration=found.get("duration"),
        qid=found.get("qid"),
        video_start=found.get("video_start"),
        video_end=found.get("video_end"),
        difficulty=found.get("difficulty"),
        pred=found.get("pred"),
        metadata=_others(value, at, spans_in_columns=found.get("timestamp") is None),
        changes=changes,
    )


# The rows of a file have the same few sets of keys; finding each field's column is most of reading a row.
@lru_cache(maxsize=256)
def _columns(keys: tuple[str, ...], named: tuple[tuple[str, str], ...]) -> dict[str, str | None]:
    """The column of each field in rows with these keys; the named ones are as named."""
    given, taken = dict(named), {column for _, column in named}
    # A column that is named for something else is not taken twice.
    free = [key for key in keys if key not in taken]
    known = {field: next((name for name in NAMES.get(field, (field,)) if name in free), None) for field in FIELDS}
    return known | {field: column for field, column in given.items() if field in known}


def _others(value: Mapping[str, Any], at: Mapping[str, str | None], *, spans_in_columns: bool) -> dict[str, Any]:
    used = {column for field, column in at.items() if spans_in_columns or field not in ("start", "end")}
    return {key: content for key, content in value.items() if key not in used}
