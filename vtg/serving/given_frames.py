"""Frames that a client sends with their times, in place of a video file."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from vtg.config.video_settings import VideoConfig
from vtg.errors import SampleError
from vtg.video.clip import Clip
from vtg.video.clip_cost import frames_cost, of_one_size
from vtg.video.decoders.picture import resized
from vtg.video.frame_sampling import choose_frames

# Pillow reads dozens of formats, some by other programs; these are what frames are kept in.
FORMATS = ("JPEG", "PNG", "WEBP")

# What Pillow raises: a SyntaxError of a broken PNG, the last of sizes that it does not even look at.
READING = (OSError, SyntaxError, Image.DecompressionBombError)

# Of one frame, before it is made smaller: 8K. A small file can name any size.
MAX_PIXELS = 7680 * 4320


@dataclass(frozen=True, repr=False, eq=False)
class GivenFrames:
    """Encoded pictures (JPEG, PNG, WebP) and the time of each.

    Attributes:
        times_s: seconds from the clip's start, increasing.
        duration_s: of the clip, after the last of them.
    """

    pictures: Sequence[bytes]
    times_s: Sequence[float]
    duration_s: float

    def clip(self, config: VideoConfig, *, factor: int, temporal_patch: int = 2, side: int | None = None) -> Clip:
        """The frames as those of a file that holds no others: all of them, up to `video.max_frames` evenly.

        Args: as `vtg.video.clip_loading.load_clip` takes them.

        Raises:
            SampleError: a picture that cannot be read, or is of another size; times that do not fit.
        """
        times_s = np.asarray(self.times_s, dtype=np.float64)
        if len(times_s) != len(self.pictures) or not len(times_s):
            raise SampleError(f"{len(self.pictures)} frames with {len(times_s)} times: give each of them a time")
        if not (np.isfinite(times_s).all() and (np.diff(times_s) > 0).all() and times_s[0] >= 0):
            raise SampleError(f"the times of frames must rise from 0 s on: {[round(t, 3) for t in times_s.tolist()]}")
        if not times_s[-1] < self.duration_s < float("inf"):
            raise SampleError(f"duration = {self.duration_s:g} s: must be after the last frame, at {times_s[-1]:g} s")
        config = of_one_size(replace(config, sampling="fps", fps=0.0), factor=factor, side=side)
        taken = choose_frames(times_s, config, duration_s=self.duration_s, temporal_patch=temporal_patch)
        read = np.stack(self._pictures(taken))
        options = {"factor": factor, "temporal_patch": temporal_patch, "side": side}
        cost = frames_cost(len(taken), height=read.shape[1], width=read.shape[2], config=config, **options)
        return Clip(
            frames=resized(read, (cost.height, cost.width)),
            timestamps_s=times_s[taken],
            duration_s=self.duration_s,
            path="the frames",
            start_s=0.0,
            end_s=self.duration_s,
            pad=cost.pad,
        )

    def _pictures(self, taken: np.ndarray) -> list[np.ndarray]:
        """(H, W, 3) uint8 of each."""
        read: list[np.ndarray] = []
        for at in taken.tolist():
            try:
                with Image.open(io.BytesIO(self.pictures[at]), formats=FORMATS) as picture:
                    if picture.width * picture.height > MAX_PIXELS:
                        raise SampleError(
                            f"frame {at}: {picture.width}x{picture.height} pixels, at most {MAX_PIXELS:,} are read"
                        )
                    read.append(np.asarray(picture.convert("RGB")))
            except READING as error:
                raise SampleError(f"frame {at}: no readable picture ({', '.join(FORMATS)})") from error
            if read[-1].shape != read[0].shape:
                raise SampleError(f"frame {at}: is {read[-1].shape[:2]} pixels, the first {read[0].shape[:2]}")
        return read
