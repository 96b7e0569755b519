"""The videos that the page may show: none is reached but by the name it was given here."""

import hashlib
import os
import threading
from dataclasses import dataclass

from vtg.errors import SampleError
from vtg.video.files.video_files import is_remote, split_member


@dataclass(frozen=True)
class ShelvedVideo:
    """`key`: what addresses call it; `name`: what the page calls it; `path`: the file, never told to a browser."""

    key: str
    name: str
    path: str

    def told(self, error: SampleError) -> SampleError:
        """An error about it for a browser, which knows its name, and not where this machine keeps it."""
        return SampleError(str(error).replace(self.path, self.name))


class Shelf:
    """Videos by key. Safe under threads."""

    def __init__(self) -> None:
        self._videos: dict[str, ShelvedVideo] = {}
        self._changing = threading.Lock()

    def put(self, path: str, *, name: str | None = None) -> ShelvedVideo:
        """The video at `path`, from now on to be asked for by its `key`; the same file has the same one."""
        full = path if is_remote(path) else os.path.abspath(path)
        key = hashlib.sha256(full.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        with self._changing:
            return self._videos.setdefault(key, ShelvedVideo(key, name or os.path.basename(path), full))

    def get(self, key: str) -> ShelvedVideo:
        """Raises SampleError for a key that no video has, or has any more."""
        with self._changing:
            if key not in self._videos:
                raise SampleError(f"video {key}: is not known here, or no longer; load the page again and pick another")
            return self._videos[key]

    def drop(self, key: str) -> None:
        """Forgets a video; its file stays."""
        with self._changing:
            self._videos.pop(key, None)


def is_plain_file(path: str) -> bool:
    """Whether a browser can be given the file as it lies there: it is here, and no member of an archive."""
    return not is_remote(path) and split_member(path)[1] is None and os.path.isfile(path)
