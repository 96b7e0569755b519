"""The file of a video that annotations name by an id alone: by a template, or looked up in a folder."""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from vtg.annotations.conversion.durations import video_key
from vtg.annotations.sample import VIDEO_ENDINGS
from vtg.annotations.sources.source_row import NoRow

PLACEHOLDERS = ("video", "vid", "id", "video_id")


def from_template(template: str) -> Callable[[str], str]:
    """Names made of a template such as `clips/{video}.mp4`. Raises ValueError for one without a place for the id."""
    places = re.findall(r"\{(\w*)\}", template)
    if not places or any(place not in PLACEHOLDERS for place in places):
        raise ValueError(f"--video-template {template}: must hold {{video}} for the id, as in clips/{{video}}.mp4")
    return lambda video: re.sub(r"\{\w+\}", lambda _: video_key(video), template)


def from_folder(folder: str) -> Callable[[str], str | NoRow]:
    """Names of files in a folder and those below it: the one named, or else the one of the same name and any ending.

    A video that is cut out of a longer one may have more after its id (`ID.f399.mp4`). The folders that a name has, and
    those of the file below `folder`, must not differ as far as both go: another folder's `001.mp4` is another video.
    Where several files fit equally well there is none, nor for a name that fits another video's file.
    """
    root, whole, by_key = Path(folder), set[str](), dict[str, set[str]]()
    for parent, _, names in os.walk(root, followlinks=True):
        for name in names:
            if os.path.splitext(name)[1].lower() not in VIDEO_ENDINGS:
                continue
            relative = os.path.relpath(os.path.join(parent, name), root).replace(os.sep, "/")
            whole.add(relative)
            for key in {video_key(name), name.split(".", 1)[0]}:
                by_key.setdefault(key, set()).add(relative)
    above, named_as = root.absolute().parts, dict[str, tuple[str, ...]]()

    def find(video: str) -> str | NoRow:
        plain = re.sub(r"^(\./)+", "", video)
        if plain in whole:
            return plain
        files, folders = by_key.get(video_key(video), set()), _folders(video)
        best = _best([file for file in files if _agree(folders, _folders(file))], video)
        if not best:
            elsewhere = f"; {min(files)} is in another one" if files else ""
            return NoRow("video-absent", f"{video}: there is no such video in the folder{elsewhere}")
        if len({os.path.splitext(file)[0] for file in best}) > 1:
            fitting = " or ".join(sorted(best)[:3])
            return NoRow("video-ambiguous", f"{video}: may be {fitting}; name it by its folder and ending")
        file = min(best, key=lambda file: VIDEO_ENDINGS.index(os.path.splitext(file)[1].lower()))
        # Names of two folders may fit a file in none: only one of them is that video's.
        other = named_as.setdefault(file, folders) if folders else folders
        if other != folders and (*above, *_folders(file))[-len(folders) :] != folders:
            return NoRow("video-ambiguous", f"{video}: {file} is taken by that of {'/'.join(other)}; add the folders")
        return file

    return find


def _best(files: Iterable[str], video: str) -> list[str]:
    """Those of the same name and ending, else of the same name, else the rest; of them those whose folders fit best."""
    name, folders = video.rsplit("/", 1)[-1], _folders(video)

    def rank(file: str) -> tuple[bool, bool, int, bool]:
        there = _folders(file)
        shared = min(len(there), len(folders))
        return file.rsplit("/", 1)[-1] != name, video_key(file) != video_key(name), -shared, there != folders

    ranked = {file: rank(file) for file in files}
    best = min(ranked.values(), default=None)
    return [file for file in ranked if ranked[file] == best]


def _agree(named: tuple[str, ...], there: tuple[str, ...]) -> bool:
    """Whether folders are the same, from the innermost one on, as far as both are told."""
    return all(one == other for one, other in zip(reversed(named), reversed(there), strict=False))


def _folders(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.split("/")[:-1] if part not in ("", "."))
