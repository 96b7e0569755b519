"""The folder of a downloaded set, and what it says of itself in `download.json`.

    molmo2_datasets/NAME/download.json    where it is from, its licence, each file with its checksum, the tables
    molmo2_datasets/NAME/train.parquet    a table a split (molmo2_datasets/NAME/CONFIG/train.parquet where there are
                                          several configurations)
    molmo2_datasets/NAME/files/…          what its publisher puts beside the tables, under the publisher's names
    molmo2_datasets/NAME/videos.txt       the videos that its rows name and its folder does not hold

A set that is not of tables has its files in the folder itself, where `data.root=molmo2_datasets/NAME` finds them.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec

from vtg.download.fetching import checksum
from vtg.download.published_set import PublishedSet
from vtg.errors import RunError
from vtg.storage.file_stamp import file_stamp
from vtg.storage.json_files import write_json

RECORD, FILES, WANTED = "download.json", "files", "videos.txt"
DEFAULT_FOLDER = "molmo2_datasets"


@dataclass(slots=True)
class KeptFile:
    """A file of the set that was fetched or made, and checked: its bytes and checksum, and when it was last written.

    `merged`: it became a part of a table and is no longer there itself.
    """

    size: int
    checksum: str
    mtime_ns: int = 0
    merged: bool = False


@dataclass(slots=True)
class Record:
    """What `download.json` holds."""

    name: str
    source: str
    revision: str | None = None
    licence: str | None = None
    files: dict[str, KeptFile] = field(default_factory=dict)
    tables: dict[str, KeptFile] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    videos_named: int = 0
    videos_missing: int = 0
    is_whole: bool = False


class SetFolder:
    """The folder of one set.

    Attributes:
        path: the folder.
        files: the folder in it, or itself, that the publisher's files lie in.
    """

    def __init__(self, root: str | Path, name: str, published: PublishedSet) -> None:
        self.name, self.path = name, Path(root) / name
        self.files = self.path / FILES if published.tables else self.path

    def record(self) -> Record | None:
        """What it says of itself; None where nothing was downloaded.

        Raises:
            RunError: `download.json` cannot be read.
        """
        return read_record(self.path)

    def write(self, record: Record) -> None:
        """Raises OSError."""
        write_json(self.path / RECORD, asdict(record))

    def kept(self, path: Path, size: int, found: str) -> KeptFile:
        """The entry of a file that has just been checked."""
        return KeptFile(size, found, file_stamp(str(path))[1])

    def holds(self, path: Path, kept: KeptFile | None, wanted: str | None) -> bool:
        """Whether a file is there as it was when it was checked, and is the one that is wanted now."""
        if kept is None or (wanted is not None and kept.checksum != wanted):
            return False
        return kept.merged or file_stamp(str(path)) == (kept.size, kept.mtime_ns)

    def faults(self) -> list[str]:
        """What is wrong with it, by reading every file again; nothing is asked of anybody.

        Raises:
            RunError: `download.json` cannot be read.
        """
        record = self.record()
        if record is None:
            return ["is not downloaded"]
        found = [] if record.is_whole else ["is not whole: run the same download again to go on with it"]
        for folder, entries in ((self.files, record.files), (self.path, record.tables)):
            for name, kept in entries.items():
                if not kept.merged and (fault := _fault(folder / name, kept)):
                    found.append(f"{name}: {fault}")
        return found


def read_record(folder: Path) -> Record | None:
    """The record of a set's folder; None where there is none.

    Raises:
        RunError: it cannot be read.
    """
    path = folder / RECORD
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); check the permissions of its folder") from error
    except (OSError, msgspec.MsgspecError) as error:
        raise RunError(
            f"{path}: not a record that vtg.download wrote ({error}); remove it and download the set again: files that "
            "are there and whole are not fetched twice"
        ) from error


def _fault(path: Path, kept: KeptFile) -> str | None:
    try:
        size = path.stat().st_size
        if size != kept.size:
            return f"has {size:,} bytes, not {kept.size:,}; download the set again"
        found = checksum(path, kept.checksum.partition(":")[0])
    except OSError as error:
        return f"cannot be read ({error.strerror or error}); download the set again"
    return None if found == kept.checksum else "has changed since it was downloaded; download the set again"
