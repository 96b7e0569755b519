"""PixMo's tables of pictures, and Molmo2's of several: captions, questions, points, counts.

Columns are those that allenai/molmo2 (f3cb108, `olmo/data/pixmo_datasets.py`) reads, and the sets' cards name. A
picture is the file in the column `image`, where there is one, and else its address, `image_url`: one that does not end
as a picture's name does has to be fetched first. Points are in percent of the picture, but those of pixmo-count.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from vtg.annotations.sources.source_row import Entry, Found, FoundRow, Head, NoRow, of_objects

PERCENT = 100.0
AND = "|"
"""Between several pictures of a row, as `vtg.video.files.address` has it."""

_TURN = re.compile(r"\s*\[(?:USER|ASSISTANT)\]\s*")
_PICTURE = re.compile(r".+\.(?:jpe?g|png|webp|bmp)", re.IGNORECASE)


def _is_of_pictures(head: Head) -> bool:
    return head.have("image_url") or head.have("image_urls")


def fits_captions(head: Head) -> bool:
    return _is_of_pictures(head) and head.have("caption")


@of_objects
def captions(entry: Entry) -> Iterator[Found]:
    """pixmo-cap."""
    yield from _rows(entry.value, [(None, {"caption": entry.value["caption"]})])


def fits_questions(head: Head) -> bool:
    return (_is_of_pictures(head) and head.have("question", "answer")) or head.have("image", "questions")


@of_objects
def questions(entry: Entry) -> Iterator[Found]:
    """pixmo-ask-model-anything, pixmo-cap-qa (the last turn of its `[USER] … [ASSISTANT]`), pixmo-docs."""
    value = entry.value
    asked = value.get("questions", value)
    pairs = zip(_listed(asked["question"]), _listed(asked["answer"]), strict=True)
    yield from _rows(value, [(_last_turn(question), {"answer": answer}) for question, answer in pairs])


def fits_pairs(head: Head) -> bool:
    return head.have("image_urls", "qa_pairs")


@of_objects
def pairs(entry: Entry) -> Iterator[Found]:
    """Molmo2-MultiImageQA, which asks about several pictures together."""
    asked = entry.value["qa_pairs"]
    listed = zip(_listed(asked["question"]), _listed(asked["answer"]), strict=True)
    yield from _rows(entry.value, [(question, {"answer": answer}) for question, answer in listed])


def fits_points(head: Head) -> bool:
    return head.have("image_url", "label", "points", "collection_method")


@of_objects
def points(entry: Entry) -> Iterator[Found]:
    """pixmo-points."""
    value = entry.value
    marked = [_point(point, PERCENT) for point in value["points"]]
    yield from _rows(value, [(f"Point to {value['label']}.", {"points": marked, "label": value["label"]})])


def fits_many_points(head: Head) -> bool:
    return head.have("image_urls", "labels", "points")


@of_objects
def many_points(entry: Entry) -> Iterator[Found]:
    """Molmo2-MultiImagePoint: of each label the places in all of the pictures."""
    value = entry.value
    wanted = []
    for label in dict.fromkeys(value["labels"]):
        of_label = [at for at, name in enumerate(value["labels"]) if name == label]
        marked = [{**_point(point, PERCENT), "image": at} for at in of_label for point in value["points"][at]]
        wanted.append((f"Point to {label} in all pictures.", {"points": marked, "label": label}))
    yield from _rows(value, wanted)


def fits_counts(head: Head) -> bool:
    return head.have("image_url", "label", "count") and not head.have("collection_method")


@of_objects
def counts(entry: Entry) -> Iterator[Found]:
    """pixmo-count. Its points are in pixels of a picture whose size is not told, and are left out."""
    value = entry.value
    yield from _rows(value, [(f"How many {value['label']} are there?", {"count": value["count"]})])


def _rows(value: dict[str, Any], asked: Sequence[tuple[str | None, dict[str, Any]]]) -> Iterator[Found]:
    given = value.get("images", value.get("image"))
    named = given if isinstance(given, str | list) and given else value.get("image_urls", value.get("image_url"))
    pictures: list[Any] = named if isinstance(named, list) else [named]
    if isinstance(given, dict) or any(isinstance(one, dict) for one in pictures):
        text = "its pictures are in the table; write each to a file, and its name into the column image"
        yield NoRow("picture-in-table", text)
        return
    wrong = next((one for one in pictures if not isinstance(one, str) or not _PICTURE.fullmatch(one)), None)
    if wrong is not None or not pictures:
        text = f"{str(wrong)[:80]!r} does not end as a picture's name; fetch it, and name the file in a column image"
        yield NoRow("picture-name", text)
        return
    for query, task in asked:
        # Pictures have no times: a second stands for each.
        yield FoundRow(video=AND.join(pictures), query=query, spans=None, duration=float(len(pictures)), task=task)


def _point(point: dict[str, float], scale: float) -> dict[str, float]:
    # Clicks a little beside a picture are at its edge, as Molmo2 takes them.
    return {key: min(max(point[key] / scale, 0.0), 1.0) for key in ("x", "y")}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _last_turn(question: str) -> str:
    """The last thing that the user says of a conversation, or the question as it is."""
    said = [turn for turn in _TURN.split(question) if turn.strip()]
    return said[-1] if said else question
