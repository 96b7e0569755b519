"""An LRU cache on disk of decoded clips: reading, sampling and resizing happen once, a cache hit is many times faster.

A folder holds one file a clip, `<first two hex>/<key>.safetensors`, and any number of processes share it:

- Files are written atomically and hold a checksum; a damaged one is removed and its clip decoded again.
- `.size` holds the bytes reserved so far. Room is reserved before a file is written, so files never exceed the bound.
- A process that finds no room takes `.lock`, counts what is really there, and removes the least recently used files.
"""

import hashlib
import json
import logging
import os
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import av
from av.error import FFmpegError

from vtg.errors import ConfigError
from vtg.storage.fork import lock_free_in_children
from vtg.storage.locks import locked
from vtg.storage.lru_folder import Entry, evict, list_entries, mark_used
from vtg.video.clip import Clip
from vtg.video.clip_encoding import CACHE_FORMATS, FORMAT, UnreadableEntry, pack_clip, unpack_clip
from vtg.video.files import video_files
from vtg.video.video_window import VideoWindow

logger = logging.getLogger(__name__)

# Eviction goes down to this share of the bound: each one lists the whole folder, so not at every put.
LOW_WATER = 0.95

# A hit marks an entry as just used at most this often: each mark is a write to the file system.
TOUCH_S = 60.0

# How long a put waits for another process to make room, and how often it looks. A clip not stored is only slower.
WAIT_S, PAUSE_S = 1.0, 0.01

_FOLDER = re.compile(r"[0-9a-f]{2}")
_KEY = re.compile(r"[0-9a-f]{8,128}")
_ENTRY = re.compile(rf"({_KEY.pattern})\.safetensors")
_BESIDE = re.compile(rf"\.({_KEY.pattern})\.\d+\.[0-9a-f]{{32}}\.tmp")

_counting = lock_free_in_children()


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

    Attributes:
        counts: of this process: hits, misses, stored, evicted, failed (could not be written), skipped (larger than
            the cache, or no room in time), unreadable (among the misses), bytes_read, bytes_written.
    """

    def __init__(self, folder: str, *, max_bytes: int, cache_format: str = "compact") -> None:
        """Makes the folder.

        Raises:
            ConfigError: an unknown format or one that PyAV was built without, no room at all, or a folder in which
                files cannot be written and locked.
        """
        if cache_format not in CACHE_FORMATS:
            raise ConfigError(f"video.cache_format = {cache_format!r}: must be one of {', '.join(CACHE_FORMATS)}")
        if cache_format == "compact" and "libx264" not in av.codecs_available:
            raise ConfigError(
                "video.cache_format = 'compact': this build of PyAV has no libx264; set video.cache_format=raw, or "
                "take PyAV's own wheel (pip install --force-reinstall --only-binary=av av)"
            )
        if max_bytes < 1:
            raise ConfigError(f"video.cache_gb: {max_bytes} bytes hold nothing; give it more, or video.cache_dir=null")
        self.folder, self.max_bytes, self.cache_format = os.path.abspath(folder), max_bytes, cache_format
        self.counts: Counter[str] = Counter()
        self._pid = os.getpid()
        try:
            os.makedirs(self.folder, exist_ok=True)
            probe = os.path.join(self.folder, f".{uuid.uuid4().hex}.tmp")
            _write(probe, b"")
            os.unlink(probe)
            with self._ledger(), self._locked(".lock", wait=False):
                pass
        except OSError as error:
            raise ConfigError(
                f"video.cache_dir = {folder!r}: files cannot be written and locked there ({error.strerror or error}); "
                "name a folder of yours on a disk with file locks, or video.cache_dir=null"
            ) from error

    def get(self, key: str) -> Clip | None:
        """The clip that was put under `key`, frames (T, 3, H, W) uint8, times exact to the bit.

        None where there is none, where it cannot be read, or where it was stored in another format; what is no whole
        entry is removed.
        """
        path = self._path(key)
        try:
            with open(path, "rb") as file:
                content, status = file.read(), os.fstat(file.fileno())
        except OSError:
            # Not there, or evicted between two reads by another machine.
            self._count(misses=1)
            return None
        try:
            clip = unpack_clip(content, cache_format=self.cache_format)
        except UnreadableEntry as error:
            logger.debug("%s: %s; removed", path, error)
            with suppress(OSError):
                os.unlink(path)
            self._count(misses=1, unreadable=1)
            return None
        if abs(time.time() - status.st_mtime) > TOUCH_S:
            mark_used(path)
        self._count(hits=1, bytes_read=len(content))
        return clip

    def put(self, key: str, clip: Clip) -> None:
        """Stores a clip, and makes room for it. What goes wrong is counted, and the first time logged."""
        path = self._path(key)
        beside = os.path.join(os.path.dirname(path), f".{key}.{os.getpid()}.{uuid.uuid4().hex}.tmp")
        try:
            content = pack_clip(clip, cache_format=self.cache_format)
            if len(content) > self.max_bytes:
                self._count(skipped=1)
                return
            os.makedirs(os.path.dirname(path), exist_ok=True)
            booking = self._room(len(content))
            if booking is None:
                self._count(skipped=1)
                return
            try:
                _write(beside, content)
                # A count of the folder that began meanwhile may have missed this file, and dropped its reservation.
                while not self._published(beside, path, booking):
                    booking = self._room(len(content))
                    if booking is None:
                        self._count(skipped=1)
                        return
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(beside)
        except (OSError, FFmpegError) as error:
            if self._count(failed=1)["failed"] == 1:
                logger.warning(
                    "video.cache_dir = %s: a clip could not be stored (%s); the run goes on without it, further "
                    "failures are only counted; check the free space and the permissions of the folder",
                    self.folder,
                    error,
                )
            return
        self._count(stored=1, bytes_written=len(content))

    def take_counts(self) -> Counter[str]:
        """The counts since the last call."""
        with _counting:
            taken = self.counts.copy()
            self.counts.clear()
        return taken

    def __getstate__(self) -> dict:
        return {"folder": self.folder, "max_bytes": self.max_bytes, "cache_format": self.cache_format}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, counts=Counter(), _pid=os.getpid())

    def _path(self, key: str) -> str:
        assert _KEY.fullmatch(key), f"{key!r} is no key of clip_key"
        return os.path.join(self.folder, key[:2], f"{key}.safetensors")

    def _count(self, **more: int) -> Counter[str]:
        with _counting:
            if self._pid != os.getpid():
                self._pid = os.getpid()
                self.counts.clear()
            self.counts.update(more)
            return self.counts.copy()

    def _room(self, size: int) -> int | None:
        """Reserves `size` bytes, evicting where there is no room; None where that takes too long."""
        give_up_s = time.monotonic() + WAIT_S
        while True:
            booking = self._book(size)
            if booking is not None or time.monotonic() > give_up_s:
                return booking
            if not self._make_room(size):
                time.sleep(PAUSE_S)

    def _book(self, size: int) -> int | None:
        """Reserves `size` bytes and returns the era in which that holds; None where there is no room."""
        with self._ledger() as (file, era, total):
            if total + size > self.max_bytes:
                return None
            _enter(file, era, total + size)
            return era

    def _published(self, beside: str, path: str, booking: int) -> bool:
        """Renames a file that is whole, unless a count has begun since its bytes were reserved."""
        with self._ledger() as (_, era, _):
            if era == booking:
                os.replace(beside, path)
            return era == booking

    def _make_room(self, size: int) -> bool:
        """Counts the folder and evicts until `size` more bytes fit; False if they do not, or another is at it."""
        with self._locked(".lock", wait=False) as lock:
            if lock is None:
                return False
            # Full until the count is done: nothing is reserved and nothing appears under its name meanwhile, and what
            # was reserved before and is still being written has to be reserved again.
            with self._ledger() as (file, era, total):
                if total + size <= self.max_bytes:
                    # Another made room just before.
                    return True
                _enter(file, era + 1, self.max_bytes)
            entries, total = self._entries()
            goal = min(self.max_bytes - size, int(LOW_WATER * self.max_bytes))
            evicted = evict(entries, excess=total - goal, remove=_removed)
            total -= sum(entry.size for entry in evicted)
            with self._ledger() as (file, era, _):
                _enter(file, era, total)
            self._count(evicted=len(evicted))
            return total <= goal

    def _entries(self) -> tuple[list[Entry], int]:
        """Every entry, and the bytes of all files. Removes stale temporary ones."""
        entries: list[Entry] = []
        total = 0
        with os.scandir(self.folder) as items:
            folders = [item.path for item in items if _FOLDER.fullmatch(item.name)]
        for folder in folders:
            prefix = os.path.basename(folder)
            found, temporary_bytes = list_entries(
                folder,
                # Others are somebody else's, in a folder that happens to be named like ours.
                is_entry=lambda name, prefix=prefix: name.startswith(prefix) and _ENTRY.fullmatch(name),
                is_temporary=lambda name, prefix=prefix: name.startswith(f".{prefix}") and _BESIDE.fullmatch(name),
                follow_symlinks=True,
            )
            entries += found
            total += sum(entry.size for entry in found) + temporary_bytes
        return entries, total

    @contextmanager
    def _locked(self, name: str, *, wait: bool) -> Iterator[int | None]:
        """A file of the folder, locked: a descriptor, or None where another has the lock and `wait` is off."""
        file = os.open(os.path.join(self.folder, name), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with locked(file, wait=wait) as is_mine:
                yield file if is_mine else None
        finally:
            os.close(file)

    @contextmanager
    def _ledger(self) -> Iterator[tuple[int, int, int]]:
        """`.size`, locked for as long as reading and writing a line takes: descriptor, era, bytes reserved in it."""
        with self._locked(".size", wait=True) as file:
            assert file is not None
            match = re.fullmatch(rb"(\d{20}) (\d{20})\n", os.pread(file, 42, 0))
            # New or damaged: nobody knows what is in the folder, so the first to reserve has to count it.
            yield (file, int(match[1]), int(match[2])) if match else (file, 0, self.max_bytes)


def _removed(path: str) -> bool:
    with suppress(OSError):  # by another process meanwhile
        os.unlink(path)
        return True
    return False


def _enter(file: int, era: int, total: int) -> None:
    os.pwrite(file, b"%020d %020d\n" % (era, total), 0)


def _write(path: str, content: bytes) -> None:
    with open(path, "xb", buffering=0) as file:
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]
