"""Tensors by key in a bounded folder that processes share: what a frozen model makes of clips, kept for later runs.

Entries are safetensors with a checksum, written beside and renamed; a damaged one is removed, and is made again.
"""

import json
import logging
import time
import zlib
from collections import Counter

import torch

from vtg.errors import ConfigError
from vtg.storage.bounded_folder import BoundedFolder

log = logging.getLogger(__name__)

# Goes up with any change to what is written.
FORMAT = "1"

# File systems tell the time of a write by coarser clocks, so that it can seem earlier than it was.
CLOCK_S = 2.0


class TensorFolder:
    """See the module. Can be pickled; counts start at zero then.

    What was used since it was made is never evicted: a set of clips larger than the bound would else be written anew
    every epoch, and never be found. What is beyond the bound is made each time.

    Args:
        setting: what messages call it by: `video.tower_cache` of video.tower_cache_dir and video.tower_cache_gb.
        otherwise: what clips that are not there do, in messages: "go through the vision tower each time".

    Raises:
        ConfigError: no room at all, or a folder in which files cannot be written and locked.
    """

    def __init__(self, folder: str, *, max_bytes: int, setting: str, otherwise: str) -> None:
        if max_bytes < 1:
            raise ConfigError(f"{setting}_gb: {max_bytes} bytes hold nothing; give it more, or {setting}_dir=null")
        self.setting, self.otherwise = setting, otherwise
        self._is_full = self._is_told = False
        since_s = time.time() - CLOCK_S
        try:
            self._files = BoundedFolder(folder, max_bytes=max_bytes, kind="safetensors", keeps_since_s=since_s)
        except OSError as error:
            raise ConfigError(
                f"{setting}_dir = {folder!r}: files cannot be written and locked there ({error.strerror or error}); "
                f"name a folder of yours on a disk with file locks, or {setting}_dir=null"
            ) from error

    @property
    def folder(self) -> str:
        return self._files.folder

    def read(self, key: str) -> dict[str, torch.Tensor] | None:
        """What was written under `key`, on the CPU; None where there is none, or none that is whole."""
        content = self._files.read(key)
        if content is None:
            return None
        tensors = _unpacked(content)
        if tensors is None:
            self._files.note_unreadable(key)
        else:
            self._files.note_hit(key, len(content))
        return tensors

    def write(self, key: str, tensors: dict[str, torch.Tensor], *, what: str) -> None:
        """Stores tensors where there is room.

        Args:
            what: they are, told once with their size: "a clip of 32 vision tokens".
        """
        if self._is_full:
            return
        try:
            self._files.write(key, _packed({name: one.cpu().contiguous() for name, one in tensors.items()}))
        except OSError as error:
            self._files.count(failed=1)
            self._stop(f"a clip could not be stored ({error}); check the free space and the permissions of the folder")
            return
        # Tried no more once one did not fit: each attempt lists the whole folder.
        if self._files.counts["skipped"]:
            self._stop(f"it is full; raise {self.setting}_gb to keep more")
        elif not self._is_told:
            self._is_told = True
            size, bound = sum(one.nbytes for one in tensors.values()), self._files.max_bytes
            log.info(
                "%s_dir = %s: %s takes %.1f MB there, and %.10g GB hold %d such",
                *(self.setting, self.folder, what, size / 1e6, bound / 1e9, bound // size),
            )

    def take_counts(self) -> Counter[str]:
        """What happened in this process since the last call, see `BoundedFolder`."""
        return self._files.take_counts()

    def _stop(self, why: str) -> None:
        self._is_full = True
        log.warning(
            "%s_dir = %s: %s; the run goes on, and clips that are not there %s",
            *(self.setting, self.folder, why, self.otherwise),
        )


def _packed(tensors: dict[str, torch.Tensor]) -> bytes:
    # Late: the cache may be off, and then nothing needs safetensors.
    from safetensors.torch import save

    return save(tensors, {"format": FORMAT, "checksum": _checksum(tensors)})


def _unpacked(content: bytes) -> dict[str, torch.Tensor] | None:
    """The tensors of an entry; None where it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(content)
        # `load` leaves the metadata out; the header is JSON behind its length.
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        is_whole = header["__metadata__"]["checksum"] == _checksum(tensors)
    except (SafetensorError, ValueError, KeyError):
        return None
    return tensors if is_whole else None


def _checksum(tensors: dict[str, torch.Tensor]) -> str:
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(tensors[name].flatten().view(torch.uint8).numpy().data, total)
    return f"{total:08x}"
