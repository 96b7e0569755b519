"""Fetches one file: goes on where an earlier try stopped, checks what came, and only then gives it its name."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from vtg.download.listing import RemoteFile, http_error
from vtg.errors import RunError
from vtg.storage.atomic import sync_one

CHUNK_BYTES = 1 << 20
# Tries that bring nothing new, in a row, and the first pause between them.
ATTEMPTS, PAUSE_S = 3, 0.5
# A server that sends nothing for so long has stopped.
SILENCE_S = 30.0


class Stopped(Exception):
    """Fetching is to end: the user interrupts, or the disk is full."""


class _NothingLeft(Exception):
    """A server has no byte at the place where a file was to go on."""


def fetch(
    file: RemoteFile, target: Path, *, headers: dict[str, str], progress: Callable[[int], None]
) -> tuple[int, str]:
    """Writes the file to `target`, by way of a `.part` beside it that a later try goes on with.

    Args:
        headers: sent to an http(s) address.
        progress: told the bytes that came; negative where some are thrown away. What it raises ends the fetch.

    Returns:
        Its size, and its checksum: that which the publisher states, else a SHA-256 of what came.

    Raises:
        RunError: the server does not give the file that it lists.
        OSError: it cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{(file.checksum or 'unknown')[-12:]}.part")
    kept = part.stat().st_size if part.exists() else 0
    progress(kept)
    for last_try in (False, True):
        _fill(file, part, headers=headers, progress=progress)
        size = part.stat().st_size
        found = checksum(part, (file.checksum or "sha256:").partition(":")[0])
        if file.checksum in (None, found):
            sync_one(part)
            part.replace(target)
            return size, found
        part.unlink()
        progress(-size)
        if last_try:
            raise RunError(
                f"{file.name}: what {file.address} gives has the checksum {found}, not {file.checksum}; it is being "
                "changed, or something between here and there changes it: try later"
            )
    raise AssertionError("unreachable")


def checksum(path: Path, kind: str) -> str:
    """`KIND:…` of a file's content; `git-sha1` is git's name of it, `sha256` the plain hash."""
    size = path.stat().st_size
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False) if kind == "git-sha1" else hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(CHUNK_BYTES):
            digest.update(chunk)
    return f"{kind}:{digest.hexdigest()}"


def _fill(file: RemoteFile, part: Path, *, headers: dict[str, str], progress: Callable[[int], None]) -> None:
    """Brings `part` to the size of the file, in as many tries as bring something new."""
    failed = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        if file.size is not None and before == file.size:
            return
        if file.size is not None and before > file.size:
            part.unlink()
            progress(-before)
            before = 0
        try:
            error = _try(file, part, before, headers=headers, progress=progress)
        finally:
            if part.stat().st_size == 0 and file.size != 0:
                part.unlink()
        now = part.stat().st_size if part.exists() else 0
        if error is None and file.size in (None, now):
            return
        failed = 0 if now > before else failed + 1
        if failed == ATTEMPTS:
            why = error or f"it ends after {now:,} of {file.size or 0:,} bytes"
            raise RunError(f"{file.name}: {file.address} cannot be fetched ({why}); run this again to go on with it")
        if failed:
            time.sleep(PAUSE_S * 4 ** (failed - 1))


def _try(
    file: RemoteFile, part: Path, at: int, *, headers: dict[str, str], progress: Callable[[int], None]
) -> str | None:
    """Appends what comes from byte `at` on. Returns what went wrong on the way, for a further try.

    Raises:
        RunError: an answer that another try will not change.
    """
    with part.open("ab") as out:
        try:
            with _opened(file, at, headers) as (chunks, start):
                if start != at:  # the server knows no ranges, and begins anew
                    out.truncate(start)
                    progress(start - at)
                for chunk in chunks:
                    progress(len(chunk))
                    out.write(chunk)
        except _NothingLeft:  # what is there is of another file, so it begins anew
            out.truncate(0)
            progress(-at)
            return "it has nothing after what came before"
        except http_error() as error:
            return str(error).strip().partition("\n")[0] or type(error).__name__
    return None


@contextmanager
def _opened(file: RemoteFile, at: int, headers: dict[str, str]) -> Iterator[tuple[Iterator[bytes], int]]:
    """(the content in chunks, the byte that they begin at)."""
    if not file.address.startswith(("http://", "https://")):
        if not os.access(file.address, os.R_OK):
            raise RunError(f"{file.name}: {file.address} is not there, or cannot be read")
        with Path(file.address).open("rb") as content:
            content.seek(at)
            yield _chunks(content), at
        return
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.is_offline_mode():  # else the session raises an OSError, as a full disk does
        raise RunError(f"{file.name}: {file.address}: HF_HUB_OFFLINE is set; unset it, or fetch --from FOLDER")
    # Of the content as it is stored: a compressed answer has other bytes than the file, and no ranges.
    asked = headers | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={at}-"} if at else {})
    with get_session().stream("GET", file.address, headers=asked, timeout=SILENCE_S) as answer:
        if answer.status_code in (401, 403):
            raise RunError(
                f"{file.name}: {file.address} answers {answer.status_code} {answer.reason_phrase}; accept the terms on "
                "the page of the data set, and log in with `hf auth login`"
            )
        if answer.status_code in (404, 410, 451):
            raise RunError(f"{file.name}: {file.address} answers {answer.status_code} {answer.reason_phrase}")
        if answer.status_code == 416:
            raise _NothingLeft
        answer.raise_for_status()
        start = at if answer.status_code == 206 else 0
        length = answer.headers.get("Content-Length")
        if file.size is not None and length is not None and length.isdigit() and start + int(length) != file.size:
            raise RunError(
                f"{file.name}: {file.address} offers {start + int(length):,} bytes, not the {file.size:,} that are "
                "listed; it answers something other than the file"
            )
        yield answer.iter_bytes(), start  # as it comes: what breaks off within a chunk is kept


def _chunks(content: IO[bytes]) -> Iterator[bytes]:
    while chunk := content.read(CHUNK_BYTES):
        yield chunk


def free_bytes(folder: Path) -> int:
    """Room on the disk that a folder, there already or not, lies on."""
    while not folder.exists():
        folder = folder.parent
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
