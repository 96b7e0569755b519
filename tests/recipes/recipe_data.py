"""The demo's rows and videos, written as each recipe's data is published."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def published_folder(data: str, folder: Path, *, demo: Path, rows: list[Row]) -> Path:
    """A folder for data.root: the rows in the form of `data=DATA`, and their videos."""
    (folder / "videos").mkdir(parents=True)
    for name in {row["video"] for row in rows}:
        shutil.copy(demo / name, folder / "videos" / Path(name).name)
    WRITERS[data](folder, [row | {"video": Path(row["video"]).name} for row in rows])
    return folder


def _time_r1(folder: Path, rows: list[Row]) -> None:
    for name in ("train_2k5.json", "tvgbench.json"):
        (folder / name).write_text(json.dumps(rows, indent=1), encoding="utf-8")


def _charades_sta(folder: Path, rows: list[Row]) -> None:
    for part in ("train", "test"):
        spans = [(Path(row["video"]).stem, *row["timestamp"], row["sentence"]) for row in rows]
        lines = [f"{video} {start} {end}##{sentence}" for video, start, end, sentence in spans]
        (folder / f"charades_sta_{part}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        lengths = {Path(row["video"]).stem: row["duration"] for row in rows}
        table = ["id,actions,length", *(f"{video},,{length}" for video, length in lengths.items())]
        (folder / f"Charades_v1_{part}.csv").write_text("\n".join(table) + "\n", encoding="utf-8")


def _timelens(name: str) -> Callable[[Path, list[Row]], None]:
    def write(folder: Path, rows: list[Row]) -> None:
        lines = [
            json.dumps(
                {
                    "source": "demo",
                    "video_path": row["video"],
                    "duration": row["duration"],
                    "events": [{"query": row["sentence"], "span": [row["timestamp"]]}],
                }
            )
            for row in rows
        ]
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")

    return write


WRITERS: dict[str, Callable[[Path, list[Row]], None]] = {
    "time_r1": _time_r1,
    "charades_sta": _charades_sta,
    "timelens_100k": _timelens("timelens-100k.jsonl"),
    "timelens2_93k": _timelens("timelens2-93k.jsonl"),
}
