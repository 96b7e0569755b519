"""The part of a video file that a row asks about."""

import math
from dataclasses import KW_ONLY, dataclass

from vtg.errors import SampleError


@dataclass(frozen=True, slots=True)
class VideoWindow:
    """A video file and the annotated times of a clip in it: what decides, with the file, which frames are the clip's.

    Attributes:
        path: a file, a member of a tar file, or an address in a store.
        start_s, end_s: the part of the file that is the clip, in seconds of the file; None without a trim.
        duration_s: the annotated length of the clip; None if there is none.

    Raises:
        SampleError: times that no file could have.
    """

    path: str
    _: KW_ONLY
    start_s: float | None = None
    end_s: float | None = None
    duration_s: float | None = None

    def __post_init__(self) -> None:
        times_s = (self.duration_s, self.start_s, self.end_s)
        if not all(time_s is None or math.isfinite(time_s) for time_s in times_s):
            raise SampleError(
                f"{self.path}: duration = {self.duration_s}, video_start = {self.start_s}, video_end = {self.end_s}: "
                "must be finite"
            )
        start_s, stop_s = self.start_s or 0.0, self.stop_s
        if start_s < 0 or (stop_s is not None and stop_s <= start_s):
            raise SampleError(
                f"{self.path}: video_start = {self.start_s}, video_end = {stop_s}: must be 0 <= video_start < video_end"
            )

    @property
    def is_trimmed(self) -> bool:
        """Whether the clip is a part of its file, by what the row says."""
        return self.start_s is not None or self.end_s is not None

    @property
    def stop_s(self) -> float | None:
        """`end_s`; where only a start is given, as far behind it as the clip is long."""
        if self.end_s is None and self.start_s is not None and self.duration_s is not None:
            return self.start_s + self.duration_s
        return self.end_s
