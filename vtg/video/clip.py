"""The Clip: frames, and the true time of every one of them."""

from dataclasses import dataclass

import numpy as np

from vtg.errors import SampleError
from vtg.video.files.address import is_picture


class DecodeError(SampleError):
    """A video that cannot be read as asked: names the file, the cause, and what to check."""


@dataclass(frozen=True, repr=False, eq=False)
class Clip:
    """A part of a video file, sampled; or still pictures, frames without times (0, 1, … s stand in for them).

    Attributes:
        frames: (T, C, H, W) uint8, RGB, upright, T >= 1.
        timestamps_s: (T,) float64, strictly increasing, in [0, duration_s): when each of these frames is first shown,
            relative to the clip's start.
        duration_s: length of the clip; spans, prompts and answers are relative to it.
        path: the file it was read from.
        start_s, end_s: where it lies in that file (0 = the container's start time). `end_s` may lie a little after the
            last frame of the file where the annotation says so.
        pad: how many repeats of the last frame a model input is to append, masked (`video.pad`); not in `frames`.
    """

    # Channels before height and width, 8 bits: what Hugging Face's video processors take, a quarter of float32.
    frames: np.ndarray
    timestamps_s: np.ndarray
    duration_s: float
    path: str
    start_s: float
    end_s: float
    pad: int = 0

    def __post_init__(self) -> None:
        frames, times_s = self.frames, self.timestamps_s
        if frames.ndim != 4 or frames.dtype != np.uint8 or frames.shape[1] != 3 or 0 in frames.shape:
            raise ValueError(
                f"{self.path}: frames must be (T, 3, H, W) uint8 with T, H, W >= 1, not {frames.shape} {frames.dtype}"
            )
        if times_s.shape != (len(frames),) or times_s.dtype != np.float64:
            raise ValueError(
                f"{self.path}: timestamps_s must be ({len(frames)},) float64, one for each frame, "
                f"not {times_s.shape} {times_s.dtype}"
            )
        if not (np.isfinite(times_s).all() and (np.diff(times_s) > 0).all()):
            raise ValueError(f"{self.path}: timestamps_s must be finite and strictly increasing, not {times_s}")
        # Spans are predicted within [0, duration_s): a frame outside it is one of another part of the file.
        if not 0 <= times_s[0] <= times_s[-1] < self.duration_s:
            raise ValueError(
                f"{self.path}: timestamps_s must lie in [0, duration_s = {self.duration_s:.10g}), "
                f"but run from {times_s[0]:.10g} to {times_s[-1]:.10g}"
            )
        if not self.start_s < self.end_s:
            raise ValueError(f"{self.path}: start_s = {self.start_s:.10g} must be before end_s = {self.end_s:.10g}")
        if self.pad < 0:
            raise ValueError(f"{self.path}: pad = {self.pad}: a number of frames to append, must be at least 0")

    @property
    def is_still(self) -> bool:
        """Whether it is of still pictures, of which a model is told no times."""
        return is_picture(self.path)

    def padded(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The clip with its padding: what consumers of a fixed number of frames read.

        Returns:
            frames: (T + pad, C, H, W) uint8, the last frame repeated. Without padding `frames` itself, not a copy.
            timestamps_s: (T + pad,) float64, a repeat with the last frame's time.
            mask: (T + pad,) bool, which of them are real.
        """
        count = len(self.frames)
        # Made here and not kept: clips stay in the caches without it.
        at = np.arange(count + self.pad)
        mask = at < count
        if not self.pad:
            return self.frames, self.timestamps_s, mask
        at = np.minimum(at, count - 1)
        return self.frames[at], self.timestamps_s[at], mask

    def __repr__(self) -> str:
        size = "x".join(map(str, self.frames.shape))
        pad = f" + {self.pad} padding" if self.pad else ""
        return (
            f"Clip({self.path!r}, {self.start_s:.3f}-{self.end_s:.3f} s, frames {size}{pad} "
            f"at {self.timestamps_s[0]:.3f}..{self.timestamps_s[-1]:.3f} s of {self.duration_s:.3f} s)"
        )
