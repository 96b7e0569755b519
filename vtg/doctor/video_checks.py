"""Whether the videos that annotation rows name exist and, where they are opened, last as long as the rows say."""

import os
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from vtg.annotations.row_checks import Finding
from vtg.annotations.sample import resolve_video, video_and_query
from vtg.video.files import address


class HasDuration(Protocol):
    """What `probe` gives: facts of a video, of which its duration is compared with the rows."""

    @property
    def duration_s(self) -> float: ...


class VideoChecks:
    """Checks the videos that rows name: that they exist and, with `probe`, that their durations fit.

    Every distinct file is checked once. `probe` opens a video and raises `unreadable` where that fails.
    """

    def __init__(
        self,
        video_dir: str | None,
        *,
        exists: Callable[[str], bool] = os.path.isfile,
        probe: Callable[[str], HasDuration] | None = None,
        unreadable: tuple[type[Exception], ...] = (OSError,),
        progress: Callable[[], object] = lambda: None,
    ) -> None:
        self._video_dir, self._exists, self._probe = video_dir, exists, probe
        self._unreadable, self._progress = unreadable, progress
        self._paths: dict[str, str] = {}
        self._files: dict[str, Finding | float | None] = {}

    @property
    def probes(self) -> bool:
        """Whether videos are opened."""
        return self._probe is not None

    def findings(self, row: dict[str, Any]) -> Iterator[Finding]:
        """What is wrong with the video of a row that has no errors of its own."""
        match self._checked_file(video_and_query(row)[0]):
            case Finding() as finding:
                yield finding
            case float() as file_s:
                yield from _duration_findings(row, file_s)

    def duration(self, row: dict[str, Any]) -> tuple[float, str] | None:
        """Of a row without `duration`, the seconds of its clip and their source; None where they cannot be known.

        Only with `probe`; of a row whose times and video have no other fault.
        """
        start_s, end_s = row.get("video_start"), row.get("video_end")
        if self._probe is None:
            return None
        if start_s is not None and end_s is not None:
            return float(end_s - start_s), f"video_start to video_end is {end_s - start_s:.10g} s"
        file_s = self._checked_file(video_and_query(row)[0])
        return (file_s, f"the file lasts {file_s:.10g} s") if isinstance(file_s, float) else None

    def _checked_file(self, video: str) -> Finding | float | None:
        """`_check_file` of a row's video, from memory where another row named it before."""
        path = self._paths.get(video)
        if path is None:
            path = self._paths[video] = resolve_video(video, self._video_dir)
        if path not in self._files:
            self._files[path] = self._check_file(path)
        return self._files[path]

    def _check_file(self, path: str) -> Finding | float | None:
        """The file's duration in seconds (None without probe), or what is wrong with it."""
        if fault := address.fault(path):  # of a name and the folder together: each alone may be opened
            return Finding("video", "video-address", fault)
        if not self._exists(path):
            remedy = "give its folder with --video-dir" if self._video_dir is None else "check --video-dir, or fetch it"
            return Finding("video", "video-missing", f"there is no file {path}; {remedy}")
        if self._probe is None:
            return None
        try:
            return float(self._probe(path).duration_s)
        except self._unreadable as error:
            return Finding("video", "video-unreadable", f"{path} cannot be read ({error}); fetch it again")
        finally:
            self._progress()


def readable_gap_s(duration_s: float) -> float:
    """How far the duration of a row may be from that of its file, and the file is still read."""
    # Loading allows this much (`video.clip_loading`): annotations often hold rounded or container durations.
    return max(1.0, 0.1 * duration_s)


def _after_the_end(times: list[Any], file_s: float) -> Iterator[Finding]:
    """Moments of which no frame is in a file that is a little shorter than its row says."""
    for start, end in times if times and isinstance(times[0], list) else [times] * bool(times):
        if start >= file_s:
            text = f"[{start:.10g}, {end:.10g}] begins after the end of the file, which lasts {file_s:.10g} s"
            yield Finding("timestamp", "timestamp-after-video", f"{text}; correct it, or drop the row")


def _duration_findings(row: dict[str, Any], file_s: float) -> Iterator[Finding]:
    """Whether a file that lasts `file_s` can hold the clip of a row: an error where `video.load` would refuse it."""
    duration_s, start_s, end_s = row["duration"], row.get("video_start"), row.get("video_end")
    lasts = f"the file lasts {file_s:.10g} s"
    if start_s is None or end_s is None:
        gap_s, text = abs(file_s - duration_s), f"{lasts}, not {duration_s:.10g} s"
        if gap_s > readable_gap_s(duration_s):
            text = f"{text}; fetch the right file, or give video_start and video_end if the clip is a part of it"
            yield Finding("duration", "video-duration", text)
        elif gap_s > max(0.5, 0.02 * duration_s):
            yield Finding(
                "duration", "video-duration-off", f"{text}; it is near enough to be read: correct it", "warning"
            )
        if gap_s <= readable_gap_s(duration_s):
            yield from _after_the_end(row.get("timestamp") or [], file_s)
        return
    clip_s = end_s - start_s
    # The tolerance of loading: the end of a trimmed clip is often rounded up past its file.
    tolerance_s = max(1.0, 0.05 * clip_s)
    # Data sets often ship clips already cut while their rows keep the times in the uncut video.
    if file_s < end_s and abs(file_s - clip_s) <= tolerance_s:
        text = f"{lasts}, as long as the clip: it is read as already cut; remove video_start and video_end"
        yield Finding("video_start", "video-already-cut", text, "warning")
    elif file_s <= start_s or file_s < end_s - tolerance_s:
        text = f"{lasts}: it neither reaches video_end ({end_s:.10g} s) nor is a clip of {clip_s:.10g} s"
        yield Finding("video_end", "video-trim", f"{text}; correct the times, or fetch the right file")
