"""Files and folders that are always whole: written under a temporary name, and renamed."""

import errno
import os
import platform
import re
import shutil
import stat
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

_BESIDE = re.compile(r"\.vtg-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}\.tmp")

_swept: set[Path] = set()


@contextmanager
def written_beside(path: str | os.PathLike[str], *, follows_links: bool = True) -> Iterator[Path]:
    """A name beside `path` to write a file or a folder to; it takes the name of `path` when the block ends well.

    A reader never sees half of it. A file of that name is replaced; a folder is not, and that is an OSError. Whatever
    ends the block otherwise removes what was written, and what a kill leaves goes when a later process writes to the
    same folder. Makes the folder. A device or a pipe stays what it is: it is written to as the block writes.

    An OSError that names the file beside, of which a user knows nothing, is raised again with the name of `path`.

    Args:
        follows_links: where `path` is a link, the file that it leads to is replaced, and the link stays; else the link.
    """
    path = Path(path)
    if is_stream(path):
        yield path
        return
    if follows_links:
        path = Path(os.path.realpath(path))
    beside = temporary_name(path)
    try:
        yield beside
        beside.replace(path)
    except OSError as error:
        if error.filename is None or os.fspath(error.filename) != os.fspath(beside):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        _remove(beside)


@contextmanager
def atomic_folder(path: str | os.PathLike[str], *, proof: str | None = None) -> Iterator[Path]:
    """A new folder beside `path`, which takes that name when the block ends well and is removed otherwise.

    Args:
        proof: a file that every whole folder of this kind has: where `path` has it by then, another process was first,
            and its folder stays.

    Raises:
        OSError: there is another folder of that name that holds something.
    """
    path = Path(path)
    beside = temporary_name(path)
    beside.mkdir()
    try:
        yield beside
        try:
            beside.rename(path)
        except OSError:
            if proof is None or not (path / proof).is_file():
                raise
    finally:
        _remove(beside)


def temporary_name(path: str | os.PathLike[str]) -> Path:
    """A name in the folder of `path`, which is made, that `sweep` knows as this process's."""
    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    if folder not in _swept:
        _swept.add(folder)
        sweep(folder)
    return folder / f".vtg-{_host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"


def sweep(folder: Path) -> None:
    """Removes what processes of this machine that are no more were writing in a folder when they ended."""
    with suppress(OSError), os.scandir(folder) as found:
        for entry in found:
            mark = _BESIDE.fullmatch(entry.name)
            if mark and mark["host"] == _host() and not is_running(int(mark["pid"])):
                _remove(Path(entry.path))


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether there is a device or a pipe of this name, which is written to and never replaced."""
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


@lru_cache(maxsize=1)
def _host() -> str:
    """Of the machine, or of the container: wherever the number of a process means the same process."""
    with suppress(OSError):
        return sha256(f"{platform.node()} {os.stat('/proc/self/ns/pid').st_ino}".encode()).hexdigest()[:8]
    return sha256(platform.node().encode()).hexdigest()[:8]


def is_running(pid: int) -> bool:
    """Whether there is a process of this number on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # somebody else's, or no number of ours
        return True
    return True


def follow_umask(folder: str | os.PathLike[str]) -> None:
    """Gives the files in a folder, however deep, the rights that the umask leaves, where only its owner has any.

    Some libraries (safetensors) write so, whatever the umask, and nobody else can read a model in a shared folder then.
    """
    probe = temporary_name(Path(folder) / "any")
    probe.touch()
    rights = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for path in Path(folder).rglob("*"):
        if path.is_file() and not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) == 0o600:
            path.chmod(rights)


def sync(folder: str | os.PathLike[str]) -> None:
    """Waits until all that is in a folder is on the disk.

    Renamed before that, a power cut may leave empty files under a name that says they are whole.
    """
    for path in (*Path(folder).rglob("*"), Path(folder)):
        if path.is_dir() or path.is_file():
            sync_one(path)


def sync_one(path: str | os.PathLike[str]) -> None:
    """Waits until a file is on the disk, or the names in a folder."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot
            raise
    finally:
        os.close(file)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes beside and renames: a reader never sees half a file. Makes the folder."""
    with written_beside(path) as beside:
        beside.write_text(text, encoding="utf-8")


def holds_something_else(path: str | os.PathLike[str], mark: bytes) -> bool:
    """Whether anything is there but a file that begins with `mark`, as those do that vtg wrote and may replace."""
    if not os.path.isfile(path):
        return os.path.exists(path)
    with suppress(PermissionError), open(path, "rb") as file:
        return file.read(len(mark)) != mark
    return True


def overwriting(outputs: Iterable[tuple[str, str | None]]) -> str | None:
    """Which of the files that one command is to write, (option, path), would take the place of one before it."""
    before: dict[str, str] = {}
    for option, path in outputs:
        if path is None:
            continue
        place = os.path.realpath(path)  # a link to an output is that output
        if place in before:
            return f"{option} {path} would overwrite what {before[place]} writes; name another file"
        before[place] = option
    return None
