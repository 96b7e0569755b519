"""Which videos of clients are opened, and where those that they send are kept.

A client's video is one of:

- `data:video/mp4;base64,...`, or what is uploaded: written to a folder of the server's own, up to `upload_bytes`;
- `http://` or `https://`, where addresses are allowed at all (`vtg.serving.web_fetch`): fetched into that folder;
- a path: a file in a folder that is allowed (`allow_dirs`), once links are followed.

Nothing else: no `file://`, no store, no member of a tar file. That a file holds its video in itself, and is no playlist
of other files and addresses, FFmpeg's formats say when it is opened (`vtg.video.files.formats`).
"""

import base64
import binascii
import os
import re
import shutil
import stat
import tempfile
import threading
import uuid
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import unquote_to_bytes, urlsplit

from vtg.errors import ConfigError
from vtg.serving.limits import MB, Limits
from vtg.serving.refusals import busy, not_allowed, stopped, too_large, wrong
from vtg.serving.web_fetch import fetch

# Of a file that is kept: some decoders tell a format by it.
SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")


class Admission:
    """What clients may have the server open. A context manager: the folder of uploads is removed at its end.

    Args:
        allow_dirs: folders whose files a client may name.
        allow_urls: whether a client may name addresses of public hosts.
        private_hosts: hosts that it may name though they lie in a private network.

    Attributes:
        folder: of what clients send, made when this is entered; only this user can read it.

    Raises:
        ConfigError: a folder is not there.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        allow_dirs: Sequence[str | os.PathLike[str]] = (),
        allow_urls: bool = False,
        private_hosts: Collection[str] = (),
    ) -> None:
        self.limits, self.allow_urls, self.private_hosts = limits, allow_urls, frozenset(private_hosts)
        for name in allow_dirs:
            if not Path(name).is_dir():
                raise ConfigError(f"--allow-dir {os.fspath(name)}: no such folder (looked in {Path.cwd()})")
        self.allow_dirs = [Path(name).resolve() for name in allow_dirs]
        self._kept, self._counting = 0, threading.Lock()

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="vtg-uploads-"))
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def session(self) -> "Session":
        """A place for the videos of one request, or of one visit."""
        return Session(self)

    def count(self, size: int) -> None:
        """Notes that so many bytes more are kept (or fewer). Raises Refused where there is no room for them."""
        with self._counting:
            if size > 0 and self._kept + size > self.limits.kept_bytes:
                raise busy(f"{self._kept // MB} MB of videos are kept already")
            self._kept += size

    def allowed_file(self, name: str) -> Path:
        """The true path of a file that clients may name. Raises Refused for any other."""
        for folder in self.allow_dirs:
            try:
                path = (folder / name).resolve(strict=True)  # of an absolute name, that alone
                if path.is_relative_to(folder) and stat.S_ISREG(path.stat().st_mode):
                    return path
            except (OSError, ValueError, RuntimeError):  # not there; a name that no file has; links in a circle
                continue
        # One text for what is not there and what is elsewhere: else it tells which files this machine has.
        where = "is in no folder that this server reads" if self.allow_dirs else "this server reads no files by name"
        raise not_allowed(f"video {name[:200]!r}: {where} (--allow-dir); send it as a data: URL")


class Session:
    """The videos that one client has sent. A context manager: its folder is removed at the end."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._uploads: list[Upload] = []
        self.folder = admission.folder / uuid.uuid4().hex
        self.folder.mkdir(mode=0o700)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for upload in self._uploads:
            upload.give_up()

    def upload(self, name: str) -> "Upload":
        """A file for what a client sends; `name` is what the client calls it."""
        upload = Upload(self._admission, self.folder, name)
        self._uploads.append(upload)
        return upload

    def admit(self, url: str, *, timeout_s: float = 60.0) -> Path:
        """A file on this machine for the video that a client names. Reads, or waits for the network.

        Raises:
            Refused: it may not be opened, is too large, or cannot be fetched.
        """
        scheme = url.partition(":")[0].lower()
        if scheme == "data":
            return self._decoded(url)
        if scheme in ("http", "https") and "://" in url:
            if not (self._admission.allow_urls or urlsplit(url).hostname in self._admission.private_hosts):
                raise not_allowed("this server fetches no addresses (--allow-urls); send the video as a data: URL")
            with self.upload(urlsplit(url).path) as upload:
                fetch(url, upload.write, private_hosts=self._admission.private_hosts, timeout_s=timeout_s)
            return upload.path
        if "://" in url:
            raise not_allowed(f"{url[:200]!r} is not opened: give a path, a data: URL, or an http(s) address")
        return self._admission.allowed_file(url)

    def shown(self, message: str) -> str:
        """A message about its files, in the names that the client gave them."""
        for upload in self._uploads:
            message = message.replace(str(upload.path), upload.name)
        return message

    def _decoded(self, url: str) -> Path:
        """Of `data:[TYPE][;base64],DATA` (RFC 2397)."""
        head, comma, data = url.partition(",")
        kind = head.removeprefix("data:").partition(";")[0]
        if not comma or not re.fullmatch(r"(video/[\w.+-]+|application/octet-stream)?", kind):
            raise wrong(f"{head[:80]!r}: give a video as data:video/mp4;base64,...")
        name = f"the video of the data: URL.{kind.partition('/')[2]}" if kind.startswith("video/") else "the data: URL"
        with self.upload(name) as upload:
            upload.expect(len(data) // 4 * 3 if head.endswith(";base64") else 0)
            try:
                is_base64 = head.endswith(";base64")
                upload.write(base64.b64decode(data, validate=True) if is_base64 else unquote_to_bytes(data))
            except binascii.Error as error:
                raise wrong(f"{head}: is no base64 ({error})") from error
        return upload.path


class Upload:
    """A file that is written as its bytes arrive: `with session.upload(name) as upload: upload.write(...)`.

    Attributes:
        path: where it lies; the session removes it. name: what the client calls it. size: bytes so far.
    """

    def __init__(self, admission: Admission, folder: Path, name: str) -> None:
        ending = Path(name).suffix.lower()
        self._admission, self.name, self.size = admission, os.path.basename(name)[:80] or "the video", 0
        self.path = folder / f"{uuid.uuid4().hex}{ending if SUFFIX.fullmatch(ending) else ''}"
        self._is_over, self._file = False, self.path.open("xb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def expect(self, size: int) -> None:
        """Raises Refused for a file of more bytes than are taken, where that is known before."""
        limit = self._admission.limits.upload_bytes
        if size > limit:
            raise too_large(f"{self.name}: is larger than {limit / MB:g} MB; send a shorter or smaller version")

    def give_up(self) -> None:
        """Takes nothing more: its session is over, though a thread may still fetch it."""
        self._is_over = True
        self._admission.count(-self.size)
        self.size = 0

    def write(self, data: bytes) -> None:
        """Raises Refused where the file becomes too large, or clients have sent too much together."""
        if self._is_over:
            raise stopped(f"{self.name}: is wanted no longer")
        self.expect(self.size + len(data))
        self._admission.count(len(data))
        self.size += len(data)
        self._file.write(data)
