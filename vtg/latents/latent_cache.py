"""Latents of clips kept on disk, by clip and by encoder: a clip that is there is neither decoded nor encoded again.

A folder is of one encoder, whose identity a file in it says. Keys hold the identity too, so nothing wrong would be read
from a folder of another; but a set that was encoded for days would be encoded once more without a word.
"""

import hashlib
import os
from collections import Counter

import transformers

from vtg.config.clip_settings import ClipsConfig
from vtg.data.tensor_folder import FORMAT, TensorFolder
from vtg.errors import ConfigError
from vtg.latents.encoders.encoder import Encoder
from vtg.latents.latents import Latents
from vtg.storage.locks import locked

OWNER = "encoder.txt"
"""Holds the identity of the encoder whose latents are in the folder."""


class LatentCache:
    """Latents by key in a bounded folder. Can be pickled; counts start at zero then.

    What a run has used stays until it ends: see `TensorFolder`.

    Args:
        identity: of the encoder.

    Raises:
        ConfigError: no room at all, a folder in which files cannot be written and locked, or one of another encoder.
    """

    def __init__(self, folder: str, *, max_bytes: int, identity: str) -> None:
        otherwise = "are decoded and encoded each time"
        self._folder = TensorFolder(folder, max_bytes=max_bytes, setting="clips.cache", otherwise=otherwise)
        # Only now: the folder is made by then, and known to have locks.
        owner = _claim(os.path.join(self._folder.folder, OWNER), identity)
        if owner != identity:
            raise ConfigError(
                f"clips.cache_dir = {folder!r}: holds latents of the encoder {owner}, and this one is {identity} (its "
                "weights, dtype or processor differ); name another folder, or remove that one"
            )

    def find(self, key: str) -> Latents | None:
        """The latents of one clip, on the CPU; None where they are not there."""
        entry = self._folder.read(_with_version(key))
        return None if entry is None else Latents(**entry)

    def keep(self, key: str, latents: Latents) -> None:
        """Stores the latents of one clip, where there is room."""
        entry = {name: getattr(latents, name).detach() for name in ("values", "times_s", "observed")}
        size = "x".join(map(str, latents.values.shape[1:]))
        self._folder.write(_with_version(key), entry, what=f"a clip of {size} latents")

    def take_counts(self) -> Counter[str]:
        """`cached`: clips that were found since the last call, in this process; `kept`: that were stored."""
        counts = self._folder.take_counts()
        return +Counter(cached=counts["hits"], kept=counts["stored"])


def make_latent_cache(clips: ClipsConfig, encoder: Encoder) -> LatentCache | None:
    """The cache that settings ask for, if they ask for one.

    Raises:
        ConfigError: see `LatentCache`; or a part of the encoder is trained, so that nothing of it can be kept.
    """
    if clips.cache_dir is None:
        return None
    # By its parameters and not by settings: whoever calls this may have un-frozen more.
    trained = [name for name, parameter in encoder.model.named_parameters() if parameter.requires_grad]
    if trained:
        raise ConfigError(
            f"clips.cache_dir is set, but {len(trained)} weights of the encoder are trained (such as {trained[0]}), so "
            "that latents change with every step; set clips.cache_dir=null, or encoder.trained=[]"
        )
    return LatentCache(clips.cache_dir, max_bytes=int(clips.cache_gb * 1e9), identity=encoder.identity)


def _with_version(key: str) -> str:
    # Another version may compute otherwise, with the same weights. What device made them is left open: latents that a
    # GPU made overnight are read where there is none.
    return hashlib.sha256(f"{FORMAT} {transformers.__version__} {key}".encode()).hexdigest()[:40]


def _claim(path: str, identity: str) -> str:
    """The identity in a file, which is this one where there was none."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with locked(file):
            owner = os.pread(file, 4096, 0).decode().strip()
            # Empty: this process has made it, or another that was killed before it wrote.
            if not owner:
                os.pwrite(file, f"{identity}\n".encode(), 0)
            return owner or identity
    finally:
        os.close(file)
