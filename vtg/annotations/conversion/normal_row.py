"""A row as published becomes a row of vtg: values checked and mended, and everything that was done to it told."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from vtg.annotations import row_checks, row_decoder
from vtg.annotations.sources.source_row import Change, FoundRow, NoRow, is_number
from vtg.annotations.sources.span_values import number_of, span_list

# Of these a row consists; a published key of the same name is kept under another one.
RESERVED = frozenset(row_checks.KEYS)


class NormalRow(NamedTuple):
    """A row of vtg and its line of JSON, what was changed in it, and how many published rows it stands for."""

    row: dict[str, Any]
    raw: bytes
    changes: list[Change]
    rows: int = 1


def _nothing(video: str) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """What a row may need that is not in it.

    Attributes:
        duration_of: the duration in seconds of a video of this name, or None.
        video_of: the name of the file of a video, or why there is none; or no function, and names stay.
        empty_is_label: an empty list of spans says that there is no moment; otherwise that nobody has labelled it.
        decoder: reads rows back, to check them.
    """

    duration_of: Callable[[str], float | None] = _nothing
    video_of: Callable[[str], str | NoRow] | None = None
    empty_is_label: bool = True
    decoder: row_decoder.RowDecoder = field(default_factory=row_decoder.RowDecoder)


def normal_row(found: FoundRow, lookup: Lookup) -> NormalRow | NoRow:
    """The row, and what was changed in it; or why there is none."""
    changes = list(found.changes)
    video = _video(found.video, changes)
    query = "" if found.task and found.query is None else _sentence(found.query, changes)
    if isinstance(video, NoRow):
        return video
    if isinstance(query, NoRow):
        return query
    duration_s = _duration(found, video, changes, lookup)
    if isinstance(duration_s, NoRow):
        return duration_s
    file = video if lookup.video_of is None else lookup.video_of(video)
    if isinstance(file, NoRow):
        return file
    if file != video:
        changes.append(Change("video-named", f"{video} → {file}"))
    row: dict[str, Any] = {"video": file}
    if duration_s is not None:
        row["duration"] = duration_s
    spans = None if found.task else _spans(found, duration_s, changes, lookup)
    if isinstance(spans, NoRow):
        return NoRow(spans.kind, f"{video}: {spans.text}: {query[:60]!r}")
    if spans is not None:
        row["timestamp"] = spans[0] if len(spans) == 1 else spans
    if query:
        row["sentence"] = query
    row |= found.task
    _add_optional(row, found, changes)
    if found.annotators is not None:
        unit = 1.0 if found.parts is None or duration_s is None else duration_s / found.parts
        row["annotators"] = [[round(time * unit, 6) for time in span] for span in found.annotators]
    for key, value in found.metadata.items():
        row[f"published_{key}" if key in RESERVED or key in found.task else key] = value
    fault = _fault(raw := msgspec.json.encode(row), row, lookup.decoder)
    return fault or NormalRow(row, raw, changes, found.rows)


def _video(value: Any, changes: list[Change]) -> str | NoRow:
    if is_number(value) and math.isfinite(value) and value == int(value):
        # Ids of digits alone, as NExT-GQA's, are read as numbers by tables and by careless writers.
        changes.append(Change("video-from-number", str(int(value))))
        value = str(int(value))
    if not isinstance(value, str) or not value.strip():
        return NoRow("video-missing", f"video is {value!r}")
    if value != value.strip():
        changes.append(Change("video-whitespace", repr(value)))
    return value.strip()


def _sentence(value: Any, changes: list[Change]) -> str | NoRow:
    if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
        value = " ".join(value)
    if is_number(value):
        value = f"{value:.10g}"
    text = value if isinstance(value, str) else ""
    # Before blanks are joined, as those around such a mark become one; line breaks and tabs are blanks themselves.
    text = "".join(mark for mark in text if mark.isprintable() or mark.isspace() or mark == "\u200d")
    text = " ".join(text.split())
    if not text:
        return NoRow("sentence-missing", f"sentence is {str(value)[:40]!r}")
    if text != value:
        changes.append(Change("sentence-whitespace", repr(value[:60])))
    return text


def _duration(found: FoundRow, video: str, changes: list[Change], lookup: Lookup) -> float | NoRow | None:
    if found.duration is not None and found.duration != "":
        duration_s = number_of(found.duration)
        if duration_s is not None and duration_s > 0:
            if isinstance(found.duration, str):
                changes.append(Change("duration-from-text", repr(found.duration)))
            return duration_s
        elsewhere = lookup.duration_of(video)
        if elsewhere is None:
            return NoRow("duration-invalid", f"{video}: duration is {str(found.duration)[:40]!r}")
        changes.append(Change("duration-replaced", f"{str(found.duration)[:40]!r} → {elsewhere:.10g}"))
        return elsewhere
    start, end = number_of(found.video_start), number_of(found.video_end)
    if start is not None and end is not None and start < end:
        changes.append(Change("duration-from-trim", f"{video}: {end - start:.10g} s"))
        return end - start
    if (elsewhere := lookup.duration_of(video)) is not None:
        changes.append(Change("duration-filled", f"{video}: {elsewhere:.10g} s"))
        return elsewhere
    if found.duration_at_most is not None:
        changes.append(Change("duration-estimated", f"{video}: {found.duration_at_most:.10g} s"))
        return found.duration_at_most
    if found.parts is not None:
        return NoRow("duration-missing", f"{video}: its times are parts of a duration that is not known")
    changes.append(Change("duration-unknown", video))
    return None


def _spans(
    found: FoundRow, duration_s: float | None, changes: list[Change], lookup: Lookup
) -> list[list[float]] | NoRow | None:
    """The spans in seconds; none where there is no moment, and None where nobody has labelled the row."""
    if found.spans == [] and lookup.empty_is_label:
        changes.append(Change("no-moment", str(found.video)))
        return []
    if found.spans is None or found.spans == [] or found.spans == "":
        changes.append(Change("unlabelled", str(found.video)))
        return None
    pairs = span_list(found.spans)
    if not pairs:
        return NoRow("timestamp-format", f"timestamp {str(found.spans)[:60]!r} is no span")
    if isinstance(found.spans, str) or any(
        isinstance(time, str) for pair in pairs if isinstance(pair, list) for time in pair
    ):
        changes.append(Change("timestamp-from-text", str(found.spans)[:60]))
    kept: list[list[float]] = []
    lost: list[NoRow] = []
    for pair in pairs:
        span = _span(pair, found, duration_s, changes)
        if isinstance(span, NoRow):
            lost.append(span)
        else:
            kept.append(span)
    if not kept:
        return lost[0]
    changes += [Change(f"{one.kind}-left-out", one.text) for one in lost]
    return kept


def _span(pair: Any, found: FoundRow, duration_s: float | None, changes: list[Change]) -> list[float] | NoRow:
    times = [number_of(time) for time in pair] if isinstance(pair, list) else []
    if len(times) != 2 or times[0] is None or times[1] is None:
        return NoRow("timestamp-format", f"timestamp {str(pair)[:60]} is no [start, end] of numbers")
    start, end = times[0], times[1]
    shown = f"[{start:.10g}, {end:.10g}]"
    if found.parts is not None and duration_s is not None:
        # To the microsecond: products of decimals are not exact, and no annotation is finer.
        start, end = (round(time / found.parts * duration_s, 6) for time in (start, end))
    if end <= start:
        kind = "reversed" if end < start else "empty"
        return NoRow(f"timestamp-{kind}", f"timestamp {shown} {'ends before it starts' if end < start else 'is empty'}")
    if end <= 0 or (duration_s is not None and start >= duration_s):
        of = "" if duration_s is None else f" of {duration_s:.10g} s"
        return NoRow("timestamp-outside", f"timestamp {shown} lies outside of the clip{of}")
    if start < 0:
        changes.append(Change("start-clipped", f"{shown} → [0, {end:.10g}]"))
        start = 0.0
    if duration_s is not None and end > duration_s:
        # Rounding explains little, an error of the annotation the rest: worth telling apart.
        far = end - duration_s > row_checks.clip_tolerance_s(duration_s)
        kind = "end-clipped-far" if far else "end-clipped"
        clipped = f"[{start:.10g}, {duration_s:.10g}]"
        if clipped == shown:  # by the last digits of a float alone
            shown, clipped = f"[{start}, {end}]", f"[{start}, {duration_s}]"
        changes.append(Change(kind, f"{shown} → {clipped}"))
        end = duration_s
    return [start, end]


def _add_optional(row: dict[str, Any], found: FoundRow, changes: list[Change]) -> None:
    if isinstance(found.qid, str | int) and not isinstance(found.qid, bool) and found.qid != "":
        row["qid"] = found.qid
    elif found.qid is not None and found.qid != "":
        row["qid"] = f"{found.qid:.10g}" if is_number(found.qid) else str(found.qid)
    start, end = number_of(found.video_start), number_of(found.video_end)
    if start is not None and end is not None and 0 <= start < end:
        row |= {"video_start": start, "video_end": end}
    elif found.video_start is not None or found.video_end is not None:
        changes.append(Change("trim-left-out", f"video_start {found.video_start}, video_end {found.video_end}"))
    if (difficulty := number_of(found.difficulty)) is not None:
        row["difficulty"] = difficulty
    elif found.difficulty is not None:
        row["difficulty_word"] = found.difficulty
    pred = span_list(found.pred) if found.pred is not None else None
    times = [number_of(time) for time in pred[0]] if pred and isinstance(pred[0], list) else []
    if pred and len(pred) == 1 and len(times) == 2 and None not in times:
        row["pred"] = times
    elif found.pred is not None:
        changes.append(Change("pred-left-out", str(found.pred)[:60]))


def _fault(raw: bytes, row: dict[str, Any], decoder: row_decoder.RowDecoder) -> NoRow | None:
    """The first error that `vtg.validate` finds in a row, but for what nobody has told."""
    try:
        if row_decoder.is_clean(decoder.decode(raw)):
            return None
    except msgspec.MsgspecError:
        pass
    read, findings = row_checks.check(raw)
    unknown = {f"{key}-missing" for key in ("duration", "timestamp") if key not in row}
    for finding in findings:
        if finding.severity == "error" and finding.kind not in unknown:
            return NoRow(finding.kind, f"{row['video']}: {finding.field}: {finding.message}")
    assert read is not None
    decoder.learn(read)
    return None
