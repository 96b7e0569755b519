"""The facts of many videos, probed once and kept in one Parquet file: what planning needs without opening a video.

A row a video: `video` (its name in the annotation rows, so relative to the video folder), `size` in bytes and
`mtime_ns` by which it is known, `duration_s`, `frames` (0 if the header does not say), `fps`, `height` and `width`
(upright pixels), and `error`: why it cannot be read, null if it can.

Training reads `ROWS.jsonl.videos.parquet` beside ROWS.jsonl, or `data.index_file`. A file whose size or time is another
than in the index counts as not in it. Objects in a store are known by their names alone.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from vtg.errors import ConfigError, SampleError
from vtg.storage.atomic import written_beside
from vtg.video.container import probe

if TYPE_CHECKING:
    import pyarrow as pa

ENDING = ".videos.parquet"

# Videos opened at a time: more than cores, because a probe mostly waits for the disk.
PROBES = 8

# How often an index is written while it is made: at most this much work is lost by a stop.
SAVE_S = 60.0

# Videos handed to the threads before their results are taken: bounded, since there may be millions.
AHEAD = 64

NUMBERS = {
    "size": "int64", "mtime_ns": "int64", "duration_s": "float64", "frames": "int64", "fps": "float64",
    "height": "int32", "width": "int32",
}  # fmt: skip


@dataclass(frozen=True, repr=False)
class VideoIndex:
    """The table of a file, (V,) rows.

    Attributes:
        table: columns `video`, those of `NUMBERS`, `error`.
    """

    table: "pa.Table"

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "VideoIndex":
        """Raises ConfigError for a file that is no index."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            # Given a name, pyarrow would open addresses too, and no file whose name is not UTF-8.
            with open(path, "rb") as file:
                table = pq.read_table(file).combine_chunks()
        except (pa.ArrowException, OSError) as error:
            raise ConfigError(f"{path}: not an index of videos ({error}); make it again: {_command(path)}") from error
        if missing := {"video", *NUMBERS, "error"} - set(table.column_names):
            raise ConfigError(
                f"{path}: not an index of videos: it has no {', '.join(sorted(missing))}; make it: {_command(path)}"
            )
        return cls(table)

    @classmethod
    def beside(cls, annotation_file: str | None, index_file: str | None) -> "VideoIndex | None":
        """The index of an annotation file: `index_file`, or the one beside it, if there is any."""
        if index_file is not None:
            return cls.read(index_file)
        path = None if annotation_file is None else annotation_file + ENDING
        return cls.read(path) if path is not None and os.path.isfile(path) else None

    @classmethod
    def of(cls, entries: list[dict[str, Any]]) -> "VideoIndex":
        import pyarrow as pa

        columns: dict[str, Any] = {"video": pa.array([entry["video"] for entry in entries], pa.string())}
        for name, kind in NUMBERS.items():
            columns[name] = np.array([entry[name] for entry in entries], kind)
        columns["error"] = pa.array([entry["error"] for entry in entries], pa.string())
        return cls(pa.table(columns))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes atomically: a reader sees the old file or the new one."""
        import pyarrow.parquet as pq

        with written_beside(path) as beside, beside.open("wb") as file:
            pq.write_table(self.table, file)

    def numbers(self, name: str) -> np.ndarray:
        """(V,) a column of `NUMBERS`."""
        return self.table.column(name).to_numpy()

    def errors(self) -> list[tuple[str, str]]:
        """(video, why it cannot be read) of the bad ones."""
        import pyarrow.compute as pc

        bad = self.table.filter(pc.is_valid(self.table.column("error")))  # pyright: ignore
        return list(zip(bad.column("video").to_pylist(), bad.column("error").to_pylist(), strict=True))

    def positions(self, videos: "pa.Array", stamps: np.ndarray) -> np.ndarray:
        """(N,) int64: the rows of these videos as they are now, -1 for those that are not in the index.

        Args:
            stamps: (N, 2) int64 their sizes and times, `vtg.video.files.video_files.stamp`.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        known = self.table.column("video")
        found = pc.fill_null(pc.index_in(videos, value_set=known.cast(videos.type)), pa.scalar(-1, pa.int32()))  # pyright: ignore
        at = np.asarray(found).astype(np.int64)
        if not len(self):
            return np.full(len(at), -1, np.int64)
        own = np.stack([self.numbers("size")[at], self.numbers("mtime_ns")[at]], axis=1)
        # (0, 0): objects in a store are taken never to change under their name.
        is_remote = (stamps == 0).all(axis=1)
        return np.where((at >= 0) & (is_remote | (own == stamps).all(axis=1)), at, -1)

    def __len__(self) -> int:
        return self.table.num_rows

    def __repr__(self) -> str:
        return f"VideoIndex({len(self)} videos)"


def make_index(
    videos: "pa.Array",
    stamps: np.ndarray,
    out: str,
    *,
    resolve: Callable[[str], str],
    progress: Callable[[int], object] = lambda count: None,
) -> VideoIndex:
    """Probes every video that the index at `out` does not know as it is now, and writes the index, also in between.

    An interrupted call loses at most a minute's work; the next one resumes. Rows of other videos are kept.

    Args:
        videos: distinct names. stamps: (V, 2) of them, see `VideoIndex.positions`.
        resolve: name → where it is.
        progress: called with the number of videos that are newly known.
    """
    index = VideoIndex.read(out) if os.path.isfile(out) else VideoIndex.of([])
    known = index.positions(videos, stamps) >= 0
    progress(int(known.sum()))
    fresh: list[dict[str, Any]] = []
    saved_s = monotonic()
    try:
        for entry in _probed(videos.filter(_boolean(~known)), stamps[~known], resolve):
            fresh.append(entry)
            progress(1)
            if monotonic() - saved_s > SAVE_S:
                index, fresh = _joined(index, fresh), []
                index.write(out)
                saved_s = monotonic()
    finally:
        # Ctrl-C too keeps what was probed.
        index = _joined(index, fresh)
        index.write(out)
    return index


def _probed(videos: "pa.Array", stamps: np.ndarray, resolve: Callable[[str], str]) -> Iterator[dict[str, Any]]:
    def entry(at: int) -> dict[str, Any]:
        name = videos[at].as_py()
        facts: dict[str, Any] = {"video": name} | dict.fromkeys(NUMBERS, 0) | {"error": None}
        facts["size"], facts["mtime_ns"] = stamps[at].tolist()
        try:
            info = probe(resolve(name))
        except SampleError as error:
            # Recorded, so that a bad file is not opened again at every start.
            return facts | {"error": str(error)}
        facts |= {"duration_s": info.duration_s, "frames": info.frames or 0, "fps": info.fps}
        return facts | {"height": info.height, "width": info.width}

    with ThreadPoolExecutor(PROBES) as pool:
        todo = iter(range(len(videos)))
        waiting = [pool.submit(entry, at) for at in islice(todo, AHEAD)]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [pool.submit(entry, at) for at in islice(todo, 1)]


def _joined(index: VideoIndex, entries: list[dict[str, Any]]) -> VideoIndex:
    """The index with these entries in place of its own of the same videos."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not entries:
        return index
    # New entries replace old ones of the same name: the file has changed.
    more = VideoIndex.of(entries).table
    kept = index.table.filter(pc.invert(pc.is_in(index.table.column("video"), value_set=more.column("video"))))  # pyright: ignore
    return VideoIndex(pa.concat_tables([kept.select(more.column_names), more]).combine_chunks())


def _boolean(mask: np.ndarray) -> "pa.Array":
    import pyarrow as pa

    return pa.array(mask)


def _command(path: str | os.PathLike[str]) -> str:
    return f"python -m vtg.inspect --index ROWS.jsonl -o {path}"
