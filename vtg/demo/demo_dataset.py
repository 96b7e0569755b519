"""The demo data set: synthetic mp4 files and their annotation rows, made on first use."""

import os
from dataclasses import asdict
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np

from vtg.config.data_settings import DemoConfig
from vtg.demo.language import demo_sentence
from vtg.demo.synthetic_folder import made_once, make_videos, write_rows
from vtg.demo.world import Event, World, make_world, render

SIZE = 112
"""Height and width of the videos, in pixels."""

# Usual ones, two of them no whole numbers: frame times must not be mistaken for frame numbers.
FRAME_RATES = (Fraction(8), Fraction(10), Fraction(25, 2), Fraction(15), Fraction(24), Fraction(30000, 1001))
SPLITS = ("train", "val", "test")

# libx264's macroblock tree reads uninitialised memory, so that the same frames would become other files.
ENCODING = {"preset": "veryfast", "crf": "20", "mbtree": "0"}


def ensure_demo(folder: str | os.PathLike[str], config: DemoConfig) -> Path:
    """The demo data set of `config` in `folder`: train.jsonl, val.jsonl, test.jsonl and the videos they name.

    It is made if the folder does not exist, under a temporary name that is renamed when it is whole.

    Raises:
        ConfigError: if the folder exists and holds anything else.
    """
    # Raise the version when the videos change: a folder made by an older vtg is then refused, not mixed with new runs.
    recipe = {"version": 2, "size": SIZE, **asdict(config)}

    def make(beside: Path) -> None:
        (beside / "videos").mkdir()
        counts = {"train": config.train_videos, "val": config.val_videos, "test": config.test_videos}
        make_one = partial(_make_video, beside, seed=config.seed)
        for split, videos in make_videos(counts, make_one, title="making the demo videos"):
            write_rows(beside / f"{split}.jsonl", [row for rows in videos for row in rows])

    return made_once(Path(folder), recipe=recipe, group="data.demo", make=make)


def _make_video(folder: Path, split: str, number: int, *, seed: int) -> list[dict]:
    """Writes one video and returns its annotation rows. Every video has its own stream of random numbers."""
    rng = np.random.default_rng([seed, SPLITS.index(split), number])
    duration_s = float(rng.uniform(5, 12))
    rate = FRAME_RATES[int(rng.integers(len(FRAME_RATES)))]
    frames = max(2, round(duration_s * rate))
    duration_s = round(float(frames / rate), 3)
    while True:
        world = make_world(rng, duration_s=duration_s, events=int(rng.integers(3, 6)), scenery=int(rng.integers(0, 3)))
        if len(world.queries) > 1:  # a sentence names two events
            break
    name = f"videos/{split}_{number:03d}.mp4"
    write_video(folder / name, world, rate=rate, frames=frames)
    return [
        {
            "video": name,
            "duration": duration_s,
            "timestamp": [event.start_s, min(event.end_s, duration_s)],
            "sentence": demo_sentence(event, _another(world.queries, at, rng), rng),
            "qid": f"{split}_{number:03d}_{at}",
        }
        for at, event in enumerate(world.queries)
    ]


def _another(events: tuple[Event, ...], at: int, rng: np.random.Generator) -> Event:
    return events[(at + int(rng.integers(1, len(events)))) % len(events)]


def write_video(path: Path, world: World, *, rate: Fraction, frames: int) -> None:
    """Encodes `frames` frames of the world as H.264, `rate` a second."""
    pictures = render(world, np.arange(frames) / float(rate), size=SIZE)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options=dict(ENCODING))
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
