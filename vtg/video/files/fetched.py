"""A local LRU cache of videos that lie in a store: fetched once, bounded in bytes.

They lie in a folder of their own, `vtg-videos` in the folder that the user names, under names that only this module
gives (`NAME`); nothing else is counted, and nothing else is ever removed.

Any number of processes share the folder. Files get their name once they are written, so a file under its name is
complete. A reader holds a shared lock on its file, and a locked file is not removed. Two processes that want one video
at once may both fetch it; the first to end names its file, and the other's is dropped.
"""

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import PurePosixPath

from vtg.errors import ConfigError
from vtg.storage.cache_home import cache_home
from vtg.storage.locks import is_named, locked, remove_unless_locked
from vtg.storage.lru_folder import evict, list_entries, mark_used
from vtg.video.files import stores, video_files

OWN_FOLDER = "vtg-videos"

# A fetched video: the hash of its address, and the suffix, by which some decoders recognise the format.
NAME = re.compile(r"[0-9a-f]{40}(\.[^/]{0,7})?")

# One that is being fetched.
BESIDE = re.compile(NAME.pattern + r"\.\d+\.[0-9a-f]{8}\.tmp")


class FetchedVideos:
    """Local files of videos, wherever they are (`vtg.video.files.video_files`).

    Attributes:
        folder: of what is fetched: `OWN_FOLDER` in the named one, or vtg's own cache; made when the first is.
        max_bytes: held in it, unless what is read at the moment is more.
    """

    def __init__(self, folder: str | None, *, max_bytes: int) -> None:
        self.given = folder
        self.folder = str(cache_home() / "videos") if folder is None else os.path.abspath(f"{folder}/{OWN_FOLDER}")
        self.max_bytes = max_bytes

    @contextmanager
    def local(self, name: str) -> Iterator[str]:
        """A name that decoders can open, valid inside: `name` itself where it is on a local disk.

        Raises:
            DecodeError: it cannot be fetched.
            ConfigError: the folder cannot be written to, or fsspec needs another package for it.
        """
        if not video_files.is_remote(name):
            yield name
            return
        path = self._path(name)
        while True:
            try:
                file = os.open(path, os.O_RDONLY)
            except (FileNotFoundError, NotADirectoryError):
                self._fetch(name, path)
                continue
            try:
                with locked(file, shared=True):
                    if not is_named(file, path):  # removed just before it was locked
                        continue
                    mark_used(path)
                    yield path
                    return
            finally:
                os.close(file)

    def _path(self, name: str) -> str:
        holder, member = video_files.split_member(name)
        ending = PurePosixPath(member or holder).suffix[:8]
        return os.path.join(self.folder, sha256(name.encode(errors="surrogateescape")).hexdigest()[:40] + ending)

    def _fetch(self, name: str, path: str) -> None:
        beside = f"{path}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
        holder, member = video_files.split_member(name)
        system, address = stores.file_system(holder)
        try:
            os.makedirs(self.folder, exist_ok=True)
            open(beside, "xb").close()
        except OSError as error:
            raise ConfigError(
                f"video.fetch_dir = {self.given or self.folder!r}: cannot be written to ({error.strerror or error}); "
                "name a folder of yours with room for video.fetch_gb"
            ) from error

        def read() -> None:
            if member is None:
                system.get_file(address, beside)
                return
            first, size = video_files.member_range(holder, member)
            with open(beside, "wb") as file:
                file.write(system.cat_file(address, start=first, end=first + size))

        try:
            stores.with_retries(name, read)
            _name(beside, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(beside)
        self._make_room(path)

    def _make_room(self, newest: str) -> None:
        """Removes the least recently used files over the bound, but none that is read, nor `newest`."""
        entries, _ = list_entries(
            self.folder, is_entry=NAME.fullmatch, is_temporary=BESIDE.fullmatch, follow_symlinks=False
        )
        excess = sum(entry.size for entry in entries) - self.max_bytes
        evict(entries, excess=excess, remove=lambda path: path != newest and remove_unless_locked(path))


def _name(beside: str, path: str) -> None:
    """Gives a whole file its name, unless another process has given it to one of its own meanwhile."""
    # No rename: it would take the name from a file that somebody reads, and nobody's lock would keep the new one.
    try:
        os.link(beside, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        os.replace(beside, path)
