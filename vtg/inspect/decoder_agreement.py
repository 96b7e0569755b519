"""Which decoders are right for a file: each is asked for the same frames, in a child process, and compared.

Every decoder checks the time of every frame it gives against the container's (`FrameIndex`) and refuses a file where
they differ; here the pictures are compared with PyAV's as well.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from vtg.config.video_settings import VideoConfig
from vtg.video.clip import Clip, DecodeError
from vtg.video.decoders import DECODERS
from vtg.video.isolation import IsolatedLoader
from vtg.video.video_window import VideoWindow

# Compared in each file, from the first to the last: the last are where decoders that count frames go astray.
FRAMES = 8

# Mean grey levels by which a picture may differ: versions of FFmpeg convert colours a little differently.
PICTURE_TOLERANCE = 6.0

EXACT, REFUSED, WRONG, ABSENT = "exact", "refused", "wrong", "not installed"


@dataclass(frozen=True)
class Verdict:
    """What one decoder made of one file: `exact`, `refused`, `wrong` or `not installed`, and why."""

    decoder: str
    verdict: str
    reason: str = ""


@dataclass(frozen=True)
class Agreement:
    """The verdicts on a file, one for each of DECODERS; `clip` is PyAV's, None where it refused."""

    path: str
    verdicts: tuple[Verdict, ...]
    clip: Clip | None


@contextmanager
def comparison(*, timeout_s: float = 60.0) -> Iterator["Comparison"]:
    """A `Comparison` whose child process ends with the block."""
    loader = IsolatedLoader(timeout_s=timeout_s)
    try:
        yield Comparison(loader)
    finally:
        loader.close()


class Comparison:
    """Compares the decoders on one file after another."""

    def __init__(self, loader: IsolatedLoader) -> None:
        self.loader = loader

    def of(self, path: str) -> Agreement:
        """The verdicts on a file, good or bad; raises nothing because of it."""
        clips: dict[str, Clip] = {}
        verdicts = []
        for name in DECODERS:
            # One small frame size for all decoders, resized by each: what differs is decoding, and memory stays low.
            config = VideoConfig(
                decoder=name, sampling="uniform", max_frames=FRAMES, min_frames=1, min_pixels=16384, max_pixels=16384
            )
            try:
                clips[name] = self.loader.load_clip(VideoWindow(path), config, factor=16, temporal_patch=1)
            except DecodeError as error:
                verdicts.append(Verdict(name, REFUSED, str(error).removeprefix(f"{path}: ")))
            except ImportError as error:
                verdicts.append(Verdict(name, ABSENT, str(error)))
            else:
                # PyAV is the first of DECODERS, and reads the index that all times are checked against.
                difference = _difference(clips[name], clips.get("pyav", clips[name]))
                verdicts.append(Verdict(name, WRONG if difference else EXACT, difference))
        return Agreement(path, tuple(verdicts), clips.get("pyav"))


def _difference(clip: Clip, reference: Clip) -> str:
    if not np.array_equal(clip.timestamps_s, reference.timestamps_s):
        return f"times {clip.timestamps_s.tolist()}, not {reference.timestamps_s.tolist()}"
    levels = np.abs(clip.frames.astype(int) - reference.frames).mean(axis=(1, 2, 3))
    worst = int(levels.argmax())
    if levels[worst] > PICTURE_TOLERANCE:
        return f"the picture at {clip.timestamps_s[worst]:.3f} s is {levels[worst]:.1f} grey levels from PyAV's"
    return ""
