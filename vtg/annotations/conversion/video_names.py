"""The file of a video that annotations name by an id alone: by a template, or looked up in a folder."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from vtg.annotations.conversion.durations import video_key
from vtg.annotations.sample import VIDEO_ENDINGS

PLACEHOLDERS = ("video", "vid", "id", "video_id")


def from_template(template: str) -> Callable[[str], str]:
    """Names made of a template such as `clips/{video}.mp4`. Raises ValueError for one without a place for the id."""
    places = re.findall(r"\{(\w*)\}", template)
    if not places or any(place not in PLACEHOLDERS for place in places):
        raise ValueError(f"--video-template {template}: must hold {{video}} for the id, as in clips/{{video}}.mp4")
    return lambda video: re.sub(r"\{\w+\}", lambda _: video_key(video), template)


def from_folder(folder: str) -> Callable[[str], str | None]:
    """Names of files in a folder and those below it: the one named, or else the one of the same name and any ending.

    A video that is cut out of a longer one may have more after its id (`ID.f399.mp4`); the shortest is taken.
    """
    root, by_key, whole = Path(folder), dict[str, str](), set[str]()
    for parent, _, names in os.walk(root, followlinks=True):
        for name in names:
            if os.path.splitext(name)[1].lower() not in VIDEO_ENDINGS:
                continue
            relative = os.path.relpath(os.path.join(parent, name), root).replace(os.sep, "/")
            whole.add(relative)
            for key in {video_key(name), name.split(".", 1)[0]}:
                # The whole stem names a file better than what is before its first dot.
                rank = (video_key(name) != key, len(relative), relative)
                if key not in by_key or rank < _rank(by_key[key], key):
                    by_key[key] = relative

    def find(video: str) -> str | None:
        plain = re.sub(r"^(\./)+", "", video)
        return plain if plain in whole else by_key.get(video_key(video))

    return find


def _rank(relative: str, key: str) -> tuple[bool, int, str]:
    return video_key(relative) != key, len(relative), relative
