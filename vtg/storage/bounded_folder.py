"""Files by key in a folder of a bounded number of bytes; the least recently used go first.

A folder holds one file a key, `<first two hex>/<key>.<kind>`, and any number of processes share it:

- Files are written atomically: what is there is whole.
- `.size` holds the bytes reserved so far. Room is reserved before a file is written, so files never exceed the bound.
- A process that finds no room takes `.lock`, counts what is really there, and removes the least recently used files.
"""

import os
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from vtg.storage.fork import lock_free_in_children
from vtg.storage.locks import locked
from vtg.storage.lru_folder import Entry, evict, list_entries, mark_used

# Eviction goes down to this share of the bound: each one lists the whole folder, so not at every write.
LOW_WATER = 0.95

# A hit marks an entry as just used at most this often: each mark is a write to the file system.
TOUCH_S = 60.0

# How long a write waits for another process to make room, and how often it looks. What is not stored is only slower.
WAIT_S, PAUSE_S = 1.0, 0.01

_FOLDER = re.compile(r"[0-9a-f]{2}")
_KEY = re.compile(r"[0-9a-f]{8,128}")
_BESIDE = re.compile(rf"\.({_KEY.pattern})\.\d+\.[0-9a-f]{{32}}\.tmp")

_counting = lock_free_in_children()


class BoundedFolder:
    """See the top of this module. Safe under threads, forks and other processes with the same folder. Can be pickled;
    counts start at zero then.

    Args:
        kind: what names of files end in.
        keeps_since_s: files used after this time (`time.time()`) are not evicted, and what finds no room is not
            stored; None: any may go.

    Attributes:
        counts: of this process: hits, misses, stored, evicted, failed (could not be written), skipped (larger than
            the folder, or no room in time), unreadable (among the misses), bytes_read, bytes_written.

    Raises:
        OSError: files cannot be written and locked there.
    """

    def __init__(self, folder: str, *, max_bytes: int, kind: str, keeps_since_s: float | None = None) -> None:
        self.folder, self.max_bytes, self.kind = os.path.abspath(folder), max_bytes, kind
        self.keeps_since_s = keeps_since_s
        self._start()
        os.makedirs(self.folder, exist_ok=True)
        probe = os.path.join(self.folder, f".{uuid.uuid4().hex}.tmp")
        _write(probe, b"")
        os.unlink(probe)
        with self._ledger(), self._locked(".lock", wait=False):
            pass

    def path(self, key: str) -> str:
        assert _KEY.fullmatch(key), f"{key!r} is no key: 8 to 128 hexadecimal digits"
        return os.path.join(self.folder, key[:2], f"{key}.{self.kind}")

    def read(self, key: str) -> bytes | None:
        """The content under `key`, None where there is none. It counts once it is known to be good: `note_hit`."""
        try:
            with open(self.path(key), "rb") as file:
                return file.read()
        except OSError:
            # Not there, or evicted between two reads by another machine.
            self.count(misses=1)
            return None

    def note_hit(self, key: str, size: int) -> None:
        """What was read, of `size` bytes, is as good as it was written."""
        path = self.path(key)
        with suppress(OSError):  # evicted meanwhile
            if abs(time.time() - os.stat(path).st_mtime) > TOUCH_S:
                mark_used(path)
        self.count(hits=1, bytes_read=size)

    def note_unreadable(self, key: str) -> None:
        """What was read is no whole entry: it is removed."""
        with suppress(OSError):
            os.unlink(self.path(key))
        self.count(misses=1, unreadable=1)

    def write(self, key: str, content: bytes) -> None:
        """Stores the content, and makes room for it; where that takes too long, it is not stored, and counted.

        Raises:
            OSError: it cannot be written.
        """
        path = self.path(key)
        beside = os.path.join(os.path.dirname(path), f".{key}.{os.getpid()}.{uuid.uuid4().hex}.tmp")
        if len(content) > self.max_bytes:
            self.count(skipped=1)
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        booking = self._room(len(content))
        if booking is None:
            self.count(skipped=1)
            return
        try:
            _write(beside, content)
            # A count of the folder that began meanwhile may have missed this file, and dropped its reservation.
            while not self._published(beside, path, booking):
                booking = self._room(len(content))
                if booking is None:
                    self.count(skipped=1)
                    return
        finally:
            with suppress(FileNotFoundError):
                os.unlink(beside)
        self.count(stored=1, bytes_written=len(content))

    def take_counts(self) -> Counter[str]:
        """The counts since the last call."""
        with _counting:
            taken = self.counts.copy()
            self.counts.clear()
        return taken

    def count(self, **more: int) -> Counter[str]:
        """Adds to the counts; returns them."""
        with _counting:
            if self._pid != os.getpid():
                self._pid = os.getpid()
                self.counts.clear()
            self.counts.update(more)
            return self.counts.copy()

    def __getstate__(self) -> dict:
        return {name: getattr(self, name) for name in ("folder", "max_bytes", "kind", "keeps_since_s")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._start()

    def _start(self) -> None:
        self.counts: Counter[str] = Counter()
        self._pid = os.getpid()

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
            since_ns = float("inf") if self.keeps_since_s is None else self.keeps_since_s * 1e9
            old = [entry for entry in entries if entry.used_ns < since_ns]
            evicted = evict(old, excess=total - goal, remove=_removed)
            total -= sum(entry.size for entry in evicted)
            with self._ledger() as (file, era, _):
                _enter(file, era, total)
            self.count(evicted=len(evicted))
            return total <= goal

    def _entries(self) -> tuple[list[Entry], int]:
        """Every entry, and the bytes of all files. Removes stale temporary ones."""
        entries: list[Entry] = []
        total = 0
        is_entry = re.compile(rf"({_KEY.pattern})\.{re.escape(self.kind)}")
        with os.scandir(self.folder) as items:
            folders = [item.path for item in items if _FOLDER.fullmatch(item.name)]
        for folder in folders:
            prefix = os.path.basename(folder)
            found, temporary_bytes = list_entries(
                folder,
                # Others are somebody else's, in a folder that happens to be named like ours.
                is_entry=lambda name, prefix=prefix: name.startswith(prefix) and is_entry.fullmatch(name),
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
