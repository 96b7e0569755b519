"""Latents of rows' clips: from the cache where they are there, else decoded and encoded, and kept.

    reader = LatentReader(encoder, settings)
    reader.read([(window, 0.0), (window, 4.0)])    # both steps at once
    found = reader.clips.find(window, start_s=4.0)    # in data workers: what is there, or the frames
    reader.latents([found])    # beside the encoder

Nothing is kept of an encoder that is trained: its latents are others after every step.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vtg.config.clip_settings import ClipsConfig
from vtg.latents.clip_reading import ClipReader
from vtg.latents.encoders.encoder import Encoder
from vtg.latents.latent_cache import LatentCache, make_latent_cache
from vtg.latents.latents import Latents, joined
from vtg.video.clip import Clip
from vtg.video.video_window import VideoWindow


@dataclass(frozen=True, eq=False)
class FoundClip:
    """A clip before it reaches the encoder: its latents where the cache has them, else its frames; never both.

    Attributes:
        key: of its latents in the cache; None without a cache.
        latents: a batch of one, on the CPU.
    """

    key: str | None
    clip: Clip | None
    latents: Latents | None


class FoundClips:
    """The half of `LatentReader` that needs no encoder. Safe under threads; can be pickled for data workers.

    Attributes:
        reader: starts and lengths of clips.
    """

    def __init__(self, reader: ClipReader, cache: LatentCache | None, *, identity: str) -> None:
        self.reader, self.cache, self.identity = reader, cache, identity

    def find(self, window: VideoWindow, *, start_s: float = 0.0) -> FoundClip:
        """The clip that begins `start_s` after the start of a row's window.

        Raises:
            DecodeError, SampleError: see `ClipReader.clip`.
        """
        key = latents = None
        # A key costs a look at the file, which nobody needs without a cache.
        if self.cache is not None:
            key = self.reader.key(window, start_s=start_s, identity=self.identity)
            latents = self.cache.find(key)
        return FoundClip(key, self.reader.clip(window, start_s=start_s) if latents is None else None, latents)

    def take_counts(self) -> Counter[str]:
        """See `LatentCache.take_counts`: of this process, such as a data worker."""
        return Counter() if self.cache is None else self.cache.take_counts()


class LatentReader:
    """Clips of rows as an encoder sees them.

    Attributes:
        clips: finds or decodes them.

    Raises:
        ConfigError: settings of which there is no clip, or no cache: see `make_latent_cache`.
    """

    def __init__(self, encoder: Encoder, settings: ClipsConfig) -> None:
        self.encoder = encoder
        reader = ClipReader(settings, frame_size_px=encoder.frame_size_px)
        self.clips = FoundClips(reader, make_latent_cache(settings, encoder), identity=encoder.identity)

    def read(self, clips: Sequence[tuple[VideoWindow, float]]) -> Latents:
        """The latents of clips, each a row's window and how long after its start it begins; at least one.

        They are decoded one after another and encoded as one batch, so give no more than the encoder has memory for.

        Raises:
            DecodeError, SampleError: see `ClipReader.clip`.
        """
        return self.latents([self.clips.find(window, start_s=start_s) for window, start_s in clips])

    def latents(self, found: Sequence[FoundClip]) -> Latents:
        """The latents of clips that were found, in their order, on the encoder's device; at least one.

        With gradients where the encoder is trained.
        """
        parts = [one.latents.to(self.encoder.device) if one.latents is not None else None for one in found]
        missing = [at for at, part in enumerate(parts) if part is None]
        if missing:
            # In one call: the encoder itself knows which of them can be one batch.
            encoded = self.encoder.encode([clip for at in missing if (clip := found[at].clip) is not None])
            for row, at in enumerate(missing):
                parts[at] = part = encoded.clips(slice(row, row + 1))
                if self.clips.cache is not None and (key := found[at].key) is not None:
                    self.clips.cache.keep(key, part)
        return joined([part for part in parts if part is not None])
