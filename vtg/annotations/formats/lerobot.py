"""LeRobot data sets (v3 layout): episodes as video records, subtask annotations as annotation rows.

    meta/info.json                        fps, features (those of dtype `video` are cameras), path templates
    meta/episodes/chunk-*/file-*.parquet  an episode a row: its length, tasks, data file, and for every camera the video
                                          file and the part of it (from_timestamp, to_timestamp) that is the episode
    meta/subtasks.parquet                 subtask_index → text
    data/chunk-*/file-*.parquet           a frame a row: episode_index, frame_index, timestamp, and its subtask_index

LeRobot's annotation pipeline writes subtasks into a column `language_persistent` of the data files instead: on every
frame the episode's whole list of {style, content, timestamp}, each valid until the next of its style. Both are read.

Times of a data set lie on the grid of its frame rate, but are stored as 32-bit floats and as sums of durations. What is
within `GRID_S` of the grid is put on it, so that an episode begins with its own first frame and ends before the next.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vtg.annotations.formats.lerobot_layout import LeRobotLayout, path_inside, read_layout
from vtg.annotations.formats.parquet_columns import column_names, number_column, read_columns, read_rows
from vtg.annotations.target import Span
from vtg.errors import ConfigError
from vtg.video.episodes.records import FilePart, VideoRecord

logger = logging.getLogger(__name__)

# How far a stored time may lie from the grid of the frame rate and still mean it (at most a tenth of a frame).
GRID_S = 1e-3

# Where meta/subtasks.parquet has its texts: pandas writes them as an index, with or without a name.
TEXT_COLUMNS = ("subtask", "__index_level_0__")


@dataclass(frozen=True, slots=True)
class Episode:
    """One episode of a data set.

    Attributes:
        index: its number in the data set.
        length: frames.
        tasks: what is done in it, in words.
        record: its cameras, each a part of a video file.
        data_path: the Parquet file with its frames; None where the data set does not say.
        fps: frames a second.
    """

    index: int
    length: int
    tasks: tuple[str, ...]
    record: VideoRecord
    data_path: str | None
    fps: float


def episodes(root: str | os.PathLike[str]) -> list[Episode]:
    """The episodes of the data set in folder `root`, in order. Cameras with depth pictures are left out.

    Raises:
        ConfigError: not a LeRobot v3 data set, or one that lacks a file or a column; says which.
    """
    root, layout = Path(root), read_layout(Path(root))
    by_index: dict[int, Episode] = {}
    for path in _episode_files(root):
        names = column_names(path)
        wanted = ["episode_index", "length", "tasks"]
        has_data = "data/chunk_index" in names and "data/file_index" in names
        wanted += ["data/chunk_index", "data/file_index"] if has_data else []
        for key in layout.cameras:
            wanted += [f"videos/{key}/{name}" for name in _PART]
        for row in read_rows(path, wanted):
            episode = _episode(root, layout, path, row)
            if episode.index in by_index:
                raise ConfigError(f"{path}: episode_index: {episode.index} occurs twice; fetch the data set anew")
            by_index[episode.index] = episode
    return [by_index[index] for index in sorted(by_index)]


def grounding_rows(root: str | os.PathLike[str], camera_key: str | None = None) -> list[dict[str, Any]]:
    """The subtask annotations of a data set as annotation rows (`vtg.annotations.sample`), one a subtask of an episode.

    A subtask is shown while its index stands on the frames: from the first of a run of them to the frame after the
    run, or the episode's end. One that occurs several times in an episode makes one row with several spans. Frames
    without a subtask (an index that is null or negative) belong to none.

    `video`, `video_start`, `video_end` are the episode's part of its file, `duration` and `timestamp` relative to it.
    Metadata: `episode_index`, `camera_key`, `tasks`.

    Args:
        camera_key: the camera whose videos are named; None for the first one.

    Raises:
        ConfigError: as in `episodes`; also no such camera, or no subtask annotations.
    """
    root, layout = Path(root), read_layout(Path(root))
    camera_key = _camera(root, layout, camera_key)
    listed = episodes(root)
    texts = _subtask_texts(root / "meta" / "subtasks.parquet")
    by_file: dict[str, list[Episode]] = {}
    for episode in listed:
        if episode.data_path is None:
            raise ConfigError(
                f"{_episode_files(root)[0]}: has no columns data/chunk_index and data/file_index, which name the files "
                "with the subtasks of the frames; convert the data set to LeRobot v3.0 anew"
            )
        by_file.setdefault(episode.data_path, []).append(episode)
    rows: list[dict[str, Any]] = []
    outside = 0
    for data_path, members in by_file.items():
        moments = _moments(Path(data_path), members, texts)
        for episode in members:
            part = episode.record.cameras.get(camera_key)
            if part is not None:
                new, lost = _episode_rows(root, episode, camera_key, part, moments.get(episode.index, []))
                rows += new
                outside += lost
    if outside:
        logger.warning("%s: %d subtasks lie after the end of their episode's video and are left out", root, outside)
    if not rows:
        raise ConfigError(
            f"{root}: no frame of the {len(listed)} episodes has a subtask in its video of {camera_key!r}, so there is "
            "nothing to ground (a task covers its whole episode); annotate subtasks first: LeRobot's lerobot-annotate"
        )
    # Files were read one by one, and need not hold the episodes in order.
    return sorted(rows, key=lambda row: (row["episode_index"], row["qid"]))


_PART = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")


def _camera(root: Path, layout: LeRobotLayout, camera_key: str | None) -> str:
    if not layout.cameras:
        raise ConfigError(
            f"{root / 'meta' / 'info.json'}: features: none has dtype video, so there is no video to ground in; "
            "record the data set with videos (use_videos=True)"
        )
    if camera_key is not None and camera_key not in layout.cameras:
        raise ConfigError(f"camera_key = {camera_key!r}: {root} has no such camera; it has {', '.join(layout.cameras)}")
    return camera_key or layout.cameras[0]


def _episode(root: Path, layout: LeRobotLayout, path: Path, row: dict[str, Any]) -> Episode:
    index, length, tasks = row["episode_index"], row["length"], row["tasks"]
    if not isinstance(index, int) or not isinstance(length, int) or length < 1:
        raise ConfigError(f"{path}: episode_index, length: are {index!r} and {length!r}; must be whole numbers above 0")
    place = f"{path}: episode {index}"
    cameras = {}
    for key in layout.cameras:
        values = [row[f"videos/{key}/{name}"] for name in _PART]
        if any(value is None or value != value for value in values):  # this episode has no video of the camera
            continue
        chunk, file, start_s, end_s = values
        video = path_inside(root, layout.video_path, video_key=key, chunk_index=int(chunk), file_index=int(file))
        start_s, end_s = on_grid(start_s, layout.fps), on_grid(end_s, layout.fps)
        if not 0 <= start_s < end_s:
            raise ConfigError(
                f"{place}: videos/{key}/from_timestamp, to_timestamp: are {start_s} and {end_s} s; must be "
                "0 <= from < to; correct them, or drop the episode"
            )
        cameras[key] = FilePart(video, start_s, end_s)
    data_path = None
    if row.get("data/chunk_index") is not None and row.get("data/file_index") is not None:
        data_path = path_inside(
            root, layout.data_path, video_key="", chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
        )
    tasks = tuple(str(task) for task in ([tasks] if isinstance(tasks, str) else tasks or []))
    return Episode(index, length, tasks, VideoRecord(cameras, f"episode_{index:06d}"), data_path, layout.fps)


def on_grid(time_s: float, fps: float) -> float:
    """A stored time, put on the grid of the frame rate where it is meant to lie on it."""
    nearest_s = round(time_s * fps) / fps
    return nearest_s if abs(nearest_s - time_s) <= min(GRID_S, 0.1 / fps) else float(time_s)


def _episode_files(root: Path) -> list[Path]:
    files = sorted((root / "meta" / "episodes").glob("*/*.parquet"))
    if not files:
        raise ConfigError(
            f"{root / 'meta' / 'episodes'}: has no chunk-*/file-*.parquet, which list the episodes; fetch the data set "
            "again (its meta folder is small)"
        )
    return files


def _subtask_texts(path: Path) -> dict[int, str] | None:
    """Subtask index → text; None where the data set has no such table."""
    if not path.is_file():
        return None
    names = column_names(path)
    text = next((name for name in TEXT_COLUMNS if name in names), TEXT_COLUMNS[0])
    return {row["subtask_index"]: row[text] for row in read_rows(path, ["subtask_index", text])}


def _moments(
    path: Path, members: Sequence[Episode], texts: dict[int, str] | None
) -> dict[int, list[tuple[str, float, float | None]]]:
    """Episode → (text, start, end) of its subtasks in seconds of the episode; end None is the episode's end."""
    names = column_names(path)
    if texts is not None and "subtask_index" in names:
        return _frame_moments(path, members, texts)
    if "language_persistent" in names:
        return _language_moments(path, members)
    column = "subtask_index" if texts is not None else "subtask_index (nor is there a meta/subtasks.parquet)"
    raise ConfigError(
        f"{path}: has no column {column}, and no language_persistent: there are no subtask annotations to make "
        "grounding samples of; annotate subtasks first: LeRobot's lerobot-annotate"
    )


def _frame_moments(
    path: Path, members: Sequence[Episode], texts: dict[int, str]
) -> dict[int, list[tuple[str, float, float | None]]]:
    table = read_columns(path, ["episode_index", "frame_index", "timestamp", "subtask_index"])
    episode, frame = (number_column(table, name, path) for name in ("episode_index", "frame_index"))
    timestamp_s, subtask = number_column(table, "timestamp", path), number_column(table, "subtask_index", path, null=-1)
    moments: dict[int, list[tuple[str, float, float | None]]] = {}
    for member in members:
        of_member = np.flatnonzero(episode == member.index)
        if not len(of_member):
            raise ConfigError(f"{path}: episode_index: no frame of episode {member.index}; fetch the data set again")
        # A run is found by its neighbours, so the frames must be in order, whatever order the file has.
        of_member = of_member[np.argsort(frame[of_member], kind="stable")]
        times_s, indices = timestamp_s[of_member], subtask[of_member].astype(np.int64)
        # Something else stands before the first index, so that the first run begins like all others.
        starts = np.flatnonzero(np.diff(indices, prepend=indices[0] - 1))
        for at, stop in zip(starts, [*starts[1:], len(indices)], strict=True):
            if indices[at] < 0:
                continue
            text = texts.get(int(indices[at]))
            if not isinstance(text, str) or not text.strip():
                raise ConfigError(
                    f"{path}: subtask_index: episode {member.index} has {indices[at]}, for which meta/subtasks.parquet "
                    "has no text; add it there"
                )
            end_s = on_grid(float(times_s[stop]), member.fps) if stop < len(indices) else None
            moment = (text.strip(), on_grid(float(times_s[at]), member.fps), end_s)
            moments.setdefault(member.index, []).append(moment)
    return moments


def _language_moments(path: Path, members: Sequence[Episode]) -> dict[int, list[tuple[str, float, float | None]]]:
    table = read_columns(path, ["episode_index", "language_persistent"])
    numbers, first = np.unique(number_column(table, "episode_index", path), return_index=True)
    # The same list stands on every frame of an episode.
    lists = table.column("language_persistent").take(pa.array(first)).to_pylist()
    by_episode = dict(zip(numbers.astype(np.int64).tolist(), lists, strict=True))
    moments: dict[int, list[tuple[str, float, float | None]]] = {}
    for member in members:
        entries = [entry for entry in by_episode.get(member.index) or [] if entry.get("style") == "subtask"]
        if any(entry.get("timestamp") is None for entry in entries):
            raise ConfigError(f"{path}: language_persistent: episode {member.index} has a subtask without a timestamp")
        entries.sort(key=lambda entry: entry["timestamp"])
        starts_s = [on_grid(float(entry["timestamp"]), member.fps) for entry in entries]
        for entry, start_s, end_s in zip(entries, starts_s, [*starts_s, None][1:], strict=True):
            text = (entry.get("content") or "").strip()
            # Of two that start at once the later one counts; an empty one says that nothing goes on.
            if text and (end_s is None or end_s > start_s):
                moments.setdefault(member.index, []).append((text, start_s, end_s))
    return moments


def _episode_rows(
    root: Path,
    episode: Episode,
    camera_key: str,
    part: FilePart,
    moments: Sequence[tuple[str, float, float | None]],
) -> tuple[list[dict[str, Any]], int]:
    """The rows of one episode, and how many subtasks lie after the end of its video."""
    assert part.end_s is not None
    duration_s = part.end_s - part.start_s
    spans: dict[str, list[Span]] = {}
    outside = 0
    for text, start_s, end_s in moments:
        end_s = duration_s if end_s is None else min(end_s, duration_s)
        # Nobody could see what comes after the end of the video, and no Sample may hold it.
        if max(start_s, 0.0) < end_s:
            spans.setdefault(text, []).append((max(start_s, 0.0), end_s))
        else:
            outside += 1
    rows = []
    for number, (text, times_s) in enumerate(spans.items()):
        rows.append(
            {
                "video": part.path,
                "video_start": part.start_s,
                "video_end": part.end_s,
                "duration": duration_s,
                "timestamp": list(times_s[0]) if len(times_s) == 1 else [list(span) for span in times_s],
                "sentence": text,
                # Of the folder's name and not its path: a data set that is moved keeps its qids.
                "qid": f"{root.resolve().name}:{episode.record.key}:{number:03d}",
                "episode_index": episode.index,
                "camera_key": camera_key,
                "tasks": list(episode.tasks),
            }
        )
    return rows, outside
