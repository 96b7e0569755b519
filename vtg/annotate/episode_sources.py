"""What is to be annotated: videos, folders of them, and the episodes of LeRobot data sets."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vtg.annotations.formats.lerobot import episodes
from vtg.annotations.target import Span
from vtg.errors import ConfigError
from vtg.inspect.folder_report import videos_in
from vtg.video.episodes.records import FilePart, VideoRecord


@dataclass(frozen=True, slots=True)
class Source:
    """One video, or one episode.

    Attributes:
        key: names it among all of a run, and its files.
        record: its cameras; none where there is no video.
        tasks: what is done in it, in words, where the data set says.
        spans: what is asked about one by one, in seconds of the video; empty for windows of even length.
        root: of the LeRobot data set that it is of, with its number there; None and -1 for a video.
    """

    key: str
    record: VideoRecord
    tasks: tuple[str, ...] = ()
    root: str | None = None
    episode: int = -1
    spans: tuple[Span, ...] = ()


def sources_of(paths: Sequence[str]) -> list[Source]:
    """All of them, in order.

    Raises:
        ConfigError: a path that holds nothing of the kind, or two sources of one key.
    """
    found: dict[str, Source] = {}
    for path in paths:
        for source in _sources(path):
            if source.key in found:
                raise ConfigError(
                    f"{path}: a second {source.key!r}; annotate folders with equal names one after another"
                )
            found[source.key] = source
    return list(found.values())


def _sources(path: str) -> Iterator[Source]:
    if os.path.isfile(path):
        yield Source(Path(path).stem, VideoRecord({"video": FilePart(path)}, Path(path).stem))
        return
    if (Path(path) / "meta" / "info.json").is_file():
        name = Path(path).resolve().name
        for episode in episodes(path):
            key = f"{name}-{episode.record.key}"
            yield Source(key, episode.record, episode.tasks, path, episode.index)
        return
    videos = videos_in(path) if os.path.isdir(path) else []
    if not videos:
        raise ConfigError(f"{path}: no video, no folder of videos and no LeRobot data set")
    for video in videos:
        key = os.path.splitext(os.path.relpath(video, path))[0].replace(os.sep, "-")
        yield Source(key, VideoRecord({"video": FilePart(video)}, key))
