"""Decoded clips on disk: what was read, sampled and resized once is read back many times faster.

A folder holds one file a clip, `<first two hex>/<key>.safetensors`, and any number of processes share it:

- A file is written beside and renamed, and holds a checksum: what is found is whole, or it is removed and decoded anew.
- `.size` holds the bytes booked so far. Room is booked before a file is written, so the entries never exceed the bound.
- Who finds no room takes `.lock`, counts what is really there, and removes the least recently used files.

`raw` keeps the very pixels. `compact` keeps them as H.264 in 4:4:4 with no reordered frames, about 11 KB for a frame of
480x256 (a thirtieth), at 41 dB or better over any of nine real clips; a frame takes 0.7 ms to read on one core.
"""

import fcntl
import hashlib
import json
import logging
import os
import re
import threading
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from fractions import Fraction

import av
import numpy as np
from av.codec.context import CodecContext
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from vtg.errors import ConfigError
from vtg.video.clip import Clip
from vtg.video.files import video_files as storage

logger = logging.getLogger(__name__)

FORMAT = 1
"""Of an entry. Goes up with any change to what is written; entries of another format are decoded anew."""

CACHE_FORMATS = ("compact", "raw")

X264 = {"preset": "veryfast", "tune": "psnr,fastdecode", "crf": "16", "bf": "0", "g": "999"}
"""Slower presets gain a twentieth in size. `psnr`: no psychovisual noise; `fastdecode`: CAVLC, no deblocking, which
halves the reading time for a tenth more bytes; no B-frames: nothing is reordered."""

LOW_WATER = 0.95
"""Eviction goes down to this share of the bound, so that it is not needed at every put."""

TOUCH_S = 60.0
"""A hit makes an entry the most recently used one, at most this often."""

STALE_S = 3600.0
"""A temporary file as old as this has lost its writer."""

WAIT_S, PAUSE_S = 1.0, 0.01
"""How long a put waits for another process to make room, and how often it looks."""

_SCALARS = tuple(field.name for field in fields(Clip) if field.name not in ("frames", "timestamps_s"))

_FOLDER = re.compile(r"[0-9a-f]{2}")
_KEY = re.compile(r"[0-9a-f]{8,128}")
_ENTRY = re.compile(rf"({_KEY.pattern})\.safetensors")
_BESIDE = re.compile(rf"\.({_KEY.pattern})\.\d+\.[0-9a-f]{{32}}\.tmp")

_counting = threading.Lock()
# A child forked while another thread counts would find the lock taken for ever.
os.register_at_fork(before=_counting.acquire, after_in_parent=_counting.release, after_in_child=_counting.release)


class _Unreadable(ValueError):
    """An entry that is damaged, or not one."""


def clip_key(path: str, **settings: object) -> str:
    """The name, in hex, of the clip that `settings` make of a file: another one once the file or any setting changes.

    Args:
        path: the file; links to one file share its clips, and a file is known by its size and modification time. What
            lies in a store is known by its name.
        settings: all that the clip depends on, as JSON values; also what the cache keeps of it (`cache_format`).

    Raises:
        DecodeError: there is no such file.
    """
    seen = [FORMAT, *storage.identity(path), settings]
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
            clip = _unpacked(content, cache_format=self.cache_format)
        except _Unreadable as error:
            logger.debug("%s: %s; removed", path, error)
            with suppress(OSError):
                os.unlink(path)
            self._count(misses=1, unreadable=1)
            return None
        if abs(time.time() - status.st_mtime) > TOUCH_S:
            # It may be gone by now, or be somebody else's.
            with suppress(OSError):
                os.utime(path)
        self._count(hits=1, bytes_read=len(content))
        return clip

    def put(self, key: str, clip: Clip) -> None:
        """Stores a clip, and makes room for it. What goes wrong is counted, and the first time logged."""
        path = self._path(key)
        beside = os.path.join(os.path.dirname(path), f".{key}.{os.getpid()}.{uuid.uuid4().hex}.tmp")
        try:
            content = _packed(clip, cache_format=self.cache_format)
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
                # Whoever counted the folder meanwhile may not have seen this file, and forgot the booking.
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
        """Books `size` bytes, making room where there is none; None where that takes too long."""
        give_up_s = time.monotonic() + WAIT_S
        while True:
            booking = self._book(size)
            if booking is not None or time.monotonic() > give_up_s:
                return booking
            if not self._make_room(size):
                time.sleep(PAUSE_S)

    def _book(self, size: int) -> int | None:
        """Books `size` bytes and returns the era in which that holds; None where there is no room."""
        with self._ledger() as (file, era, total):
            if total + size > self.max_bytes:
                return None
            _enter(file, era, total + size)
            return era

    def _published(self, beside: str, path: str, booking: int) -> bool:
        """Renames a file that is whole, unless a count has begun since its bytes were booked."""
        with self._ledger() as (_, era, _):
            if era == booking:
                os.replace(beside, path)
            return era == booking

    def _make_room(self, size: int) -> bool:
        """Counts the folder and evicts until `size` more bytes fit; False if they do not, or another is at it."""
        with self._locked(".lock", wait=False) as lock:
            if lock is None:
                return False
            # Full until the count is done: nothing is booked and nothing appears under its name meanwhile, and what
            # was booked before and is still being written has to be booked again.
            with self._ledger() as (file, era, total):
                if total + size <= self.max_bytes:
                    # Another made room just before.
                    return True
                _enter(file, era + 1, self.max_bytes)
            entries, total = self._entries()
            goal, evicted = min(self.max_bytes - size, int(LOW_WATER * self.max_bytes)), 0
            for _, path, held in sorted(entries):
                if total <= goal:
                    break
                with suppress(OSError):
                    os.unlink(path)
                    total, evicted = total - held, evicted + 1
            with self._ledger() as (file, era, _):
                _enter(file, era, total)
            self._count(evicted=evicted)
            return total <= goal

    def _entries(self) -> tuple[list[tuple[int, str, int]], int]:
        """(last use in ns, path, bytes) of every entry, and the bytes of all files. Removes stale temporary ones."""
        entries: list[tuple[int, str, int]] = []
        total = 0
        with os.scandir(self.folder) as found:
            folders = [item.path for item in found if _FOLDER.fullmatch(item.name)]
        for folder in folders:
            with os.scandir(folder) as found:
                for item in found:
                    # Evicted, renamed or removed by another process while it is looked at.
                    with suppress(OSError):
                        status = item.stat()
                        own = _ENTRY.fullmatch(item.name) or _BESIDE.fullmatch(item.name)
                        if own is None or own[1][:2] != os.path.basename(folder):
                            continue  # somebody else's, in a folder that happens to be named like ours
                        if item.name.endswith(".safetensors"):
                            entries.append((status.st_mtime_ns, item.path, status.st_size))
                        elif time.time() - status.st_mtime > STALE_S:
                            os.unlink(item.path)
                            continue
                        total += status.st_size
        return entries, total

    @contextmanager
    def _locked(self, name: str, *, wait: bool) -> Iterator[int | None]:
        """A file of the folder, locked: a descriptor, or None where another has the lock and `wait` is off."""
        file = os.open(os.path.join(self.folder, name), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield None
                return
            try:
                yield file
            finally:
                # By hand: a child forked meanwhile holds a copy, and closing this one would not free the lock.
                fcntl.flock(file, fcntl.LOCK_UN)
        finally:
            os.close(file)

    @contextmanager
    def _ledger(self) -> Iterator[tuple[int, int, int]]:
        """`.size`, locked for as long as reading and writing a line takes: descriptor, era, bytes booked in it."""
        with self._locked(".size", wait=True) as file:
            assert file is not None
            match = re.fullmatch(rb"(\d{20}) (\d{20})\n", os.pread(file, 42, 0))
            # New or damaged: nobody knows what is in the folder, so the first to book has to count it.
            yield (file, int(match[1]), int(match[2])) if match else (file, 0, self.max_bytes)


def _enter(file: int, era: int, total: int) -> None:
    os.pwrite(file, b"%020d %020d\n" % (era, total), 0)


def _write(path: str, content: bytes) -> None:
    with open(path, "xb", buffering=0) as file:
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]


def _packed(clip: Clip, *, cache_format: str) -> bytes:
    from safetensors.numpy import save

    height, width = clip.frames.shape[2:]
    frames = {"frames": np.ascontiguousarray(clip.frames)} if cache_format == "raw" else _encoded(clip.frames)
    tensors = {**frames, "timestamps_s": np.ascontiguousarray(clip.timestamps_s)}
    # As JSON: floats come back exactly, and so does a file name that is not valid UTF-8.
    texts = {name: json.dumps(getattr(clip, name), default=np.generic.item) for name in _SCALARS}
    texts |= {"format": f"{FORMAT} {cache_format}", "height": str(height), "width": str(width)}
    return save(tensors, {**texts, "checksum": _checksum(tensors, texts)})


def _unpacked(content: bytes, *, cache_format: str) -> Clip:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        texts = header["__metadata__"]
        if texts["format"] != f"{FORMAT} {cache_format}":
            raise _Unreadable(f"format {texts['format']}, not {FORMAT} {cache_format}")
        if texts.pop("checksum") != _checksum(tensors, texts):
            raise _Unreadable("damaged: its checksum is another")
        times_s = tensors["timestamps_s"]
        size = len(times_s), int(texts["height"]), int(texts["width"])
        return Clip(
            frames=tensors["frames"] if cache_format == "raw" else _decoded(tensors, size),
            timestamps_s=times_s,
            **{name: json.loads(texts[name]) for name in _SCALARS},
        )
    except (SafetensorError, FFmpegError, ValueError, KeyError, TypeError) as error:
        raise _Unreadable(f"no whole entry ({error})") from error


def _checksum(tensors: dict[str, np.ndarray], texts: dict[str, str]) -> str:
    """After a power cut a file may have its length and hold zeros, which would pass for black frames."""
    checksum = zlib.crc32(json.dumps(texts, sort_keys=True).encode())
    for name in sorted(tensors):
        checksum = zlib.crc32(tensors[name].data, checksum)
    return f"{checksum:08x}"


def _encoded(frames: np.ndarray) -> dict[str, np.ndarray]:
    """Frames (T, 3, H, W) uint8 as H.264: `packets` (bytes,) uint8, end to end, and `sizes` (packets,) int64."""
    encoder = CodecContext.create("libx264", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.height, encoder.width, encoder.pix_fmt = *frames.shape[2:], "yuv444p"
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    # One thread: workers already fill the cores, and the bytes do not depend on their number.
    encoder.thread_count, encoder.options = 1, X264
    packets: list[bytes] = []
    for at, frame in enumerate(frames):
        picture = VideoFrame.from_ndarray(_ycgco(frame), format="yuv444p")
        picture.pts = at
        packets += [bytes(packet) for packet in encoder.encode(picture)]
    packets += [bytes(packet) for packet in encoder.encode(None)]
    sizes = np.array([len(packet) for packet in packets], dtype=np.int64)
    return {"packets": np.frombuffer(b"".join(packets), np.uint8), "sizes": sizes}


def _decoded(tensors: dict[str, np.ndarray], size: tuple[int, int, int]) -> np.ndarray:
    """The frames (T, 3, H, W) uint8 of what `_encoded` returned, where they are (T, H, W) = `size`."""
    count, height, width = size
    decoder = CodecContext.create("h264", "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1
    frames = np.empty((count, 3, height, width), np.uint8)
    stream, ends = tensors["packets"].tobytes(), np.cumsum(tensors["sizes"]).tolist()
    packets = [av.Packet(stream[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    done = 0
    for packet in [*packets, None]:
        for picture in decoder.decode(packet):
            assert isinstance(picture, VideoFrame)
            if done == count or (picture.height, picture.width) != (height, width):
                raise _Unreadable(f"holds other frames than its {count} of {width}x{height}")
            planes = [np.frombuffer(memoryview(plane), np.uint8).reshape(height, -1) for plane in picture.planes]
            _rgb(*(plane[:, :width] for plane in planes), out=frames[done])
            done += 1
    if done != count:
        raise _Unreadable(f"holds {done} of {count} frames")
    return frames


# The colours are stored as YCgCo, not as BT.601: to and fro it loses four times less (55 instead of 49.5 dB), and back
# is six additions, half of what swscale takes. Swscale's ways to convert also differ between versions.


def _ycgco(frame: np.ndarray) -> np.ndarray:
    """RGB (3, H, W) uint8 → Y, Cg, Co (3, H, W) uint8, the last two about 128."""
    red, green, blue = frame.astype(np.int16)
    both, twice = red + blue, 2 * green
    planes = np.stack([(twice + both + 2) >> 2, ((twice - both + 2) >> 2) + 128, ((red - blue + 1) >> 1) + 128])
    return np.minimum(planes, 255).astype(np.uint8)


def _rgb(y: np.ndarray, cg: np.ndarray, co: np.ndarray, *, out: np.ndarray) -> None:
    """Y, Cg, Co, each (H, W) uint8 → RGB in `out` (3, H, W) uint8."""
    light, orange = y.astype(np.int16), co.astype(np.int16) - 128
    green = cg.astype(np.int16) - 128
    rest = light - green
    light += green
    out[1] = np.clip(light, 0, 255, out=light)
    np.add(rest, orange, out=light)
    out[0] = np.clip(light, 0, 255, out=light)
    rest -= orange
    out[2] = np.clip(rest, 0, 255, out=rest)
