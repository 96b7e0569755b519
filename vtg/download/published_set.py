"""What is known of a data set before anybody is asked: where it is published, and what its user has to know."""

from dataclasses import dataclass

STAGES = ("pretraining", "sft", "eval")


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file of a GitHub repository at a commit that does not change.

    Attributes:
        path: OWNER/REPOSITORY/COMMIT/PATH, what follows the host in its address.
        git_sha1: git's name of its content, by which it is checked.
        size: bytes; None where the publisher's listing was seen without them.
        saved_as: its name in the folder of the set; by default its own.
    """

    path: str
    git_sha1: str
    size: int | None
    saved_as: str = ""

    @property
    def name(self) -> str:
        return self.saved_as or self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSet:
    """A data set by its published location: a repository of the hub (`hub`), files on GitHub (`files`), or neither,
    where only a person can get it (`videos` says how).

    Attributes:
        title: what it is.
        stage: of STAGES.
        licence: as the publisher states it, None where that was not seen; the hub is asked again before it is fetched.
        size: bytes of a hub repository, None where that was not seen.
        tables: its rows are tables (Parquet, JSON, CSV) that `datasets` reads, and become one Parquet file a split.
        videos: what its rows need that is not in it, or that must be unpacked, and what to do.
        rows: FORM:FILE of its annotation files, which every command of vtg reads as they stand.
        data: the choice of `data` that reads its folder.
    """

    title: str
    stage: str
    hub: str | None = None
    files: tuple[PublishedFile, ...] = ()
    licence: str | None = None
    size: int | None = None
    tables: bool = False
    videos: str = ""
    rows: tuple[str, ...] = ()
    data: str | None = None

    def __post_init__(self) -> None:
        assert self.stage in STAGES, self.stage
        assert not (self.hub and self.files), self.title

    @property
    def by_hand(self) -> bool:
        """Whether nothing of it can be fetched."""
        return self.hub is None and not self.files

    @property
    def where(self) -> str:
        """The page that a person opens."""
        if self.hub is not None:
            return f"https://huggingface.co/datasets/{self.hub}"
        owners = dict.fromkeys("/".join(file.path.split("/")[:2]) for file in self.files)
        return ", ".join(f"https://github.com/{owner}" for owner in owners)

    @property
    def known_size(self) -> int | None:
        """Bytes, where all of them are known without asking anybody."""
        if not self.files:
            return self.size
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)
