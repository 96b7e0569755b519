"""What commands read latents of: videos, folders of them, and the videos of annotation files."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vtg.annotations.formats import format_name, format_of
from vtg.annotations.sample import Problem, Sample, resolve_video
from vtg.errors import ConfigError
from vtg.inspect.folder_report import videos_in
from vtg.video.files.address import is_address
from vtg.video.video_window import VideoWindow


@dataclass(frozen=True)
class VideoSource:
    """A video, or the part of one that rows ask about.

    Attributes:
        name: tells its spans from those of others.
        row: its keys in rows: the video, and the part.
        window: the same, with the path at which the video lies.
        ends_s: of the moments that rows tell, in seconds of the window, sorted; what no row asks for is not among them.
    """

    name: str
    row: dict[str, Any]
    window: VideoWindow
    ends_s: list[float] = field(default_factory=list)


ROWS = (".jsonl", ".json")


def sources_of(paths: Sequence[str], *, video_dir: str | None) -> tuple[list[VideoSource], list[str]]:
    """Every video, or part of one, once, in order; and why rows are left out, a line each.

    Raises:
        ConfigError: a path at which there is nothing of the kind.
    """
    found: dict[tuple[object, ...], VideoSource] = {}
    faults: list[str] = []
    for path in paths:
        if path.lower().endswith(ROWS) or format_name(path) != "jsonl":
            faults += _add_rows(found, path, video_dir)
        else:
            for video in _videos(path):
                key = (video, None, None)
                found.setdefault(key, VideoSource(_name(*key), {"video": video}, VideoWindow(video)))
    if not found:
        raise ConfigError(f"{', '.join(paths)}: no row of a video; {faults[0] if faults else 'give others'}")
    return list(found.values()), faults


def _add_rows(found: dict[tuple[object, ...], VideoSource], path: str, video_dir: str | None) -> list[str]:
    """Adds the videos of a file of rows; returns why rows are left out."""
    faults = []
    try:
        for sample in format_of(path).samples(path):
            if isinstance(sample, Problem):
                faults.append(str(sample))
            elif sample.is_still:
                faults.append(f"{sample.place}: {sample.video}: a still picture has no events")
            else:
                _add(found, sample, video_dir)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; check the path") from None
    return faults


def _add(found: dict[tuple[object, ...], VideoSource], sample: Sample, video_dir: str | None) -> None:
    key = (sample.video, sample.video_start_s, sample.video_end_s)
    source = found.get(key)
    if source is None:
        keys = {"video": sample.video, "video_start": sample.video_start_s, "video_end": sample.video_end_s}
        source = found[key] = VideoSource(
            _name(*key),
            {name: value for name, value in keys.items() if value is not None},
            sample.window(resolve_video(sample.video, video_dir)),
        )
    # A clip's own start and end are no boundaries within it.
    inside = {end_s for span in sample.spans for end_s in span if 0 < end_s < sample.duration_s}
    source.ends_s[:] = sorted(inside.union(source.ends_s))


def _name(video: str, start_s: float | None, end_s: float | None) -> str:
    if start_s is None and end_s is None:
        return os.path.splitext(video)[0]
    until = "" if end_s is None else f"{end_s:.10g}"
    return f"{os.path.splitext(video)[0]}_{start_s or 0:.10g}-{until}"


def _videos(path: str) -> list[str]:
    if is_address(path) or os.path.isfile(path):
        return [path]
    videos = videos_in(path) if os.path.isdir(path) else []
    if not videos:
        raise ConfigError(f"{path}: no video, no folder of videos and no file of rows; check the path")
    return videos
