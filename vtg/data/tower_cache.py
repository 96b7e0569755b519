"""What a frozen vision tower makes of clips, kept on disk: a clip that is there is neither decoded nor seen again.

    cache = TowerCache("/data/towers", max_bytes=…, tower=tower_identity(model))
    clip = cache.clip(provider, window)      # in data workers: without frames, where it is there
    features = encode(processor, messages, clip)
    encoded_video(model, features, cache)    # beside the model: found in the features, or made and kept

What is kept is exactly what the tower made, in its type, so that a run with the cache trains on the same numbers from
its first step to its last. Keys name the file, the sampling, the weights of tower and projector, and how they compute.
"""

import hashlib
import json
import logging
import time
import zlib
from collections import Counter

import torch

from vtg.data.seen_clip import TICKET, SeenClip, ticket_key
from vtg.errors import ConfigError
from vtg.storage.bounded_folder import BoundedFolder
from vtg.video.clip import Clip
from vtg.video.files.address import is_picture
from vtg.video.provider import ClipProvider
from vtg.video.video_window import VideoWindow

log = logging.getLogger(__name__)

# Goes up with any change to what is written.
FORMAT = "1"

# File systems tell the time of a write by coarser clocks, so that it can seem earlier than it was.
CLOCK_S = 2.0


class TowerCache:
    """See the module. Can be pickled; counts start at zero then.

    What was used since it was made is never evicted: a set of clips larger than the bound would else be written anew
    every epoch, and never be found. Clips beyond the bound go through the tower each time.

    Args:
        tower: what tells one tower, and how it computes, from another.

    Raises:
        ConfigError: no room at all, or a folder in which files cannot be written and locked.
    """

    def __init__(self, folder: str, *, max_bytes: int, tower: str) -> None:
        if max_bytes < 1:
            raise ConfigError(
                f"video.tower_cache_gb: {max_bytes} bytes hold nothing; give it more, or video.tower_cache_dir=null"
            )
        self.tower = tower
        self._is_full = self._is_told = False
        since_s = time.time() - CLOCK_S
        try:
            self._files = BoundedFolder(folder, max_bytes=max_bytes, kind="safetensors", keeps_since_s=since_s)
        except OSError as error:
            raise ConfigError(
                f"video.tower_cache_dir = {folder!r}: files cannot be written and locked there "
                f"({error.strerror or error}); name a folder of yours on a disk with file locks, or "
                "video.tower_cache_dir=null"
            ) from error

    def clip(self, provider: ClipProvider, window: VideoWindow, *, seed: int = 0) -> Clip:
        """The clip of a window: without its frames where the tower has seen it, else the provider's.

        Raises:
            DecodeError: the file is not there, or cannot be read.
        """
        # Pictures are told no time, and are processed otherwise.
        if is_picture(window.path):
            return provider.clip(window, seed=seed)
        key = self._key(provider, window)
        entry = self._read(key)
        if entry is None:
            return SeenClip.unseen(provider.clip(window, seed=seed), key)
        return SeenClip.from_ticket(entry.pop(TICKET), entry, path=window.path)

    def find(self, features: dict[str, torch.Tensor], *, pixels: str) -> torch.Tensor | None:
        """What the tower made of the clip of these features, which were encoded before it was there; on the CPU."""
        entry = self._read(ticket_key(features[TICKET]))
        return None if entry is None else entry[pixels]

    def keep(self, features: dict[str, torch.Tensor], encoded: torch.Tensor, *, inputs: tuple[str, ...]) -> None:
        """Stores what the tower made of the clip of these features, where there is room.

        Args:
            inputs: the family's names of what a model reads of a clip; pixels, for which `encoded` stands, first.
        """
        if self._is_full:
            return
        ticket = features[TICKET].cpu()
        tensors = {name: features[name].cpu().contiguous() for name in inputs[1:]}
        tensors |= {inputs[0]: encoded.cpu().contiguous(), TICKET: ticket}
        try:
            self._files.write(ticket_key(ticket), _packed(tensors))
        except OSError as error:
            self._files.count(failed=1)
            self._stop(f"a clip could not be stored ({error}); check the free space and the permissions of the folder")
            return
        if self._files.counts["skipped"]:
            self._stop("it is full; raise video.tower_cache_gb to keep more")
        elif not self._is_told:
            self._is_told = True
            size, bound = encoded.nbytes, self._files.max_bytes
            log.info(
                "video.tower_cache_dir = %s: a clip of %d vision tokens takes %.1f MB there, and %.10g GB hold %d such",
                *(self._files.folder, len(encoded), size / 1e6, bound / 1e9, bound // size),
            )

    def take_counts(self) -> Counter[str]:
        """`seen`: clips that were found since the last call, in this process."""
        return +Counter(seen=self._files.take_counts()["hits"])

    def _stop(self, why: str) -> None:
        self._is_full = True
        log.warning(
            "video.tower_cache_dir = %s: %s; the run goes on, and clips that are not there go through the vision tower "
            "each time",
            *(self._files.folder, why),
        )

    def _key(self, provider: ClipProvider, window: VideoWindow) -> str:
        # The cache of clips may keep other pixels than the decoder gives (video.cache_format=compact).
        said = [FORMAT, provider.key(window), provider.config.cache_dir is not None, self.tower]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:40]

    def _read(self, key: str) -> dict[str, torch.Tensor] | None:
        content = self._files.read(key)
        if content is None:
            return None
        tensors = _unpacked(content)
        if tensors is None:
            self._files.note_unreadable(key)
        else:
            self._files.note_hit(key, len(content))
        return tensors


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
