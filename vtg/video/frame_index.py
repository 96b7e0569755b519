"""The facts of a video file, and the presentation time of each of its frames, as data."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """Facts of a file.

    Attributes:
        duration_s: from the container's start to the end of the last frame.
        declared_s: the length the header gives to the whole file, sound included; None if it gives none.
        width, height: of the upright picture, in stored pixels (the pixel aspect ratio is ignored, as HF does).
        fps: average rate of the stream, 0 if unknown.
        frames: number of stored frames as the header counts them, None if it does not.
        rotation: degrees clockwise (0, 90, 180, 270) that turn the stored picture upright.
        start_s: container start time, the file's own time of zero here.
    """

    path: str
    # Of what can be seen; the header's own length may be of a longer sound track.
    duration_s: float
    declared_s: float | None
    width: int
    height: int
    fps: float
    frames: int | None
    codec: str
    rotation: int
    start_s: float


@dataclass(frozen=True, repr=False, eq=False)
class FrameIndex:
    """Every shown frame of a file, or of a part of it.

    Attributes:
        times_s: (N,) float64, strictly increasing: presentation times, 0 = the container's start.
        pts: (N,) int64: the same in ticks of `time_base`, as stored.
        is_key: (N,) bool: frames that decode on their own.
        packet_pts: (M,) int64: of every stored frame, hidden ones included, in the order of decoding.
        packet_is_key: (M,) bool: which of these decode on their own.
        stream_index: of the video stream within the container.
        format: FFmpeg's name of the container format.
        fault: why the file cannot be read to its end; None if it can.
        is_whole: no part was asked for: the first packet is the file's first.
    """

    # Arrays, not a list of objects: an hour at 30 a second is 108,000 frames.
    info: VideoInfo
    times_s: np.ndarray
    pts: np.ndarray
    is_key: np.ndarray
    packet_pts: np.ndarray
    packet_is_key: np.ndarray
    time_base: Fraction
    stream_index: int
    format: str
    fault: str | None
    is_whole: bool = True

    @property
    def by_order(self) -> bool:
        """Whether the n-th decoded frame has the n-th time, whatever time it states."""
        # AVI stores no presentation times: what decoders state for its frames is made up.
        return self.format == "avi"

    def __repr__(self) -> str:
        return f"FrameIndex({self.info.path!r}, {len(self.pts)} frames, {self.info.duration_s:.3f} s)"
