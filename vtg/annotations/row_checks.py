"""What is wrong with an annotation row: every rule there is, each with what to do about it.

`row_decoder.is_clean` asks the same of a decoded row, faster and without a word; a rule added here is added there too.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from vtg.annotations import raw_rows
from vtg.annotations.point_targets import gaps, picture_fault
from vtg.annotations.row_target import RowFault, RowTarget, shown
from vtg.annotations.target import row_kind
from vtg.video.files import address

REQUIRED = ("video", "duration", "timestamp", "sentence")
KEYS = (*REQUIRED, "qid", "video_start", "video_end", "difficulty", "pred")
# What published files call the same things: named in the message about a missing key.
OTHER_NAMES = {
    "video": ("vid", "video_id", "image_id", "video_path"),
    "duration": ("length", "video_duration"),
    "timestamp": ("timestamps", "relevant_windows", "span", "segment"),
    "sentence": ("query", "caption", "sentences", "description"),
}
# Of rows of other tasks than spans: under which keys they have their video, and what is asked.
VIDEO_KEYS, QUERY_KEYS = ("video", "video_path"), ("sentence", "question", "query")
# Seen together, each costs as much as a frame.
MAX_PICTURES = 64
# No clip lasts a day: milliseconds or frame numbers stand where seconds should.
MAX_DURATION_S = 24 * 3600.0
# Published trims and durations are rounded apart from each other.
TRIM_TOLERANCE_S = 0.5

# A span may leave its clip by so much and be as good as inside, read clipped: annotated times are rounded to a
# millisecond at best, and no frame is that short. Sums and products of them are off by far less.
EDGE_S = 1e-3

# An escaped backslash, a whole pair of escapes, or (the group) half of one.
_SURROGATES = re.compile(rb"\\\\|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(\\u[dD][89a-fA-F]..)")

CONVERT = "README.md, 'Your own data', shows a row"
PROBED = ": python -m vtg.validate FILE --probe --fix OUT reads it from the video"


class Finding(NamedTuple):
    """A problem before it has a place."""

    field: str
    kind: str
    message: str
    severity: str = "error"


def check(raw: bytes) -> tuple[dict[str, Any] | None, list[Finding]]:
    """Everything wrong with one raw row, and the row itself, or None if it is not a JSON object."""
    try:
        row = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return None, [_not_json(raw, error)]
    if isinstance(row, dict):
        row = plain_row(row)
        return row, list(_row_findings(row))
    text = f"must be a JSON object with the keys {', '.join(REQUIRED)}, not {shown(row)}; {CONVERT}"
    return None, [Finding("row", "row-not-object", text)]


def plain_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of another task than spans with its video under `video`; any other row is given back as it is.

    One about still pictures, which `image` names (a name or a list of names), has their names joined, and a second for
    each as its duration.
    """
    if row_kind(row) is None:
        return row
    name, images = _first_text(row, VIDEO_KEYS), row.get("image")
    if not name and images is not None:
        names = images if isinstance(images, list) else [images]
        if not 1 <= len(names) <= MAX_PICTURES or not all(isinstance(one, str) for one in names):
            return row
        name = address.AND.join(names)
        if not address.is_picture(name):
            return row
    if not name:
        return row
    plain = {key: value for key, value in row.items() if key not in ("image", *VIDEO_KEYS)} | {"video": name}
    return plain | {"duration": float(len(address.parts_of(name)))} if address.is_picture(name) else plain


def _first_text(row: dict[str, Any], keys: tuple[str, ...]) -> str:
    return next((row[key] for key in keys if isinstance(row.get(key), str)), "")


def clip_tolerance_s(duration_s: float) -> float:
    """How far a span may end after its clip and still be read, clipped: the durations of containers explain it."""
    return max(1.0, 0.05 * duration_s)


def _row_findings(row: dict[str, Any]) -> Iterator[Finding]:
    if (kind := row_kind(row)) is not None:
        yield from _other_findings(row, kind)
        return
    missing = [key for key in REQUIRED if row.get(key) is None]
    # A row of another format: told once, instead of a missing key four times.
    if len(missing) == len(REQUIRED):
        keys = ", ".join(repr(key[:40]) for key in list(row)[:5]) or "none"
        yield Finding("row", "row-other-format", f"has none of {', '.join(REQUIRED)} (its keys: {keys}); {CONVERT}")
        return
    for key in missing:
        other = next((name for name in OTHER_NAMES[key] if name in row), None)
        needed = "every row needs it" + (PROBED if key == "duration" else "")
        remedy = f"rename {other!r}, which this row has, or convert the file" if other else needed
        yield Finding(key, f"{key}-missing", f"is missing; {remedy}")
    for key in ("video", "sentence"):
        if row.get(key) is not None:
            yield from _text_findings(key, row[key])
    yield from _time_findings(row)
    yield from _trim_findings(row)
    yield from _extra_findings(row)


def _other_findings(row: dict[str, Any], kind: type[RowTarget]) -> Iterator[Finding]:
    """What is wrong with a row whose target is not spans."""
    if row.get("image") is not None and all(row.get(name) is None for name in VIDEO_KEYS):
        endings = ", ".join(address.PICTURE_ENDINGS)
        text = f"must be the name of a picture ({endings}), or a list of 1 to {MAX_PICTURES} such names; correct it"
        yield Finding("image", "image-type", text)
        return
    needed = {"video": VIDEO_KEYS, "duration": ("duration",)} | ({"question": QUERY_KEYS} if kind.asks else {})
    for key, names in needed.items():
        if all(row.get(name) is None for name in names):
            remedy = PROBED if key == "duration" else ""
            yield Finding(key, f"{key}-missing", f"is missing; a row with {kind.keys[0]!r} needs it{remedy}")
    for names in (VIDEO_KEYS, QUERY_KEYS):
        for name in names:
            if row.get(name) is not None:
                yield from _text_findings(name, row[name])
    faults = [*_duration_findings(row.get("duration")), *_trim_findings(row), *_extra_findings(row)]
    yield from faults
    if row.get("duration") is None or any(fault.severity == "error" for fault in faults):
        return
    try:
        target = kind.of_row(row, duration_s=float(row["duration"]))
        if fault := picture_fault(target, is_still=address.is_picture(_first_text(row, VIDEO_KEYS))):
            raise fault
    except RowFault as fault:
        yield Finding(fault.field, fault.kind, fault.message)
        return
    if missing := gaps(target):
        shown_ids = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")
        text = f"objects {shown_ids} are left out at times between their own: hidden there, or forgotten?"
        yield Finding(kind.keys[0], "tracks-gap", text, "note")


def _text_findings(key: str, value: object) -> Iterator[Finding]:
    if not isinstance(value, str):
        yield Finding(key, f"{key}-type", f"must be a string, not {shown(value)}; put it in quotes")
    elif not value.strip():
        yield Finding(key, f"{key}-empty", "is empty; fill it in, or drop the row")
    elif key in VIDEO_KEYS and "\0" in value:
        yield Finding(key, "video-characters", f"{shown(value)} has a NUL character; no path can have one")
    elif key in VIDEO_KEYS and (fault := address.fault(value)):
        yield Finding(key, "video-address", fault)


def _time_findings(row: dict[str, Any]) -> Iterator[Finding]:
    duration_s, timestamp = row.get("duration"), row.get("timestamp")
    # Spans are not held against a duration that is wrong itself: each would be a second finding of one mistake.
    wrong_duration = False
    for finding in _duration_findings(duration_s):
        wrong_duration |= finding.severity == "error"
        yield finding
    # `[]` says that there is no moment: a label, which `task.moments` lets into a run or not.
    if timestamp is not None and timestamp != []:
        several = isinstance(timestamp, list) and all(isinstance(span, list) for span in timestamp)
        for index, span in enumerate(timestamp if several else [timestamp]):
            field = f"timestamp[{index}]" if several else "timestamp"
            faults = list(_pair_findings(field, "timestamp", span))
            yield from faults
            if duration_s is not None and not wrong_duration and not faults:
                yield from _span_findings(field, span[0], span[1], duration_s)


def _duration_findings(value: Any) -> Iterator[Finding]:
    if value is None:
        return
    if fault := _number_fault(value):
        yield Finding("duration", "duration-type", f"must be a number of seconds, not {fault}")
    elif value <= 0:
        yield Finding("duration", "duration-range", f"must be above 0 s, not {_number(value)}; correct it")
    elif value > MAX_DURATION_S:
        text = f"{_number(value)} s is more than a day; give seconds, not milliseconds or frames"
        yield Finding("duration", "duration-long", text, "warning")


def _span_findings(field: str, start: float, end: float, duration_s: float) -> Iterator[Finding]:
    clip = f"{_number(duration_s)} s"
    if end <= start:
        kind = "reversed" if end < start else "empty"
        why = "its end comes before its start; swap them" if end < start else "it ends where it starts; give its end"
        text = f"[{_number(start)}, {_number(end)}] is {kind}: {why}, or drop the row"
        yield Finding(field, f"timestamp-{kind}", text)
    # A start that rounding put before 0 is clipped, unless all of the span lies there: nothing would be left of it.
    if start < -EDGE_S or end <= 0 > start:
        text = f"starts at {_number(start)} s, before the clip; count from the clip's start, 0 s"
        yield Finding(field, "timestamp-negative", text)
    elif start >= duration_s:
        text = f"starts at {_number(start)} s, but the clip lasts {clip}; give times relative to the clip"
        yield Finding(field, "timestamp-outside", f"{text} (subtract video_start), or correct duration")
    elif end > duration_s + EDGE_S:
        text = f"ends at {_number(end)} s, {_number(end - duration_s)} s after the clip's end at {clip}"
        if end - duration_s <= clip_tolerance_s(duration_s):
            text = f"{text}; it is read as {clip}: write that (--fix does)"
            yield Finding(field, "timestamp-clipped", text, "warning")
        else:
            yield Finding(field, "timestamp-over", f"{text}; correct it or duration, or drop the row")
    elif start <= 0 and end >= duration_s:
        text = f"covers the whole clip, [0, {_number(end)}]: nothing is left to find; drop the row if that is wrong"
        yield Finding(field, "timestamp-whole", text, "warning")


def _trim_findings(row: dict[str, Any]) -> Iterator[Finding]:
    limits = {key: row[key] for key in ("video_start", "video_end") if row.get(key) is not None}
    if len(limits) == 1:
        (given,) = limits
        absent = "video_end" if given == "video_start" else "video_start"
        yield Finding(absent, "trim-half", f"is missing, but {given} is there; give both, or neither")
    faults = {key: fault for key, value in limits.items() if (fault := _number_fault(value))}
    for key, fault in faults.items():
        yield Finding(key, "trim-type", f"must be a number of seconds, not {fault}")
    if len(limits) < 2 or faults:
        return
    start, end, duration_s = limits["video_start"], limits["video_end"], row.get("duration")
    if start < 0:
        yield Finding("video_start", "trim-negative", f"must be 0 s or more, not {_number(start)}; correct it")
    if end <= start:
        text = f"must come after video_start ({_number(start)} s), not at {_number(end)} s; correct one of them"
        yield Finding("video_end", "trim-reversed", text)
    elif duration_s is not None and not _number_fault(duration_s) and abs(end - start - duration_s) > TRIM_TOLERANCE_S:
        text = f"video_start to video_end is {_number(end - start)} s, duration says {_number(duration_s)} s"
        yield Finding("video_end", "trim-length", f"{text}; duration must be the clip's own", "warning")


def _extra_findings(row: dict[str, Any]) -> Iterator[Finding]:
    qid, difficulty, pred = row.get("qid"), row.get("difficulty"), row.get("pred")
    # To Python `true` is a whole number too.
    if isinstance(qid, bool) or not isinstance(qid, str | int | None):
        yield Finding("qid", "qid-type", f"must be a string or a whole number, not {shown(qid)}; put it in quotes")
    elif qid == "":
        yield Finding("qid", "qid-empty", "is empty; fill it in, or leave the key out")
    if difficulty is not None and (fault := _number_fault(difficulty)):
        yield Finding("difficulty", "difficulty-type", f"must be a number, not {fault}")
    elif difficulty is not None and not 0 <= difficulty <= 100:
        text = f"{_number(difficulty)} is not between 0 and 100; give 100 x IoU of a base model's prediction"
        yield Finding("difficulty", "difficulty-range", text, "warning")
    if pred is not None:
        yield from _pair_findings("pred", "pred", pred)


def _pair_findings(field: str, kind: str, value: object) -> Iterator[Finding]:
    form = "[start, end] in seconds" if kind == "pred" else "[start, end] in seconds, or a list of such pairs"
    if not isinstance(value, list) or len(value) != 2:
        yield Finding(field, f"{kind}-type", f"must be {form}, not {shown(value)}; correct it, or drop the row")
    else:
        for name, number in zip(("start", "end"), value, strict=True):
            if fault := _number_fault(number):
                yield Finding(field, f"{kind}-type", f"must be {form}, but its {name} is {fault}")


def _number_fault(value: object) -> str | None:
    """What a JSON value is that is no number, as "null; what to do"; None for a number."""
    if isinstance(value, str):
        return f"{shown(value)}; remove the quotes"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{shown(value)}; give a number"
    # JSON bounds no integer, and Python reads any.
    try:
        float(value)
    except OverflowError:
        return "an integer beyond the range of a float; correct it"
    return None


def _not_json(raw: bytes, error: Exception) -> Finding:
    if raw in raw_rows.FAULTS:
        kind, text = raw_rows.FAULTS[raw]
        return Finding("file", f"file-{kind}", text)
    # Cut off at that length, so what the decoder says of it is about the cut.
    if len(raw) >= raw_rows.MAX_ROW_BYTES:
        text = f"is longer than {raw_rows.MAX_ROW_BYTES >> 20} MiB; put each row on a line, or move bulky metadata out"
        return Finding("row", "row-too-long", text)
    if isinstance(error, RecursionError):
        return Finding("row", "row-too-deep", "is nested too deep to be read; flatten its metadata")
    if isinstance(error, UnicodeDecodeError):
        return Finding("row", "row-encoding", f"is not UTF-8 ({error.reason}); save the file as UTF-8")
    # Python's `json` writes them unless told otherwise, so they are in files that look fine to who made them.
    if any(token in raw for token in (b"NaN", b"Infinity")) and "invalid character" in str(error):
        text = "has NaN or Infinity, which JSON does not allow; write a number, or null where the key is optional"
        return Finding("row", "row-nan", text)
    if "out of range" in str(error):
        return Finding("row", "row-out-of-range", "has a number beyond the range of a float; correct it")
    # Of half a pair before the end of a string the decoder says that the data ends there.
    is_whole = "truncated" not in str(error) or raw_rows.row_end(raw.strip(), 0) is not None
    if is_whole and (half := _half_pair(raw)):
        text = f"has half of a surrogate pair ({half}), which is no character; remove it, or write the character itself"
        return Finding("row", "row-surrogate", text)
    if "truncated" in str(error):
        return Finding("row", "row-truncated", "ends in the middle (cut off, or over several lines); complete it")
    return Finding("row", "row-not-json", f"is not valid JSON: {error}; correct or drop it")


def _half_pair(raw: bytes) -> str | None:
    """The first escaped half of a surrogate pair that has no partner beside it."""
    return next((found[1].decode() for found in _SURROGATES.finditer(raw) if found[1]), None)


def _number(value: float) -> str:
    return f"{value:.10g}"
