"""Publishes an exported folder on the Hugging Face hub, in one commit, and nothing that is not of the export.

The token is huggingface_hub's: HF_TOKEN, or what `hf auth login` stored. Files that the hub has already received are
not sent again, so that a push which broke off resumes.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id

from vtg.errors import ConfigError, RunError
from vtg.export.card_metadata import is_hub_name
from vtg.export.manifest import exported_files
from vtg.models.checkpoint import ADAPTER_FILE
from vtg.models.hub import responds

log = logging.getLogger(__name__)

T = TypeVar("T")

# Of httpx until huggingface_hub 1, of httpx2 since 2: only huggingface_hub itself knows which is installed.
NETWORK_ERROR: type[Exception] = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")

# What the hub means by a status, and the next step; others are quoted.
REASONS = {
    401: "the token is not valid; make one at HF_ENDPOINT/settings/tokens and store it: hf auth login",
    403: "the token may not write there; take a name of your own or of your organisation, and a token that can write",
    404: "there is no such repository or revision, or the token may not see it",
    409: "the name is taken, or another push is going on; choose another, or try again",
}


@dataclass(frozen=True)
class PushTarget:
    """Where to publish: `ORG/NAME`, a branch (None: main), and whether only the owner may see it."""

    name: str
    revision: str | None = None
    private: bool = False

    def check_name(self) -> None:
        """Raises ConfigError for what can be no name on the hub."""
        try:
            validate_repo_id(self.name)
        except HFValidationError:
            raise ConfigError(
                f"--push {self.name}: is no name on the hub; give ORG/NAME, such as me/my-model"
            ) from None
        if self.name.count("/") != 1:
            raise ConfigError(f"--push {self.name}: whose is it? Give ORG/NAME, such as me/{self.name}")

    def check_access(self) -> None:
        """Raises ConfigError, before anything is loaded, where no hub or token is there; RunError: it is not valid."""
        if constants.is_offline_mode():
            raise ConfigError(f"--push {self.name}: HF_HUB_OFFLINE is set; unset it to reach the hub")
        if get_token() is None:
            raise ConfigError(f"--push {self.name}: there is no token of the hub; hf auth login, or set HF_TOKEN")
        if not responds(constants.ENDPOINT):
            raise ConfigError(
                f"--push {self.name}: {constants.ENDPOINT} does not answer; try again with a network, or export "
                "without --push and push the folder later"
            )
        self._ask(lambda: HfApi().whoami())

    def push(self, folder: Path) -> str:
        """Uploads the files of an export; returns the address of the commit.

        Raises:
            RunError: it was not done: says why, and the command that goes on. The folder stays as it is.
        """
        files = exported_files(folder)
        _check_base(folder, self.name)
        api, again = HfApi(), self._again(folder)
        log.info("pushing %d files, %s, to %s", len(files), size(sum(files.values())), self.name)
        self._ask(lambda: api.create_repo(self.name, private=self.private or None, exist_ok=True), again)
        if self.private and not self._ask(lambda: api.model_info(self.name), again).private:
            raise RunError(
                f"--push {self.name}: exists already and is public; choose another name, or leave out --private"
            )
        if self.revision:
            branch = self.revision
            self._ask(lambda: api.create_branch(self.name, branch=branch, exist_ok=True), again)
        commit = self._ask(
            lambda: api.create_commit(
                self.name,
                [CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in files],
                commit_message="Upload a model exported by vtg",
                revision=self.revision,
            ),
            again,
        )
        return commit.commit_url

    def _again(self, folder: Path) -> str:
        words = ["python -m vtg.export", str(folder), "--push", self.name]
        words += ["--private"] * self.private + (["--revision", self.revision] if self.revision else [])
        return f"; {folder} is whole, and this resumes: {' '.join(words)}"

    def _ask(self, request: Callable[[], T], again: str = "") -> T:
        try:
            return request()
        except HfHubHTTPError as error:
            status = error.response.status_code
            said = (error.server_message or f"HTTP status {status}").splitlines()[0]
            reason = REASONS.get(status, said).replace("HF_ENDPOINT", constants.ENDPOINT)
        except (NETWORK_ERROR, OSError) as error:
            reason = f"{constants.ENDPOINT} could not be reached ({_first_line(error)})"
        except RuntimeError as error:  # of huggingface_hub's and hf_xet's threads of upload
            reason = f"{_first_line(error)} {_first_line(error.__cause__)}" if error.__cause__ else _first_line(error)
        except ValueError as error:  # the hub judges the head of the card
            reason = " ".join(str(error).split())
        raise RunError(f"--push {self.name}: {reason}{again}")


def _check_base(folder: Path, name: str) -> None:
    """Raises ConfigError for an adapter alone whose base is a folder of this machine, which nobody else has."""
    file = folder / ADAPTER_FILE
    if not file.is_file():
        return
    base = json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]
    if not is_hub_name(base):
        raise ConfigError(
            f"--push {name}: the adapter's base is the local folder {base}, which nobody else has; export it with "
            "--base ORG/NAME, where others find it, or without --adapter-only"
        )


def size(count: int) -> str:
    """Bytes for a reader: 2.2 MB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000  # type: ignore[assignment]
    return f"{count:.1f} GB"


def listing(folder: Path) -> str:
    """What a push would upload: a line for each file with its size, and the sum."""
    files = exported_files(folder)
    lines = [f"{size(count):>8}  {name}" for name, count in files.items()]
    return "\n".join([*lines, f"{size(sum(files.values())):>8}  in {len(files)} files"])


def _first_line(error: BaseException | None) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
