"""Downloads sets: several files at a time, on from where it stopped, and on with the rest where one fails."""

import errno
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from vtg.download.data_sets import SETS
from vtg.download.fetching import Stopped, checksum, fetch
from vtg.download.listing import Listing, Place, RemoteFile
from vtg.download.published_set import PublishedSet
from vtg.download.set_folder import Record, SetFolder
from vtg.download.tables import make_tables
from vtg.download.wanted_videos import count_videos
from vtg.errors import RunError, SampleError
from vtg.progress_bar import ProgressBar
from vtg.storage.locks import locked

WHOLE, THERE, FAILED, BY_HAND, NOT_TRIED = "whole", "was there", "failed", "by hand", "not tried"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# Videos and archives of them: what `rows_only` leaves out.
MEDIA = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".tar", ".tar.gz", ".tgz", ".zip", ".7z", ".tar.zst")
MEGABYTE = 1_000_000
# Between two writings of a record while its files come in.
RECORD_S = 2.0


@dataclass(slots=True)
class Planned:
    """A set that is to be downloaded: what there is of it, what is here already, and what became of it.

    Attributes:
        missing: files that have yet to be fetched.
        state, why: how it ended, and the reason where that is not well.
    """

    name: str
    published: PublishedSet
    folder: SetFolder
    listing: Listing = field(default_factory=lambda: Listing(()))
    record: Record | None = None
    missing: list[RemoteFile] = field(default_factory=list)
    state: str = NOT_TRIED
    why: str = ""

    @property
    def missing_bytes(self) -> int:
        """Bytes to fetch, of files whose size is known."""
        return sum(file.size or 0 for file in self.missing)

    @property
    def has_unknown_sizes(self) -> bool:
        return any(file.size is None for file in self.missing)

    def fail(self, why: str) -> None:
        """Only the first reason counts: others follow from it."""
        if self.state != FAILED:
            self.state, self.why = FAILED, why


def survey(names: Sequence[str], place: Place, root: Path, *, rows_only: bool, workers: int) -> list[Planned]:
    """Asks what there is of each set, and compares it with what is here; one that cannot be asked about is `failed`."""

    def ask(name: str) -> Planned:
        published = SETS[name]
        planned = Planned(name, published, SetFolder(root, name, published))
        if published.by_hand:
            planned.state, planned.why = BY_HAND, published.videos
            return planned
        try:
            planned.record = planned.folder.record()
            listing = place.listing(published)
        except (RunError, OSError) as error:
            planned.fail(str(error))
            return planned
        files = tuple(file for file in listing.files if not (rows_only and _is_media(file)))
        planned.listing = Listing(files, listing.revision, listing.licence or published.licence, listing.headers)
        planned.missing = _missing(planned)
        return planned

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(ask, names))


def _is_media(file: RemoteFile) -> bool:
    return file.name.lower().endswith(MEDIA)


def _missing(planned: Planned) -> list[RemoteFile]:
    """The files that have yet to be fetched."""
    files, folder, record = planned.listing.files, planned.folder, planned.record
    absent = {file.name for file in files if not _is_here(planned, file)}
    tables = {} if record is None else record.tables
    are_gone = not all(folder.holds(folder.path / name, kept, None) for name, kept in tables.items())
    if record is not None and (are_gone or any(file.name in absent and not _is_media(file) for file in files)):
        # Tables are made of all their files at once, so those that became a part of one are wanted again.
        absent |= {name for name, kept in record.files.items() if kept.merged}
    return [file for file in files if file.name in absent]


def _is_here(planned: Planned, file: RemoteFile) -> bool:
    kept = None if planned.record is None else planned.record.files.get(file.name)
    if kept is not None and file.checksum is None and file.size not in (None, kept.size):
        return False
    return planned.folder.holds(planned.folder.files / file.name, kept, file.checksum)


def room_needed(sets: Sequence[Planned]) -> int:
    """Bytes that downloading takes at the worst: the files, and the largest set of tables twice, while it is joined."""
    joined = [one.listing.size for one in sets if one.published.tables and one.missing]
    return sum(one.missing_bytes for one in sets) + max(joined, default=0)


class Downloading:
    """One run over planned sets.

    Attributes:
        interrupted: whether the user ended it.
    """

    def __init__(self, sets: Sequence[Planned], *, workers: int) -> None:
        self.sets = [one for one in sets if one.state == NOT_TRIED]
        self.workers, self.interrupted = workers, False
        self._ending = threading.Event()
        self._count = threading.Lock()
        self._bytes = 0

    def run(self) -> None:
        """Downloads them; each ends with its `state` and `why`."""
        total = sum(one.missing_bytes for one in self.sets)
        unknown = any(one.has_unknown_sizes for one in self.sets)
        bar = ProgressBar(None if unknown else -(-total // MEGABYTE), title="downloading", unit="MB")
        with ExitStack() as locks, bar:
            begun = [one for one in self.sets if self._begin(one, locks)]
            pool = ThreadPoolExecutor(self.workers)
            try:
                for one in begun:
                    if not one.missing:
                        self._finish(one)
                tasks = ((one, file) for one in begun for file in one.missing)
                self._collect({pool.submit(self._fetch, one, file, bar): (one, file) for one, file in tasks})
            except KeyboardInterrupt:
                self.interrupted = True
                # At once: a server that does not answer keeps what is being read from ending for a while.
                print("interrupted: ending what is being fetched", file=sys.stderr, flush=True)
            finally:
                self._ending.set()
                pool.shutdown(cancel_futures=True)
        for one in self.sets:
            if one.state == NOT_TRIED:
                one.why = "interrupted" if self.interrupted else "the disk is full"

    def _begin(self, one: Planned, stack: ExitStack) -> bool:
        """Makes and locks the folder, and takes over files that are there but in no record."""
        try:
            one.folder.path.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((one.folder.path / ".lock").open("a"))
            if not stack.enter_context(locked(lock.fileno(), wait=False)):
                one.fail(f"{one.folder.path}: another process is downloading it; wait for that one")
                return False
        except OSError as error:
            one.fail(f"{one.folder.path}: cannot be written to ({error.strerror or error})")
            return False
        source = one.published.hub or one.published.where
        one.record = one.record or Record(one.name, source)
        for name in one.record.files.keys() - {file.name for file in one.listing.files}:
            # `datasets` would take what a former revision had for data of this one.
            del one.record.files[name]
            (one.folder.files / name).unlink(missing_ok=True)
        one.record.revision, one.record.licence = one.listing.revision, one.listing.licence
        return True

    def _fetch(self, one: Planned, file: RemoteFile, bar: ProgressBar) -> tuple[int, str]:
        """(size, checksum) of a file, from here where it is whole, else fetched."""

        def progress(count: int) -> None:
            if self._ending.is_set():
                raise Stopped
            with self._count:
                before = self._bytes // MEGABYTE
                self._bytes += count
                bar.update(self._bytes // MEGABYTE - before)

        target = one.folder.files / file.name
        # Whole, but a kill came before the record of it.
        if file.checksum is not None and target.is_file() and file.size in (None, target.stat().st_size):
            found = checksum(target, file.checksum.partition(":")[0])
            if found == file.checksum:
                progress(file.size or 0)
                return target.stat().st_size, found
        return fetch(file, target, headers=one.listing.headers, progress=progress)

    def _collect(self, futures: dict[Future[tuple[int, str]], tuple[Planned, RemoteFile]]) -> None:
        """Records each file that comes in, and finishes a set with its last."""
        waiting = {one.name: len(one.missing) for one in self.sets}
        written_s = time.monotonic()
        for future in as_completed(futures):
            one, file = futures[future]
            waiting[one.name] -= 1
            try:
                size, found = future.result()
                assert one.record is not None
                one.record.files[file.name] = one.folder.kept(one.folder.files / file.name, size, found)
                if not waiting[one.name] or time.monotonic() - written_s > RECORD_S:
                    one.folder.write(one.record)
                    written_s = time.monotonic()
            except Stopped:
                continue
            except RunError as error:
                one.fail(str(error))
            except OSError as error:
                self._cannot_write(one, file.name, error)
            if not waiting[one.name]:
                self._finish(one)

    def _cannot_write(self, one: Planned, name: str, error: OSError) -> None:
        one.fail(f"{name}: cannot be written ({error.strerror or error}); free some room, and run this again to go on")
        if error.errno in NO_ROOM:
            self._ending.set()

    def _finish(self, one: Planned) -> None:
        """Makes the tables of a set whose files are all here, counts its videos, and says so in its record."""
        assert one.record is not None
        record, folder = one.record, one.folder
        try:
            if one.state == FAILED:
                record.is_whole = False
                folder.write(record)
                return
            made = one.published.tables and not (record.tables and all(map(_is_media, one.missing)))
            for table, rows, sources in make_tables(folder.files, folder.path) if made else ():
                path = folder.path / table
                record.tables[table] = folder.kept(path, path.stat().st_size, checksum(path, "sha256"))
                record.rows[table] = rows
                for source in sources:
                    record.files[source.relative_to(folder.files).as_posix()].merged = True
            record.is_whole = True
            record.videos_named, record.videos_missing = count_videos(folder, one.published, list(record.tables))
            folder.write(record)
            for name, kept in record.files.items():
                if kept.merged:
                    (folder.files / name).unlink(missing_ok=True)
            one.state = WHOLE if one.missing else THERE
        except (RunError, SampleError) as error:
            record.is_whole = False
            one.fail(str(error))
            folder.write(record)
        except OSError as error:
            self._cannot_write(one, str(error.filename or folder.path), error)
