"""A LeRobot data set of the v3 layout: Parquet tables, and videos of three episodes whose every frame says which one it
is.
"""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vtg.storage.json_files import write_json

FPS = 10
LENGTHS = (12, 20, 15)
TOP, WRIST = "observation.images.top", "observation.images.wrist"
TEXTS = ["reach for the cup", "lift the cup", "put the cup down"]
SUBTASKS = [
    [0] * 5 + [1] * 7,
    [-1] * 3 + [0] * 4 + [1] * 6 + [0] * 4 + [2] * 3,
    [2] * 15,
]


def write_video(path: Path, frames: range) -> None:
    """Frame k is a flat grey of level 20 + 4 k."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "6", "g": "8", "bf": "2"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for at, number in enumerate(frames):
            picture = np.full((48, 64, 3), 20 + 4 * number, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def number_of(frame: np.ndarray | None) -> int | None:
    return None if frame is None else round((float(frame.mean()) - 20) / 4)


def write_table(path: Path, columns: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def features(*cameras: str) -> dict:
    shape = {"shape": [48, 64, 3], "names": ["height", "width", "channels"]}
    return {camera: {"dtype": "video", **shape} for camera in cameras} | {"action": {"dtype": "float32", "shape": [2]}}


INFO = {
    "codebase_version": "v3.0",
    "fps": FPS,
    "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
    "features": features(TOP, WRIST),
}


def write_set(root: Path) -> Path:
    """The top camera has all episodes in one file; the wrist camera has the last one in a file of its own."""
    write_json(root / "meta" / "info.json", INFO)
    starts = np.cumsum([0, *LENGTHS])
    write_video(root / "videos" / TOP / "chunk-000" / "file-000.mp4", range(int(starts[-1])))
    write_video(root / "videos" / WRIST / "chunk-000" / "file-000.mp4", range(int(starts[2])))
    write_video(root / "videos" / WRIST / "chunk-000" / "file-001.mp4", range(int(starts[2]), int(starts[3])))
    # Sums of durations, as recorders store them.
    edges_s = (starts / FPS + np.array([0, 1e-5, -2e-5, 3e-5])).tolist()
    write_table(
        root / "meta" / "episodes" / "chunk-000" / "file-000.parquet",
        {
            "episode_index": [0, 1, 2],
            "tasks": [["move the cup"]] * 3,
            "length": list(LENGTHS),
            "data/chunk_index": [0, 0, 0],
            "data/file_index": [0, 0, 1],
            "dataset_from_index": starts[:-1].tolist(),
            "dataset_to_index": starts[1:].tolist(),
            f"videos/{TOP}/chunk_index": [0, 0, 0],
            f"videos/{TOP}/file_index": [0, 0, 0],
            f"videos/{TOP}/from_timestamp": edges_s[:-1],
            f"videos/{TOP}/to_timestamp": edges_s[1:],
            f"videos/{WRIST}/chunk_index": [0, 0, 0],
            f"videos/{WRIST}/file_index": [0, 0, 1],
            f"videos/{WRIST}/from_timestamp": [0.0, 1.2, 0.0],
            f"videos/{WRIST}/to_timestamp": [1.2, 3.2, 1.5],
            "stats/action/min": [[0.0, 0.0]] * 3,
        },
    )
    write_table(root / "meta" / "tasks.parquet", {"task_index": [0], "task": ["move the cup"]})
    write_table(root / "meta" / "subtasks.parquet", {"subtask_index": [0, 1, 2], "subtask": TEXTS})
    write_data(root, subtask=True)
    return root


def write_data(root: Path, *, subtask: bool, language: dict[int, list[dict]] | None = None) -> None:
    for number, members in enumerate(((0, 1), (2,))):
        columns = {
            "episode_index": [at for at in members for _ in range(LENGTHS[at])],
            "frame_index": [frame for at in members for frame in range(LENGTHS[at])],
            "timestamp": pa.array([frame / FPS for at in members for frame in range(LENGTHS[at])], pa.float32()),
            "task_index": [0 for at in members for _ in range(LENGTHS[at])],
        }
        if subtask:
            columns["subtask_index"] = [index for at in members for index in SUBTASKS[at]]
        if language is not None:
            columns["language_persistent"] = [language[at] for at in members for _ in range(LENGTHS[at])]
        write_table(root / "data" / "chunk-000" / f"file-{number:03d}.parquet", columns)
