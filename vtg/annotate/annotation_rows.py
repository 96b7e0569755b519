"""What the modules have found, as grounding rows and as rows of language, checked."""

from collections.abc import Iterator
from typing import Any

from vtg.annotate.annotating import Work, provenance_of
from vtg.annotate.window import windows_of
from vtg.errors import SampleError

# What holds from its time on, and what belongs to one moment, as LeRobot tells them apart.
PERSISTENT, EVENTS = ("subtask", "plan", "memory"), ("vqa", "interjection")


def grounding_rows(work: Work) -> list[dict[str, Any]]:
    """An annotation row for each text of the segments: several spans where it happens several times."""
    found = work.found.get("segments", [])
    if not found:
        return []
    record, camera = work.source.record, work.camera
    part = record.part(camera)
    assert part is not None
    (window,) = windows_of(record, camera, window_s=float("inf"))
    by_text: dict[str, tuple[str, list[list[float]]]] = {}
    for one in found:
        by_text.setdefault(one["text"].lower(), (one["text"], []))[1].append([one["start_s"], one["end_s"]])
    rows = []
    for number, (text, spans) in enumerate(by_text.values()):
        row: dict[str, Any] = {"video": part.path, "duration": window.end_s}
        if part.end_s is not None:
            row |= {"video_start": part.start_s, "video_end": part.end_s}
        row |= {"timestamp": spans[0] if len(spans) == 1 else spans, "sentence": text}
        row["qid"] = f"{work.source.key}:{number:03d}"
        rows.append(row | {"annotated": provenance_of(work) | {"module": "segments", "camera": camera}})
    return rows


def language_rows(work: Work) -> list[dict[str, Any]]:
    """All of it as rows of role, style and time: LeRobot's, with the key of the source and the provenance.

    Raises:
        SampleError: two say the same role at one time through one camera, or a camera is none of the source's.
    """
    rows = [
        {"source": work.source.key, **row, "annotated": provenance_of(work) | {"module": module}}
        for module, row in _rows(work)
    ]
    seen: set[tuple[Any, ...]] = set()
    for row in rows:
        if row["camera"] is not None and row["camera"] not in work.source.record.cameras:
            raise SampleError(f"{work.source.key}: {row['camera']!r} is no camera of it")
        # Persistent rows need no camera; a segment and a memory may begin at one time.
        place = (row["style"], row["timestamp"], row["camera"], row["role"])
        if place in seen:
            raise SampleError(f"{work.source.key}: two rows of {place}")
        seen.add(place)
    return rows


def _rows(work: Work) -> Iterator[tuple[str, dict[str, Any]]]:
    found = work.found
    taken: dict[float, dict[str, Any]] = {one["start_s"]: one for one in found.get("segments", [])}
    for start_s, one in taken.items():  # of two that start at once the later one counts, as LeRobot reads them
        yield "segments", _row(start_s, "subtask", "assistant", one["text"])
    for name, style in (("plan", "plan"), ("memory", "memory")):
        for one in found.get(name, []):
            yield name, _row(one["time_s"], style, "assistant", one["text"])
    for one in found.get("vqa", []):
        yield "vqa", _row(one["time_s"], "vqa", "user", one["question"], one["camera"])
        yield "vqa", _row(one["time_s"], "vqa", "assistant", one["answer"], one["camera"])
    for one in found.get("interjections", []):
        yield "interjections", _row(one["time_s"], "interjection", "user", one["text"])


def _row(time_s: float, style: str, role: str, content: str, camera: str | None = None) -> dict[str, Any]:
    return {"timestamp": time_s, "style": style, "role": role, "camera": camera, "content": content}
