"""Single frames, episodes and episode clips of recorded videos, for annotators and chat models that ask for them.

`FrameProvider` answers with what is on the screen at a time of a `VideoRecord`; `episodes/shown.py` has the rule.
"""

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vtg.errors import ConfigError
from vtg.storage.file_stamp import file_stamp
from vtg.video.clip import Clip, DecodeError
from vtg.video.clip_loading import decode_frames
from vtg.video.container import read_index
from vtg.video.episodes.episode_clips import episode_clip
from vtg.video.episodes.records import FilePart, VideoRecord
from vtg.video.episodes.shown import ShownFrames
from vtg.video.frame_index import FrameIndex
from vtg.video.frame_sampling import even_frames
from vtg.video.memory_cache import RecentlyUsed

logger = logging.getLogger(__name__)

# Frames and file indices kept per process; each DataLoader worker has its own.
CACHE_BYTES = 256 * 2**20


class Frames(Protocol):
    """What `FrameProvider` and `NullFrameProvider` both do."""

    def camera_keys(self, record: VideoRecord) -> list[str]: ...

    def frames_at(
        self,
        record: VideoRecord,
        timestamps: Sequence[float],
        camera_key: str | None = None,
        *,
        size: tuple[int, int] | None = None,
    ) -> list[np.ndarray | None]: ...

    def video_for_episode(
        self,
        record: VideoRecord,
        max_frames: int,
        camera_key: str | None = None,
        *,
        size: tuple[int, int] | None = None,
    ) -> Clip: ...

    def episode_clip_path(self, record: VideoRecord, camera_key: str | None = None) -> str: ...


class NullFrameProvider:
    """For data without videos: no cameras, None for every frame, DecodeError where a video is required."""

    def camera_keys(self, record: VideoRecord) -> list[str]:
        """No camera."""
        return []

    def frames_at(
        self,
        record: VideoRecord,
        timestamps: Sequence[float],
        camera_key: str | None = None,
        *,
        size: tuple[int, int] | None = None,
    ) -> list[np.ndarray | None]:
        """None for each of the timestamps."""
        return [None] * len(timestamps)

    def video_for_episode(
        self,
        record: VideoRecord,
        max_frames: int,
        camera_key: str | None = None,
        *,
        size: tuple[int, int] | None = None,
    ) -> Clip:
        """Raises DecodeError."""
        raise _no_video(record)

    def episode_clip_path(self, record: VideoRecord, camera_key: str | None = None) -> str:
        """Raises DecodeError."""
        raise _no_video(record)


class FrameProvider:
    """Frames of records, the most recently used ones kept in memory. Safe under threads; decoding happens unlocked.

    Threads that want the same frame at once wait for the one that decodes it. A worker process, forked or spawned,
    starts with an empty cache and locks of its own. Frames are shared with the cache, and so are read-only.

    Args:
        clip_dir: where `episode_clip_path` keeps its clips; needed only there.
        decoder: as in `video.decoder`.
        cache_bytes: limit of what is kept.
        camera_key: the camera that is meant where none is named; None for a record's first.
        tolerance_s: where a record starts between two frames, its first frame is shown this much early.

    Attributes:
        faults: path → why frames of it came back as None, the last reason of each file.
        memory: the frames and file indices that are kept.
    """

    def __init__(
        self,
        *,
        clip_dir: str | os.PathLike[str] | None = None,
        decoder: str = "auto",
        cache_bytes: int = CACHE_BYTES,
        camera_key: str | None = None,
        tolerance_s: float = 0.0,
    ) -> None:
        self.clip_dir = None if clip_dir is None else os.fspath(clip_dir)
        self.decoder, self.cache_bytes = decoder, cache_bytes
        self.camera_key, self.tolerance_s = camera_key, tolerance_s
        self.faults: dict[str, str] = {}
        self.memory: RecentlyUsed[tuple, Any] = RecentlyUsed(cache_bytes, size=_bytes)

    def camera_keys(self, record: VideoRecord) -> list[str]:
        """The record's cameras; the first is the one that is meant where none is named, here or in `camera_key`."""
        return list(record.cameras)

    def frames_at(
        self,
        record: VideoRecord,
        timestamps: Sequence[float],
        camera_key: str | None = None,
        *,
        size: tuple[int, int] | None = None,
    ) -> list[np.ndarray | None]:
        """The frame on the screen at each of `timestamps`, by the rule at the top of `vtg.video.episodes.shown`.

        Args:
            timestamps: seconds relative to the record's start, in any order, any of them repeated.
            camera_key: None for the provider's, else the first camera.
            size: (height, width) to which frames are resized; None leaves them as they are.

        Returns:
            One entry for each timestamp: (3, H, W) uint8 RGB, upright, read-only; None where the record shows nothing
            at that time or the frame cannot be decoded (`faults` says why).

        Raises:
            ConfigError: a camera that the record does not have, or an unknown decoder.
        """
        # An annotator asks for many times at once: a bad file costs it those frames, not the episode.
        part = record.part(camera_key or self.camera_key)
        if part is None or not len(timestamps):
            return [None] * len(timestamps)
        try:
            shown = ShownFrames.of(self._index(part.path), part)
        except DecodeError as error:
            self._note(part.path, error)
            return [None] * len(timestamps)
        numbers = [shown.number_at(float(time_s), early_s=self.tolerance_s) for time_s in timestamps]
        pictures = self._pictures(shown.index, [at for at in numbers if at is not None], size)
        return [None if at is None else pictures.get(at) for at in numbers]

    def video_for_episode(
        self,
        record: VideoRecord,
        max_frames: int,
        camera_key: str | None = None,
        *,
        size: tuple[int, int] | None = None,
    ) -> Clip:
        """The whole record as at most `max_frames` frames at even times, first and last among them (one: the first).

        Returns:
            A Clip with the true time of every frame; `duration_s` is the record's.

        Raises:
            DecodeError: no video, a file that cannot be read or ends before the record, or an undecodable frame.
            ConfigError: `max_frames` below 1, a camera that the record does not have, or an unknown decoder.
        """
        if max_frames < 1:
            raise ConfigError(f"max_frames = {max_frames}: must be at least 1")
        part = _part(record, camera_key or self.camera_key)
        shown = self._whole(record, part)
        # By time, not by number: with a variable rate every n-th frame would crowd where the rate is high.
        chosen = even_frames(shown.times_s, min(max_frames, len(shown.times_s)), duration_s=shown.duration_s)
        numbers = shown.numbers[chosen].tolist()
        pictures = self._pictures(shown.index, numbers, size)
        if missing := [at for at in numbers if at not in pictures]:
            raise DecodeError(
                f"{part.path}: {len(missing)} of {len(numbers)} frames of the episode cannot be decoded "
                f"({self.faults.get(part.path, 'no reason given')})"
            )
        return Clip(
            frames=np.stack([pictures[at] for at in numbers]),
            timestamps_s=shown.times_s[chosen],
            duration_s=shown.duration_s,
            path=part.path,
            start_s=part.start_s,
            end_s=part.start_s + shown.duration_s,
        )

    def episode_clip_path(self, record: VideoRecord, camera_key: str | None = None) -> str:
        """An H.264 mp4 of the record in `clip_dir`, made once, whoever asks; see `vtg.video.episodes.episode_clips`.

        Raises:
            DecodeError: as in `video_for_episode`.
            ConfigError: the provider has no `clip_dir`, a camera that the record does not have, or an unknown decoder.
            OSError: `clip_dir` cannot be written.
        """
        if self.clip_dir is None:
            raise ConfigError("clip_dir: is not set; make it FrameProvider(clip_dir=FOLDER) to write episode clips")
        camera_key = camera_key or self.camera_key
        part = _part(record, camera_key)
        return episode_clip(
            part,
            lambda: self._whole(record, part),
            folder=self.clip_dir,
            name=f"{record.key or Path(part.path).stem}-{camera_key or next(iter(record.cameras))}",
            decoder=self.decoder,
        )

    def _whole(self, record: VideoRecord, part: FilePart) -> ShownFrames:
        shown = ShownFrames.of(self._index(part.path), part)
        shown.check_whole(record.key)
        return shown

    def _index(self, path: str) -> FrameIndex:
        return self.memory.get((path, *file_stamp(path)), lambda: read_index(path))

    def _pictures(
        self, index: FrameIndex, wanted: Iterable[int], size: tuple[int, int] | None
    ) -> dict[int, np.ndarray]:
        """The frames of a file by their number, as far as they can be decoded."""
        path = index.info.path
        size = size or (index.info.height, index.info.width)
        if min(size) < 1:
            raise ConfigError(f"size = {size}: must be (height, width), both at least 1 pixel")
        # A file that changed on disk is another one: its old frames must not be given out.
        version = (path, *file_stamp(path), size)

        def decode(missing: list[tuple]) -> dict[tuple, np.ndarray]:
            numbers = np.array([at for *_, at in missing], dtype=np.int64)
            return {(*version, at): picture for at, picture in self._decode(index, numbers, size).items()}

        pictures = self.memory.get_many([(*version, at) for at in sorted(set(wanted))], decode)
        return {at: picture for (*_, at), picture in pictures.items()}

    def _decode(self, index: FrameIndex, chosen: np.ndarray, size: tuple[int, int]) -> dict[int, np.ndarray]:
        """The frames that can be decoded, by number."""
        # One pass over the file. Where a frame in it is damaged the pass fails as a whole, so halves are tried: the bad
        # frames are found in log2(T) passes each, and the others are still good.
        try:
            frames = decode_frames(index, chosen, size=size, decoder=self.decoder)
        except DecodeError as error:
            if len(chosen) == 1:
                self._note(index.info.path, error)
                return {}
            half = len(chosen) // 2
            return self._decode(index, chosen[:half], size) | self._decode(index, chosen[half:], size)
        pictures = {}
        for at, frame in zip(chosen.tolist(), frames, strict=True):
            # A copy: a view would keep all frames of the pass in memory for as long as one of them is kept.
            pictures[at] = frame.copy()
            # The array is shared with the cache and with other callers.
            pictures[at].flags.writeable = False
        return pictures

    def _note(self, path: str, error: DecodeError) -> None:
        # Once a file: an annotator may ask for thousands of its frames.
        if path not in self.faults:
            logger.warning("frames are left out (further ones of this file silently): %s", error)
        self.faults[path] = str(error)

    def __getstate__(self) -> dict[str, Any]:
        """Spawned workers start with an empty cache and locks of their own."""
        names = ("clip_dir", "decoder", "cache_bytes", "camera_key", "tolerance_s")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)


def _bytes(value: np.ndarray | FrameIndex) -> int:
    # An index holds about four arrays as long as its times.
    return 4 * value.times_s.nbytes if isinstance(value, FrameIndex) else value.nbytes


def _part(record: VideoRecord, camera_key: str | None) -> FilePart:
    part = record.part(camera_key)
    if part is None:
        raise _no_video(record)
    return part


def _no_video(record: VideoRecord) -> DecodeError:
    return DecodeError(f"episode {record.key!r}: has no video; check the data set, or leave the episode out")
