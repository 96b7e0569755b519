"""An LRU cache on disk of decoded clips: reading, sampling and resizing happen once, a cache hit is many times faster.

A folder (`vtg.storage.bounded_folder`) holds one file a clip, with a checksum; a damaged one is removed and its clip
decoded again.
"""

import hashlib
import json
import logging
from collections import Counter

import av
from av.error import FFmpegError

from vtg.errors import ConfigError
from vtg.storage.bounded_folder import BoundedFolder
from vtg.video.clip import Clip
from vtg.video.clip_encoding import CACHE_FORMATS, FORMAT, UnreadableEntry, pack_clip, unpack_clip
from vtg.video.files import video_files
from vtg.video.video_window import VideoWindow

logger = logging.getLogger(__name__)


def clip_key(window: VideoWindow, **settings: object) -> str:
    """The name, in hex, of the clip that `settings` make of a window: another once its file or any of them changes.

    Args:
        window: links to one file share its clips, and a file is known by its size and modification time. What lies in
            a store is known by its name.
        settings: all that the clip depends on, as JSON values; also what the cache keeps of it (`cache_format`).

    Raises:
        DecodeError: there is no such file.
    """
    # Named as in the rows, and never otherwise: each word here is in the hash, and another would empty every cache.
    times = {"duration_s": window.duration_s, "video_start_s": window.start_s, "video_end_s": window.end_s}
    seen = [FORMAT, *video_files.identity(window.path), settings | times]
    return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()[:40]


class ClipCache:
    """Clips by key in a folder of at most `max_bytes`; see the top of this module.

    Safe under threads, forks and other processes with the same folder. Can be pickled; counts start at zero then.

    Raises:
        ConfigError: an unknown format or one that PyAV was built without, no room at all, or a folder in which files
            cannot be written and locked.
    """

    def __init__(self, folder: str, *, max_bytes: int, cache_format: str = "compact") -> None:
        if cache_format not in CACHE_FORMATS:
            raise ConfigError(f"video.cache_format = {cache_format!r}: must be one of {', '.join(CACHE_FORMATS)}")
        if cache_format == "compact" and "libx264" not in av.codecs_available:
            raise ConfigError(
                "video.cache_format = 'compact': this build of PyAV has no libx264; set video.cache_format=raw, or "
                "take PyAV's own wheel (pip install --force-reinstall --only-binary=av av)"
            )
        if max_bytes < 1:
            raise ConfigError(f"video.cache_gb: {max_bytes} bytes hold nothing; give it more, or video.cache_dir=null")
        self.cache_format = cache_format
        try:
            self._files = BoundedFolder(folder, max_bytes=max_bytes, kind="safetensors")
        except OSError as error:
            raise ConfigError(
                f"video.cache_dir = {folder!r}: files cannot be written and locked there ({error.strerror or error}); "
                "name a folder of yours on a disk with file locks, or video.cache_dir=null"
            ) from error

    @property
    def max_bytes(self) -> int:
        return self._files.max_bytes

    @property
    def counts(self) -> Counter[str]:
        """What happened in this process, see `BoundedFolder`."""
        return self._files.counts

    def get(self, key: str) -> Clip | None:
        """The clip that was put under `key`, frames (T, 3, H, W) uint8, times exact to the bit.

        None where there is none, where it cannot be read, or where it was stored in another format; what is no whole
        entry is removed.
        """
        content = self._files.read(key)
        if content is None:
            return None
        try:
            clip = unpack_clip(content, cache_format=self.cache_format)
        except UnreadableEntry as error:
            logger.debug("%s: %s; removed", self._files.path(key), error)
            self._files.note_unreadable(key)
            return None
        self._files.note_hit(key, len(content))
        return clip

    def put(self, key: str, clip: Clip) -> None:
        """Stores a clip, and makes room for it. What goes wrong is counted, and the first time logged."""
        try:
            self._files.write(key, pack_clip(clip, cache_format=self.cache_format))
        except (OSError, FFmpegError) as error:
            if self._files.count(failed=1)["failed"] == 1:
                logger.warning(
                    "video.cache_dir = %s: a clip could not be stored (%s); the run goes on without it, further "
                    "failures are only counted; check the free space and the permissions of the folder",
                    self._files.folder,
                    error,
                )

    def take_counts(self) -> Counter[str]:
        """The counts since the last call."""
        return self._files.take_counts()
