"""Molmo2's tables of videos, one form a table: captions, questions with and without subtitles, points, counts, tracks.

Columns are those that allenai/molmo2 (f3cb108; `molmo2_datasets.py`, `molmo2_video_track_datasets.py` in `olmo/data`)
reads, and the sets' cards name. Points are in percent of the frame, or in pixels where its width and height are told.
"""

from collections.abc import Iterator
from typing import Any
from zlib import crc32

from vtg.annotations.sources.source_row import Entry, Found, FoundRow, Head, NoRow, is_number, of_objects

CAPTIONS = ("video_frame_merged_caption", "merged_caption", "aggregated_caption", "video_caption")
"""Columns of a caption, the most detailed first."""

PERCENT = 100.0

# Tracks are kept at so many times a second, as Molmo2 is trained on them.
TRACK_FPS = 2.0

Points = list[dict[str, Any]]


def fits_captions(head: Head) -> bool:
    return head.have("video_id") and any(head.have(column) for column in CAPTIONS)


@of_objects
def captions(entry: Entry) -> Iterator[Found]:
    """Molmo2-Cap, Molmo2-CapEval."""
    value = entry.value
    caption = next((value[column] for column in CAPTIONS if value.get(column)), None)
    if caption is None:
        yield NoRow("caption-missing", f"{value.get('video_id')}: none of {', '.join(CAPTIONS)}")
        return
    yield _row(value, video=value.get("video_id"), duration=value.get("duration"), task={"caption": caption})


def fits_choices(head: Head) -> bool:
    return head.have("video_id", "Question", "Answer", "NegativeAnswers")


@of_objects
def choices(entry: Entry) -> Iterator[Found]:
    """Molmo2-VideoCapQA and, with `subtitle`, Molmo2-VideoSubtitleQA: the right answer and wrong ones."""
    value = entry.value
    task: dict[str, Any] = {"choices": mixed(value["Question"], value["Answer"], value["NegativeAnswers"])}
    task["answer"] = value["Answer"]
    if value.get("subtitle"):
        task["subtitles"] = [{key: said[key] for key in ("start", "end", "text")} for said in value["subtitle"]]
    yield _row(value, video=value.get("video_id"), query=value["Question"], task=task, category=value.get("Category"))


def fits_questions(head: Head) -> bool:
    return head.have("video_id", "question", "answer") and not head.have("count")


@of_objects
def questions(entry: Entry) -> Iterator[Found]:
    """Molmo2-AskModelAnything."""
    value = entry.value
    yield _row(value, video=value.get("video_id"), query=value["question"], task={"answer": value["answer"]})


def fits_points(head: Head) -> bool:
    return head.have("video_id", "label", "points", "two_fps_timestamps")


@of_objects
def points(entry: Entry) -> Iterator[Found]:
    """Molmo2-VideoPoint, points of each of `two_fps_timestamps`, and Molmo2-VideoPointEval, one of each, in pixels."""
    value = entry.value
    if value.get("annotator_unsure"):
        yield NoRow("annotator-unsure", f"{value['video_id']}: {value['label']}", is_bad=False)
        return
    start = value.get("clip_start") if is_number(value.get("clip_start")) else 0.0
    scale = (PERCENT, PERCENT) if value.get("width") is None else (value["width"], value["height"])
    marked: Points = []
    for time, at in zip(value["two_fps_timestamps"], value["points"], strict=True):
        for point in at if isinstance(at, list) else [at]:
            marked.append({**_share(point["x"], point["y"], scale), "timestamp": time - start})
    query = f"Point to {value['label']}."
    yield _row(value, video=value["video_id"], query=query, task={"points": marked, "label": value["label"]})


def fits_counts(head: Head) -> bool:
    return head.have("video_id", "question", "count") and not head.have("points")


@of_objects
def counts(entry: Entry) -> Iterator[Found]:
    """Molmo2-VideoCountEval."""
    value = entry.value
    yield _row(value, video=value["video_id"], query=value["question"], task={"count": value["count"]})


def fits_tracks(head: Head) -> bool:
    return head.have("clip", "exp", "points", "fps", "mask_id")


@of_objects
def tracks(entry: Entry) -> Iterator[Found]:
    """Molmo2-VideoTrack: for each object a place, or none, on every frame of the clip."""
    value = entry.value
    fps, numbers = float(value["fps"]), {name: at for at, name in enumerate(value["mask_id"])}
    step = max(1, round(fps / TRACK_FPS))
    marked: Points = []
    for one in value["points"]:
        for frame in range(0, len(one["points"]), step):
            if point := one["points"][frame]:
                share = _share(point[0], point[1], (value["w"], value["h"]))
                marked.append({**share, "timestamp": frame / fps, "object_id": numbers[one["object_id"]]})
    frames = value["end_frame"] - value["start_frame"] + 1
    yield _tracked(value, value["clip"], value["exp"], marked, frames / fps)


def fits_trajectories(head: Head) -> bool:
    return head.have("expression", "frame_trajectories", "mask_id", "width", "height")


@of_objects
def trajectories(entry: Entry) -> Iterator[Found]:
    """molmo2-track-instruction and the tracking sets in its form: the places of all objects at chosen frames."""
    value = entry.value
    numbers = {name: at for at, name in enumerate(value["mask_id"])}
    marked: Points = []
    for frame in value["frame_trajectories"]:
        for point in frame["points"]:
            x, y = point["point"]
            share = _share(x, y, (value["width"], value["height"]))
            hidden = {"occluded": True} if point["occluded"] else {}
            marked.append({**share, "timestamp": frame["time"], "object_id": numbers[str(point["id"])], **hidden})
    frames = value.get("n_frames")
    duration_s = frames / value["fps"] if frames and value.get("fps") else None
    yield _tracked(value, value.get("clip") or value["video"], value["expression"], marked, duration_s)


def mixed(question: str, answer: str, wrong: list[str]) -> list[str]:
    """The answers to choose from, the right one at a place that the question decides: first always would be learned."""
    texts = list(dict.fromkeys(text for text in wrong if text != answer))
    texts.insert(crc32(f"{question}{answer}".encode()) % (len(texts) + 1), answer)
    return texts


def _share(x: float, y: float, scale: tuple[float, float]) -> dict[str, float]:
    """A place as shares of the frame; what is annotated a little outside of it is at its edge."""
    return {key: _inside(value / of) for key, value, of in (("x", x, scale[0]), ("y", y, scale[1]))}


def _inside(share: float) -> float:
    # As far as annotators' clicks at an edge go; further out the row's check names it.
    return min(max(share, 0.0), 1.0) if -0.02 <= share <= 1.02 else share


def _tracked(value: dict[str, Any], clip: str, label: str, marked: Points, duration_s: float | None) -> FoundRow:
    query = f"Track {label}."
    return _row(value, video=clip, query=query, duration=duration_s, task={"tracks": marked, "label": label})


def _row(
    value: dict[str, Any],
    *,
    video: Any,
    task: dict[str, Any],
    query: Any = None,
    duration: Any = None,
    **metadata: Any,
) -> FoundRow:
    start, end = (value.get(f"clip_{side}", value.get(f"video_{side}")) for side in ("start", "end"))
    is_trimmed = start is not None and end is not None
    whole = None if is_trimmed else value.get("video_duration")
    for key in ("video_source", "source", "video_dataset", "category"):
        metadata.setdefault(key, value.get(key))
    return FoundRow(
        video=video,
        query=query,
        spans=None,
        duration=duration if duration is not None else whole,
        qid=value.get("id"),
        task=task,
        metadata={key: content for key, content in metadata.items() if content is not None},
        video_start=start if is_trimmed else None,
        video_end=end if is_trimmed else None,
    )
