"""What is in a folder of videos: how long, large and of which kind they are, and which cannot be read."""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from vtg.annotations.sample import VIDEO_ENDINGS
from vtg.inspect.inspection import SHOWN, Inspection, Report, SheetCell, distribution, evenly
from vtg.progress_bar import ProgressBar, counted
from vtg.video.clip import DecodeError
from vtg.video.container import read_index
from vtg.video.episodes.records import FilePart, VideoRecord
from vtg.video.frame_index import FrameIndex

ENDINGS = (*VIDEO_ENDINGS, ".gif", ".ogv")


def videos_in(folder: str) -> list[str]:
    """The files in a folder, however deep, that are named as videos; hidden ones are left out."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [os.path.join(place, name) for name in sorted(files) if name.lower().endswith(ENDINGS)]
    return found


def inspect_videos(folder: str, *, num_samples: int) -> Inspection:
    """Reads every video of a folder from end to end, without decoding more than its first frame."""
    paths = videos_in(folder)
    indices, broken = read_all(paths)
    infos = [index.info for index in indices.values()]
    frames = np.array([len(index.times_s) for index in indices.values()], dtype=np.float64)
    spreads = {
        "duration (s)": np.array([info.duration_s for info in infos]),
        "frames": frames,
        "frames a second": np.array([info.fps for info in infos]),
        "height (pixels)": np.array([info.height for info in infos], dtype=np.float64),
        "size (MB)": np.array([os.path.getsize(path) / 1e6 for path in indices]),
    }
    report: Report = {
        "kind": "videos",
        "path": folder,
        "videos": len(paths),
        "broken_videos": len(broken),
        "broken": [f"{path}: {why}" for path, why in list(broken.items())[:SHOWN]],
        "hours": round(sum(info.duration_s for info in infos) / 3600, 4),
        **{name.partition(" (")[0].replace(" ", "_"): distribution(values) for name, values in spreads.items()},
        "codecs": dict(Counter(info.codec for info in infos).most_common()),
        "pictures": dict(Counter(f"{info.width}x{info.height}" for info in infos).most_common(SHOWN)),
    }
    shown = [list(indices)[at] for at in evenly(len(indices), num_samples)]
    report["samples"] = [
        {"video": os.path.relpath(path, folder), "duration_s": round(indices[path].info.duration_s, 3)}
        for path in shown
    ]
    cells = [
        SheetCell(VideoRecord({"video": FilePart(path)}, path), middle_s, f"{Path(path).name} {middle_s:.1f} s")
        for path in shown
        for middle_s in [float(indices[path].times_s[len(indices[path].times_s) // 2])]
    ]
    return Inspection(report, spreads, cells, failed=bool(broken))


def read_all(paths: list[str]) -> tuple[dict[str, FrameIndex], dict[str, str]]:
    """(path → its frames, path → why it cannot be read, or not to its end); several files are read at a time."""

    def read(path: str) -> FrameIndex | str:
        try:
            return read_index(path)
        except DecodeError as error:
            return str(error).removeprefix(f"{path}: ")

    indices: dict[str, FrameIndex] = {}
    broken: dict[str, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        bar = ProgressBar(len(paths), title="reading videos", unit="video")
        for path, found in zip(paths, counted(pool.map(read, paths), bar), strict=True):
            if isinstance(found, str):
                broken[path] = found
                continue
            if found.fault:
                broken[path] = found.fault
            if len(found.times_s):
                indices[path] = found
    return indices, broken
