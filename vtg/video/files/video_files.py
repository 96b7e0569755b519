"""Where a video is: a file, a member of a tar file, or an object in a store, behind one kind of name.

    videos/a.mp4                     a file
    shards/000.tar::a.mp4            a member of an uncompressed tar file, as WebDataset shards are
    s3://bucket/a.mp4                an object that fsspec finds (s3, gs, https; see `vtg.video.files.address`)
    s3://bucket/000.tar::a.mp4       a member of such an object
    file:///videos/a.mp4             a file

What is on a local disk is read in place, tar members too: FFmpeg opens a part of a file like a file (its `subfile`
protocol). Anything else is fetched by `vtg.video.files.fetched` before it is decoded; only its facts are read from the
store (`opened`).

An object in a store is taken never to change under its name: nobody asks the store whether it has.
"""

import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import blake2b
from typing import IO, Any
from urllib.parse import unquote, urlsplit

import numpy as np

from vtg.storage.atomic import written_beside
from vtg.storage.cache_home import cache_home
from vtg.storage.file_stamp import ABSENT, stamp_of
from vtg.video.clip import DecodeError
from vtg.video.files import address
from vtg.video.files.address import TAR_MEMBER
from vtg.video.files.stores import fetch_error, file_system, store_errors

# How much of an object is read at a time: a probe needs its head and tail, and each request costs a round trip.
BLOCK_BYTES = 1 << 20

# Less where the headers of a tar file are read one after another: what lies between them is not wanted.
TAR_BLOCK_BYTES = 1 << 16

# A local tar file with fewer members is scanned in no time, so its table is not stored on disk.
STORED_MEMBERS = 256

# A member's name as a hash of 8 bytes: a table of millions of members fits into memory.
_MEMBER = np.dtype([("key", "u8"), ("first", "i8"), ("size", "i8")])


def split_member(name: str) -> tuple[str, str | None]:
    """(file or object, member in it or None), without `file://`."""
    holder, mark, member = name.partition(TAR_MEMBER)
    holder = f"{holder}.tar" if mark else holder
    if holder.startswith("file://"):
        address = urlsplit(holder)
        holder = unquote(address.path)
    return holder, member if mark else None


def is_remote(name: str) -> bool:
    """Whether it has to be fetched before it can be decoded."""
    return address.is_address(name) and not name.startswith("file://")


def exists(name: str) -> bool:
    """Whether there is such a file, or tar file and member. A remote one is taken to be there, if it may be opened."""
    return stamp(name)[0] >= 0


def why_absent(name: str) -> str:
    """What keeps a name that does not `exist` from being opened."""
    absent = next((part for part in address.parts_of(name) if not exists(part)), name)
    return address.fault(name) or f"no such file: {absent}"


def stamp(name: str) -> tuple[int, int]:
    """Size in bytes and modification time in ns; of a tar member: its own size, and the tar's time.

    (0, 0) of a remote one, (-1, -1) of one that is not there or is not opened.
    """
    if address.fault(name):
        return ABSENT
    if len(parts := address.parts_of(name)) > 1:
        stamps = [stamp(part) for part in parts]
        return ABSENT if ABSENT in stamps else (sum(size for size, _ in stamps), max(time for _, time in stamps))
    if is_remote(name):
        return 0, 0
    try:
        path, member = split_member(name)
        status = os.stat(path)
        if member is None:
            return stamp_of(status) if _is_regular(status) else ABSENT
        return member_range(path, member)[1], status.st_mtime_ns
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return ABSENT


def _is_regular(status: os.stat_result) -> bool:
    return status.st_mode & 0o170000 == 0o100000


def identity(name: str) -> list[Any]:
    """JSON values that change with the content of a file: its true path, size and time.

    Raises:
        DecodeError: there is no such file.
    """
    if is_remote(name):
        return [name]
    path, member = split_member(name)
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise _no_such_file(name, error) from None
    own = [] if member is None else [member]
    return [os.path.realpath(path), *stamp_of(status), *own]


def ffmpeg_name(name: str) -> str:
    """What FFmpeg opens to read a file or the member of a tar file on a local disk.

    Raises:
        DecodeError: there is no such file, or no such member, or the name is none that is opened.
    """
    assert not is_remote(name), name
    if fault := address.fault(name):
        raise DecodeError(fault)
    path, member = split_member(name)
    if member is None:
        if not os.path.isfile(path):
            raise _no_such_file(name)
        # Absolute: FFmpeg would take the 12 of `12:30.avi` for a protocol.
        return os.path.abspath(path)
    first, size = member_range(path, member)
    return f"subfile,,start,{first},end,{first + size},,:{os.path.abspath(path)}"


@contextmanager
def opened(name: str) -> Iterator[str | IO[bytes]]:
    """What PyAV opens: `ffmpeg_name`, or an object in a store as a file of which only what is asked for is read.

    Raises:
        DecodeError: there is no such file, or the store fails, also later while it is read.
    """
    if not is_remote(name):
        yield ffmpeg_name(name)
        return
    try:
        with open_remote(name) as file:
            yield file
    except store_errors() as error:
        raise fetch_error(name, error) from error


@contextmanager
def open_remote(name: str) -> Iterator[IO[bytes]]:
    """An object, or the member of a tar object, as a seekable file. Raises what the store raises (`store_errors`)."""
    holder, member = split_member(name)
    system, path = file_system(holder)
    if member is not None:
        # In one request: a member is a clip, and its table already says where it lies.
        first, size = member_range(holder, member)
        yield io.BytesIO(system.cat_file(path, start=first, end=first + size))
        return
    with system.open(path, "rb", block_size=BLOCK_BYTES) as file:
        yield file


def member_range(holder: str, member: str) -> tuple[int, int]:
    """(first byte, bytes) of a member in its tar file or object. Of several with one name the last counts.

    Raises:
        DecodeError: no such tar file, no such member, or not an uncompressed tar file.
    """
    parts = _member_table(holder, *_version(holder))
    key = _key(member)
    at = int(np.searchsorted(parts["key"], key))
    if at == len(parts) or parts["key"][at] != key:
        raise DecodeError(f"{holder}::{member}: there is no such member in the tar file; check the name")
    return int(parts["first"][at]), int(parts["size"][at])


def members(holder: str) -> Iterator[tuple[str, int, int, IO[bytes]]]:
    """(name, first byte, bytes, the tar file to read them from) of the files in a tar file or object, in its order.

    Raises:
        DecodeError: it cannot be read to its end, or is no uncompressed tar file.
    """
    try:
        with _open(holder) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for info in tar:
                # Else it keeps an object for each of perhaps millions of members.
                tar.members = []  # pyright: ignore[reportAttributeAccessIssue]
                if info.isreg():
                    yield info.name.removeprefix("./"), info.offset_data, info.size, file
    except tarfile.TarError as error:
        raise DecodeError(
            f"{holder}: not a whole, uncompressed tar file ({error}); members are read in place, so unpack a .tar.gz"
        ) from error
    except store_errors() as error:
        if not is_remote(holder):
            raise _no_such_file(holder, error) from error
        raise fetch_error(holder, error) from error


def _open(holder: str) -> Any:
    if not is_remote(holder):
        return open(holder, "rb")
    system, path = file_system(holder)
    return system.open(path, "rb", block_size=TAR_BLOCK_BYTES)


def _version(holder: str) -> tuple[int, int]:
    if is_remote(holder):
        return 0, 0
    try:
        return stamp_of(os.stat(holder))
    except (OSError, ValueError) as error:
        raise _no_such_file(holder, error) from None


@lru_cache(maxsize=65536)
def _member_table(holder: str, size: int, mtime_ns: int) -> np.ndarray:
    """(M,) `_MEMBER`, sorted by key: where the members of a tar file are. Stored on disk too, 24 bytes a member."""
    true_name = holder if is_remote(holder) else os.path.realpath(holder)
    name = blake2b(f"{true_name}\n{size}\n{mtime_ns}".encode(errors="surrogateescape"), digest_size=16).hexdigest()
    stored = cache_home() / "tars" / f"{name}.npy"
    with suppress(OSError, ValueError):
        table = np.load(stored, allow_pickle=False)
        if table.dtype == _MEMBER:
            return table
    listed = {_key(member): (first, length) for member, first, length, _ in members(holder)}
    table = np.array(sorted((key, *part) for key, part in listed.items()), _MEMBER)
    if len(table) < STORED_MEMBERS and not is_remote(holder):
        return table
    # A full or read-only disk only costs another scan next time.
    with suppress(OSError), written_beside(stored) as beside, beside.open("wb") as file:
        np.save(file, table)
    return table


def _key(member: str) -> int:
    return int.from_bytes(blake2b(member.encode(errors="surrogateescape"), digest_size=8).digest(), "little")


def _no_such_file(name: str, error: Exception | None = None) -> DecodeError:
    why = "" if error is None else f" ({getattr(error, 'strerror', None) or error})"
    return DecodeError(f"{name}: no such file{why}; check the path and the video folder (data.video_dir)")
