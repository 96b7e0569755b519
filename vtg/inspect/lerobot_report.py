"""What is in a LeRobot data set: its episodes, cameras, frames and subtasks, and what of its videos is not there."""

import os
from collections import Counter

import numpy as np

from vtg.annotations.formats.lerobot import Episode, episodes, grounding_rows
from vtg.annotations.formats.parquet_columns import column_types
from vtg.errors import ConfigError
from vtg.inspect.folder_report import read_all
from vtg.inspect.inspection import SHOWN, Inspection, Report, SheetCell, distribution, evenly, shortened
from vtg.video.episodes.shown import HOLD_S
from vtg.video.frame_index import FrameIndex


def inspect_lerobot(root: str, *, num_samples: int) -> Inspection:
    """Reads its tables, and every video from end to end.

    Raises:
        ConfigError: it lacks a file or a column, or is of another version; says which.
    """
    listed = episodes(root)
    parts = [part for episode in listed for part in episode.record.cameras.values()]
    paths = list(dict.fromkeys(part.path for part in parts))
    indices, broken = read_all(paths)
    short = _short(listed, indices)
    lengths_s = np.array([episode.length / episode.fps for episode in listed])
    cameras = Counter(key for episode in listed for key in episode.record.cameras)
    report: Report = {
        "kind": "lerobot",
        "path": root,
        "episodes": len(listed),
        "frames": sum(episode.length for episode in listed),
        "fps": listed[0].fps if listed else None,
        "cameras": dict(cameras),
        "tasks": dict(Counter(task for episode in listed for task in episode.tasks).most_common(SHOWN)),
        "duration_s": distribution(lengths_s),
        "columns": _columns(listed),
        "video_files": len(paths),
        "broken_videos": len(broken) + len(short),
        "broken": [*(f"{path}: {why}" for path, why in broken.items()), *short][:SHOWN],
    }
    spreads = {"duration of an episode (s)": lengths_s}
    try:
        rows = grounding_rows(root)
    except ConfigError as error:  # a data set need not have any
        report["subtasks"] = str(error)
    else:
        spans = [
            end - start
            for row in rows
            for start, end in ([row["timestamp"]] if isinstance(row["timestamp"][0], float) else row["timestamp"])
        ]
        spreads["duration of a subtask (s)"] = np.array(spans)
        report["subtasks"] = {"rows": len(rows), "spans": len(spans), "texts": len({row["sentence"] for row in rows})}
        report["subtask_s"] = distribution(spans)
    shown = [listed[at] for at in evenly(len(listed), num_samples)]
    report["samples"] = [
        {"episode": one.index, "frames": one.length, "tasks": shortened(one.tasks), "cameras": list(one.record.cameras)}
        for one in shown
    ]
    return Inspection(report, spreads, [cell for one in shown for cell in _cells(one)], failed=bool(broken or short))


def _short(listed: list[Episode], indices: dict[str, FrameIndex]) -> list[str]:
    """Episodes that end after their video file does."""
    found = []
    for episode in listed:
        for camera, part in episode.record.cameras.items():
            index = indices.get(part.path)
            if index is not None and part.end_s is not None and part.end_s > index.info.duration_s + HOLD_S:
                found.append(
                    f"{part.path}: episode {episode.index} of {camera} ends at {part.end_s:.3f} s, and the file after "
                    f"{index.info.duration_s:.3f} s"
                )
    return found


def _columns(listed: list[Episode]) -> dict[str, str]:
    """Column → type, of the frames' tables."""
    path = next(
        (episode.data_path for episode in listed if episode.data_path and os.path.isfile(episode.data_path)), ""
    )
    return column_types(path) if path else {}


def _cells(episode: Episode) -> list[SheetCell]:
    """First, middle and last frame of every camera."""
    times_s = [at / episode.fps for at in (0, episode.length // 2, episode.length - 1)]
    return [
        SheetCell(episode.record, time_s, f"{episode.index} {camera.rpartition('.')[2]} {time_s:.1f} s", camera)
        for camera in episode.record.cameras
        for time_s in times_s
    ]
