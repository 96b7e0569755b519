"""The gym: a harder synthetic data set than the demo, to compare answer forms, losses and ways of training on.

Clips of variable frame rate, 20 to 120 s long; questions that count and order events, with no moment, one or several.
The split `long` has clips longer than any in training.
"""

import os
from dataclasses import asdict
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import OutputContainer

from vtg.config.data_settings import GymConfig
from vtg.demo.demo_dataset import ENCODING
from vtg.demo.gym_queries import GymQuery, gym_queries
from vtg.demo.gym_tasks import TASKS, task_rows
from vtg.demo.gym_world import make_gym_world
from vtg.demo.synthetic_folder import made_once, make_videos, write_rows
from vtg.demo.world import World, make_world, render

# Four vision tokens of 32 x 32 pixels: what the tiny model reads without resizing.
SIZE = 64

SPLITS = ("train", "val", "test", "long")

MOMENTS = ("one", "set")
"""Each split is written twice: with the questions that have one moment, and with all, of no moment and several too."""

# Frames a second of a stretch. From screen recordings to cameras: no constant step leads from one frame to the next.
RATES = (3.0, 6.0, 12.5)
STRETCH_S = 5.0

TIME_BASE = Fraction(1, 1000)


def ensure_gym(folder: str | os.PathLike[str], config: GymConfig) -> Path:
    """The gym of `config` in `folder`: SPLIT_one.jsonl, SPLIT_set.jsonl and the videos they name; made once.

    SPLIT_points.jsonl, SPLIT_tracks.jsonl and so on are rows of these tasks (`vtg.demo.gym_tasks.TASKS`) about the same
    videos.

    Raises:
        ConfigError: if the folder exists and holds anything else.
    """
    # Raise the version when the videos or rows change: see `ensure_demo`.
    recipe = {"version": 3, "size": SIZE, **asdict(config)}

    def make(beside: Path) -> None:
        (beside / "videos").mkdir()
        counts = {split: getattr(config, f"{split}_videos") for split in SPLITS}
        make_one = partial(_make_video, beside, config=config)
        for split, videos in make_videos(counts, make_one, title="making the gym's videos"):
            rows = {name: [row for made in videos for row in made[name]] for name in ("set", *TASKS)}
            rows["one"] = [row for row in rows["set"] if _has_one_moment(row)]
            for name, made in rows.items():
                write_rows(beside / f"{split}_{name}.jsonl", made)

    return made_once(Path(folder), recipe=recipe, group="data.gym", make=make)


def _make_video(folder: Path, split: str, number: int, *, config: GymConfig) -> dict[str, list[dict[str, Any]]]:
    """Writes one video and returns its rows: of spans ("set"), and of the other tasks."""
    rng = _stream(split, number, config)
    world, queries, times_ms = _drawn(rng, split, config)
    name = video_name(split, number)
    write_variable_rate(folder / name, world, times_ms=times_ms)
    others = task_rows(world, rng, frames_s=times_ms / 1000, crowded=config.crowded)
    rows = {"set": [_row(query) for query in queries], **others}
    # A qid names its row among those of all tasks.
    marks = {task: "" if task == "set" else f"{task}_" for task in rows}
    return {
        task: [
            {"video": name, "duration": world.duration_s, **row, "qid": f"{split}_{number:03d}_{marks[task]}{at}"}
            for at, row in enumerate(made)
        ]
        for task, made in rows.items()
    }


def gym_world(split: str, number: int, config: GymConfig) -> World:
    """What happens in a video of the gym: all of it, where rows tell only what they ask for."""
    return _drawn(_stream(split, number, config), split, config)[0]


def video_name(split: str, number: int) -> str:
    """Below the gym's folder."""
    return f"videos/{split}_{number:03d}.mp4"


def _stream(split: str, number: int, config: GymConfig) -> np.random.Generator:
    """Every video has its own random numbers."""
    return np.random.default_rng([config.seed, SPLITS.index(split), number])


def _drawn(rng: np.random.Generator, split: str, config: GymConfig) -> tuple[World, list[GymQuery], np.ndarray]:
    """A world, what is asked about it, and the times of its frames, (T,) int64 in milliseconds."""
    low, high = (config.longest_s, config.long_s) if split == "long" else (config.shortest_s, config.longest_s)
    times_ms, duration_s = frame_times_ms(rng, duration_s=float(rng.uniform(low, high)))
    while True:
        world = make_gym_world(rng, duration_s=duration_s) if config.crowded else _plain_world(rng, duration_s)
        queries = gym_queries(world, rng)
        # A crowded draw may have left events out.
        if sum(len(query.spans) == 1 for query in queries) >= (4 if config.crowded else 1):
            return world, queries, times_ms


def _plain_world(rng: np.random.Generator, duration_s: float) -> World:
    """One to four shapes, each once, and white scenery at times."""
    return make_world(rng, duration_s=duration_s, events=int(rng.integers(1, 5)), scenery=int(rng.integers(2)))


def _row(query: GymQuery) -> dict[str, Any]:
    spans = [list(span) for span in query.spans]
    return {"timestamp": spans[0] if len(spans) == 1 else spans, "sentence": query.sentence, "form": query.form}


def _has_one_moment(row: dict[str, Any]) -> bool:
    return bool(row["timestamp"]) and not isinstance(row["timestamp"][0], list)


def frame_times_ms(rng: np.random.Generator, *, duration_s: float) -> tuple[np.ndarray, float]:
    """Times of the frames of about `duration_s` seconds, (T,) int64 in milliseconds from 0, and the exact duration."""
    steps_ms: list[np.ndarray] = []
    while sum(int(part.sum()) for part in steps_ms) < 1000 * duration_s:
        rate = float(rng.choice(RATES))
        shares = rng.uniform(0.7, 1.3, int(STRETCH_S * rate))
        steps_ms.append(np.maximum(1, np.round(1000 / rate * shares)).astype(np.int64))
    starts = np.concatenate([[0], np.cumsum(np.concatenate(steps_ms))])
    # What starts before the end is shown; the last frame lasts until the next would have begun.
    count = int(np.searchsorted(starts, 1000 * duration_s, side="left"))
    return starts[:count], float(starts[count]) / 1000


def write_variable_rate(path: Path, world: World, *, times_ms: np.ndarray) -> None:
    """Encodes the world at `times_ms` (T,) as H.264, each frame at its own time; it lasts `world.duration_s`."""
    pictures = render(world, times_ms / 1000, size=SIZE)
    ends_ms = [*times_ms[1:].tolist(), round(1000 * world.duration_s)]
    lengths = {int(start): int(end - start) for start, end in zip(times_ms, ends_ms, strict=True)}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000, options={**ENCODING, "bf": "0"})
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = TIME_BASE
        for time_ms, picture in zip(times_ms, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = int(time_ms), TIME_BASE
            for packet in stream.encode(frame):
                _mux(container, packet, lengths)
        for packet in stream.encode():
            _mux(container, packet, lengths)


def _mux(container: OutputContainer, packet: av.Packet, lengths: dict[int, int]) -> None:
    # The encoder knows no rate: without this the last frame would last no time, and the clip be too short.
    assert packet.pts is not None
    packet.duration = lengths[packet.pts]
    container.mux(packet)
