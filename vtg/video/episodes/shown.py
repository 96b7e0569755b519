"""What is on the screen at a time of a recorded episode.

Every time here is in seconds relative to the start of the episode's part of the file:

- The frame of a time t is the last one of the part with presentation time <= t. A frame counts as shown up to half a
  tick of the file's clock early (but at least 0.1 ms, the error of 32-bit float times, and at most 0.5 ms).
- Frames that are first shown before the part's start belong to the episode before it, and are never given: where a part
  starts between two frames there is no frame until the next one. From its end on there is none either.
- The last frame stays until the part's end, even where that lies after the file's end by up to `HOLD_S`.
"""

from dataclasses import dataclass

import numpy as np

from vtg.video.clip import DecodeError
from vtg.video.episodes.records import FilePart
from vtg.video.frame_index import FrameIndex

# A part may end this long after its file and still be whole: its last frame stays. Durations are often rounded.
HOLD_S = 1.0


@dataclass(frozen=True, repr=False, eq=False)
class ShownFrames:
    """The frames of a file that belong to a part of it.

    Attributes:
        index: of the whole file.
        part: the part.
        first: number of the first of them in `index`.
        times_s: (N,) float64 their times, relative to the part's start; N may be 0.
        duration_s: of the part.
        seen_s: how far the file reaches into the part: nothing is on the screen after it.
        tolerance_s: a frame counts as shown this much early.
    """

    index: FrameIndex
    part: FilePart
    first: int
    times_s: np.ndarray
    duration_s: float
    seen_s: float
    tolerance_s: float

    @classmethod
    def of(cls, index: FrameIndex, part: FilePart) -> "ShownFrames":
        # Half a tick of rounding. At least 0.1 ms, the error of times stored as 32-bit floats; at most 0.5 ms, lest a
        # coarse clock show the frame after.
        tolerance_s = min(max(float(index.time_base) / 2, 1e-4), 5e-4)
        file_s = index.info.duration_s
        # A start after the file's end leaves no frame; the length then does not matter.
        end_s = max(file_s, part.start_s) if part.end_s is None else part.end_s
        first, stop = np.searchsorted(index.times_s, [part.start_s - tolerance_s, end_s - tolerance_s])
        # A first frame that counts although it is early by the tolerance is shown from 0 on.
        times_s = np.maximum(index.times_s[first:stop] - part.start_s, 0.0)
        seen_s = end_s if end_s <= file_s + HOLD_S else file_s
        return cls(index, part, int(first), times_s, end_s - part.start_s, seen_s - part.start_s, tolerance_s)

    def __repr__(self) -> str:
        return f"ShownFrames({self.part}, {len(self.times_s)} frames from number {self.first} on)"

    @property
    def numbers(self) -> np.ndarray:
        """(N,) int64 their numbers in `index`."""
        return np.arange(self.first, self.first + len(self.times_s))

    def number_at(self, time_s: float, *, early_s: float = 0.0) -> int | None:
        """The number in `index` of the frame shown at `time_s`; None where there is none. The first one counts as shown
        `early_s` before its time."""
        if len(self.times_s) and 0 <= self.times_s[0] - time_s <= early_s and time_s >= -self.tolerance_s:
            return self.first
        if not -self.tolerance_s <= time_s < self.seen_s - self.tolerance_s:
            return None
        at = int(np.searchsorted(self.times_s, time_s + self.tolerance_s, side="right")) - 1
        return self.first + at if at >= 0 else None

    def check_whole(self, key: str) -> None:
        """Raises DecodeError where the part of episode `key` has no frame, or is not in the file to its end."""
        part, file_s = self.part, self.index.info.duration_s
        if part.end_s is None or part.end_s > file_s:
            if self.index.fault:
                raise DecodeError(f"{part.path}: {self.index.fault}")
            if part.end_s is not None and part.end_s > file_s + HOLD_S:
                raise DecodeError(
                    f"{part.path}: the episode {key or 'of it'} ends at {part.end_s:.3f} s, but the file is "
                    f"{file_s:.3f} s long; check that this is the right file, and whole"
                )
        if not len(self.times_s):
            raise DecodeError(
                f"{part.path}: no frame is first shown between {part.start_s:.3f} and "
                f"{part.start_s + self.duration_s:.3f} s (the file is {file_s:.3f} s long); check the episode's times"
            )
