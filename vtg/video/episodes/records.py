"""Recorded videos: which part of which file shows an episode."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from vtg.errors import ConfigError


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of a video file in seconds of that file (0 = the container's start). `end_s` = None: to the file's end.

    Raises:
        ValueError: unless 0 <= start_s < end_s.
    """

    path: str
    start_s: float = 0.0
    end_s: float | None = None

    def __post_init__(self) -> None:
        # Written so that NaN fails too.
        end_s = math.inf if self.end_s is None else self.end_s
        if not 0 <= self.start_s < end_s:
            raise ValueError(
                f"{self.path}: start_s = {self.start_s}, end_s = {self.end_s}: must be 0 <= start_s < end_s, in seconds"
            )


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """One episode: for every camera key the part of a file that shows it. `key` names it, in clip names and errors.

    Several episodes may lie in one file.
    """

    # In order: the first camera is the one that is meant where none is named.
    cameras: Mapping[str, FilePart]
    key: str = ""

    def part(self, camera_key: str | None = None) -> FilePart | None:
        """What a camera shows, the first one where none is named; None where the record has no camera at all.

        Raises:
            ConfigError: a camera is named that the record does not have.
        """
        if camera_key is None:
            return next(iter(self.cameras.values()), None)
        if camera_key not in self.cameras:
            raise ConfigError(
                f"camera_key = {camera_key!r}: episode {self.key!r} has no such camera; "
                f"it has {', '.join(self.cameras) or 'none'}"
            )
        return self.cameras[camera_key]
