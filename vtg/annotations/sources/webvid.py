"""WebVid as KempnerForge lays it out: partitions of `videoid,name`, and videos in folders of their ids' first digits.

    ROOT/raw/webvid-10M/data/train/partitions/*.csv     rows; data/val/ of validation
    ROOT/raw/videos/train/12/1234/123456/1234567.mp4    videos of training
    ROOT/raw/videos/validation/1234567.mp4              those of validation, in one folder

`name` is the caption. Durations are those of the videos.
"""

from collections.abc import Iterator

from vtg.annotations.sources.source_row import Entry, Found, FoundRow, Head, others

VIDEOS = ("../../../../videos", "videos")
"""Where videos are, seen from the folder of the partitions: as above, or beside them."""


def fits(head: Head) -> bool:
    return head.shape == "table" and {"videoid", "name"} <= set(head.keys)


def rows(entry: Entry) -> Iterator[Found]:
    value = entry.value
    video, folders = str(value.get("videoid") or "").strip(), entry.beside.get("folders", ())
    split = folders[-2] if len(folders) > 1 and folders[-1] == "partitions" else None
    if split == "train":
        video = video and f"train/{video[:2]}/{video[:4]}/{video[:6]}/{video}.mp4"
    elif split is not None:
        video = video and f"{'validation' if split == 'val' else split}/{video}.mp4"
    # WebVid's own tables have more columns, its durations as texts (PT00H00M12S) among them, which videos tell better.
    metadata = others(value, "videoid", "name", "duration", "contentUrl")
    yield FoundRow(video=video, query=None, spans=None, task={"caption": value.get("name")}, metadata=metadata)
