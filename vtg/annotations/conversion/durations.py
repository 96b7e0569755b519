"""Durations of videos from tables beside the annotations, and where two durations contradict each other."""

import math
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from vtg.annotations.row_checks import clip_tolerance_s
from vtg.annotations.sample import VIDEO_ENDINGS
from vtg.annotations.sources.file_entries import entries
from vtg.annotations.sources.json_elements import BrokenFile
from vtg.annotations.sources.source_row import Entry
from vtg.annotations.sources.span_values import number_of

IDS = ("id", "video", "vid", "video_id", "video_name", "video_path", "name", "youtube_id", "path", "file", "filename")
LENGTHS = ("length", "duration", "video_duration", "video_length", "duration_s", "v_duration", "seconds", "length_s")

# Videos whose durations are compared: some 40 MB, which no file can make more.
MAX_COMPARED = 1 << 18


def video_key(name: str) -> str:
    """A video's name without folder and ending, by which files of different makers name the same one."""
    stem, ending = os.path.splitext(name.rsplit("/", 1)[-1])
    return stem if ending.lower() in VIDEO_ENDINGS else stem + ending


class Told(NamedTuple):
    """A duration, and where it stands."""

    duration_s: float
    place: str


class Contradiction(NamedTuple):
    """Two durations of one video that rounding does not explain."""

    line: int
    text: str


class Durations:
    """Durations that files tell: called with the name of a video."""

    def __init__(self) -> None:
        self._of: dict[str, Told] = {}
        self.contradictions: list[tuple[str, Contradiction]] = []

    def __call__(self, video: str) -> float | None:
        told = self._of.get(video_key(video))
        return None if told is None else told.duration_s

    def __len__(self) -> int:
        return len(self._of)

    def told(self, video: str) -> Told | None:
        return self._of.get(video_key(video))

    def read(self, path: str) -> None:
        """Takes in a table, JSON object or list of durations; of two for a video the first, if they differ little.

        Raises:
            ValueError: naming the place, where the file holds no durations or is broken.
            OSError: it cannot be opened.
        """
        tells = False  # also a file whose videos another one told before
        try:
            for line, video, duration_s in _pairs(path):
                tells = True
                place, key = f"{path}:{line}", video_key(video)
                told = self._of.setdefault(key, Told(duration_s, place))
                if abs(told.duration_s - duration_s) > clip_tolerance_s(told.duration_s):
                    text = f"{video} lasts {duration_s:.10g} s here and {told.duration_s:.10g} s at {told.place}"
                    self.contradictions.append((path, Contradiction(line, text)))
        except BrokenFile as error:
            raise ValueError(f"{path}:{error.line}: {error}") from None
        if not tells:
            raise ValueError(
                f"{path}: tells no duration; give a table with a column of videos ({', '.join(IDS[:4])} …) and one of "
                f"seconds ({', '.join(LENGTHS[:3])} …), or a JSON object of video and seconds"
            )


def _pairs(path: str) -> Iterator[tuple[int, str, float]]:
    """(line, video, seconds) of every entry that has both."""
    for entry in entries(path):
        if not isinstance(entry, Entry):
            continue
        value: Any = entry.value
        if isinstance(value, str) and entry.key is None:  # a line of text: an id, then seconds
            words = value.replace(",", " ").split()
            value = dict(zip(("id", "length"), words, strict=False)) if len(words) == 2 else {}
        video, length = entry.key, value
        if isinstance(value, dict):
            length = next((value[name] for name in LENGTHS if value.get(name) not in (None, "")), None)
            video = video or next((str(value[name]) for name in IDS if value.get(name) not in (None, "")), None)
            if video is None and length is None and len(value) == 2:  # a table without names of columns
                video, length = map(str, value.values())
        duration_s = number_of(length)
        if video and duration_s is not None and duration_s > 0:
            yield entry.line, video, duration_s


class Comparison:
    """Holds the durations of a file's rows against each other, and against those that other files tell."""

    def __init__(self, path: str, durations: Durations) -> None:
        self._path, self._durations = path, durations
        self._seen: dict[int, tuple[float, int]] = {}
        self.full = False

    def of(self, row: dict[str, Any], line: int) -> Contradiction | str | None:
        """A contradiction; or, in words, a difference that is small enough to be rounding; or None."""
        duration_s: float | None = row.get("duration")
        if duration_s is None:
            return None
        video, trim = row["video"], (row.get("video_start"), row.get("video_end"))
        key = hash((video, *trim))
        if key not in self._seen:
            if len(self._seen) < MAX_COMPARED:
                self._seen[key] = (duration_s, line)
            else:
                self.full = True
        first_s, first_line = self._seen.get(key, (duration_s, line))
        where = f"{self._path}:{first_line}"
        if first_s == duration_s and trim == (None, None) and (told := self._durations.told(video)) is not None:
            first_s, where = told
        if math.isclose(first_s, duration_s):  # the last digits of a float are no difference
            return None
        text = f"{video} lasts {duration_s:.10g} s here and {first_s:.10g} s at {where}"
        return Contradiction(line, text) if abs(first_s - duration_s) > clip_tolerance_s(first_s) else text
