"""The frame provider that suits records."""

import os
from collections.abc import Iterable

from vtg.errors import ConfigError
from vtg.video.episodes.frame_provider import FrameProvider, Frames, NullFrameProvider
from vtg.video.episodes.records import VideoRecord


def make_frame_provider(
    records: Iterable[VideoRecord],
    *,
    camera_key: str | None = None,
    clip_dir: str | os.PathLike[str] | None = None,
    tolerance_s: float = 0.0,
) -> Frames:
    """A `FrameProvider` of these settings; a `NullFrameProvider` where no record has a camera.

    Raises:
        ConfigError: `camera_key` is a camera of none of the records.
    """
    cameras = dict.fromkeys(key for record in records for key in record.cameras)
    if camera_key is not None and camera_key not in cameras:
        raise ConfigError(f"camera_key = {camera_key!r}: no such camera; there are {', '.join(cameras) or 'none'}")
    if not cameras:
        return NullFrameProvider()
    return FrameProvider(clip_dir=clip_dir, camera_key=camera_key, tolerance_s=tolerance_s)
