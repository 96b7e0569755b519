"""What a publisher's server, or a folder in its stead, holds of a set: files, their checksums, and the licence."""

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from vtg.download.published_set import PublishedSet
from vtg.errors import RunError

GITHUB = "https://raw.githubusercontent.com"
# For one answer about a set; files are asked for with the library's own limit.
ASK_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a set.

    Attributes:
        name: its path in the set's folder.
        address: where it is fetched: an http(s) address, or a path of a folder that stands in for one.
        size: bytes, where they are known before it is fetched.
        sha256, git_sha1: what its content is checked by; at most one of them is known.
    """

    name: str
    address: str
    size: int | None
    sha256: str | None = None
    git_sha1: str | None = None

    @property
    def checksum(self) -> str | None:
        """`sha256:…` or `git-sha1:…`; None where the publisher states none."""
        if self.sha256 is not None:
            return f"sha256:{self.sha256}"
        return None if self.git_sha1 is None else f"git-sha1:{self.git_sha1}"


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a set at one moment, the revision that names the moment, and the licence that is stated."""

    files: tuple[RemoteFile, ...]
    revision: str | None = None
    licence: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes, of files whose size is known."""
        return sum(file.size or 0 for file in self.files)


class Place(Protocol):
    """Where sets are fetched from."""

    def listing(self, published: PublishedSet) -> Listing:
        """What there is of a set. Raises RunError: it cannot be had; OSError: nobody answers."""
        ...


class Servers:
    """The hub and GitHub, or one server (`address`) that answers in place of both."""

    def __init__(self, address: str | None) -> None:
        self.address = None if address is None else address.rstrip("/")

    def listing(self, published: PublishedSet) -> Listing:
        if published.hub is not None:
            return _hub_listing(published.hub, self.address)
        base = self.address or GITHUB
        files = (
            RemoteFile(file.name, f"{base}/{file.path}", file.size, git_sha1=file.git_sha1) for file in published.files
        )
        return Listing(tuple(files), licence=published.licence)


class Folder:
    """A folder in place of the servers: OWNER/NAME/… as on the hub, OWNER/REPOSITORY/COMMIT/… as on GitHub."""

    def __init__(self, path: str) -> None:
        self.path = path

    def listing(self, published: PublishedSet) -> Listing:
        root = Path(self.path)
        if published.hub is None:
            found = [
                RemoteFile(file.name, str(root / file.path), file.size, git_sha1=file.git_sha1)
                for file in published.files
            ]
        else:
            folder = root / published.hub
            paths = sorted(path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts)
            found = [
                RemoteFile(path.relative_to(folder).as_posix(), str(path), path.stat().st_size)
                for path in paths
                if not path.name.startswith(".git")
            ]
            if not found:
                raise RunError(f"{folder}: no such folder, or no files in it; --from names a folder with OWNER/NAME/…")
        return Listing(tuple(found), licence=published.licence)


def place_of(source: str | None) -> Place:
    """The servers, or what stands in for them.

    Raises:
        RunError: the folder is not there.
    """
    if source is None or source.startswith(("http://", "https://")):
        return Servers(source)
    if not os.path.isdir(source):
        raise RunError(f"--from {source}: no such folder; give a folder or an http(s) address")
    return Folder(source)


def _hub_listing(hub: str, endpoint: str | None) -> Listing:
    """Asks the hub. HF_ENDPOINT and HF_TOKEN are those of Hugging Face's libraries."""
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
    from huggingface_hub.utils import build_hf_headers

    # A server that a command line names is given no token: HF_ENDPOINT is for a hub of one's own.
    token = None if endpoint is None else False
    api = HfApi(endpoint=endpoint, token=token)
    try:
        info = api.dataset_info(hub, files_metadata=True, timeout=ASK_TIMEOUT_S)
        files = tuple(
            _hub_file(hub, sibling, str(info.sha), api.endpoint, hf_hub_url) for sibling in info.siblings or ()
        )
        card: Any = info.card_data or {}
        licence = card.get("license")
    except GatedRepoError as error:
        raise RunError(
            f"{hub}: its publisher wants its terms accepted: open https://huggingface.co/datasets/{hub}, accept them, "
            "then log in with `hf auth login` and run this again"
        ) from error
    except RepositoryNotFoundError as error:
        raise RunError(
            f"{hub}: the hub has no such data set, or not for you; `hf auth login`, or check --from"
        ) from error
    except (http_error(), OSError) as error:
        raise RunError(f"{hub}: {api.endpoint} cannot be asked ({_first_line(error)}); check the network") from error
    # What an answer that describes no data set raises in huggingface_hub, which takes every answer for a right one.
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{hub}: {api.endpoint} answers something that describes no data set ({error!r}); check the address"
        ) from error
    if not files:
        raise RunError(f"{hub}: {api.endpoint} lists no files of it; check the address")
    return Listing(files, str(info.sha), _licence(licence), build_hf_headers(token=token))


def _hub_file(hub: str, sibling: Any, revision: str, endpoint: str, url_of: Any) -> RemoteFile:
    name = sibling.rfilename
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or PurePosixPath(name).is_absolute() or "\\" in name:
        raise RunError(f"{hub}: lists a file {name!r}, whose path leads out of its folder; nothing of it is fetched")
    address = url_of(hub, name, repo_type="dataset", revision=revision, endpoint=endpoint)
    # Large files are checked by their content's SHA-256, small ones by git's own name of theirs.
    if sibling.lfs is not None:
        return RemoteFile(name, address, sibling.lfs.size, sha256=sibling.lfs.sha256)
    return RemoteFile(name, address, sibling.size, git_sha1=sibling.blob_id)


def http_error() -> type[Exception]:
    """What huggingface_hub's client raises where a server does not answer or breaks off: httpx's, or httpx2's."""
    from huggingface_hub.errors import HfHubHTTPError

    return next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")


def _licence(stated: Any) -> str | None:
    return ", ".join(stated) if isinstance(stated, list) else stated


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
