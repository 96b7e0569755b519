"""Clips by file and trim: from memory, from the cache on disk, or decoded, in a child process if that is asked for."""

from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import Any

from vtg.config.video_settings import VIDEO_MEANS, VideoConfig
from vtg.storage.fork import lock_free_in_children
from vtg.video import clip_loading
from vtg.video.clip import Clip, DecodeError
from vtg.video.clip_cache import ClipCache, clip_key
from vtg.video.files.address import is_picture
from vtg.video.files.fetched import FetchedVideos
from vtg.video.isolation import IsolatedLoader
from vtg.video.memory_cache import RecentlyUsed
from vtg.video.time_limit import within
from vtg.video.video_window import VideoWindow

# Decoded frames kept per process. Several rows often ask about one clip, and a small data set fits as a whole.
CACHE_BYTES = 256 * 2**20

DISK_COUNTS = ("bytes_read", "bytes_written", "evicted", "failed", "skipped", "unreadable")


_counting = lock_free_in_children()


class TimedLoader:
    """`load_clip` in this process with a time limit. A file that exceeded it once fails at once from then on."""

    def __init__(self, *, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        # Each wait leaves a thread behind that cannot be ended, so at most one for each file.
        self._stuck: set[str] = set()

    def load_clip(self, window: VideoWindow, config: VideoConfig, **options: Any) -> Clip:
        """`vtg.video.clip_loading.load_clip(window, config, **options)`.

        Raises:
            DecodeError: also if it takes longer than `timeout_s`.
        """
        try:
            if window.path not in self._stuck:
                return within(self.timeout_s, clip_loading.load_clip, window, config, **options)
        except TimeoutError:
            self._stuck.add(window.path)
        raise DecodeError(
            f"{window.path}: decoding took longer than {self.timeout_s:.10g} s (video.timeout_s); the file may be "
            "damaged so that its decoder hangs, or its drive does not answer; video.isolate=true also ends what hangs"
        )


class ClipProvider:
    """`load_clip` behind two caches: the most recently used clips in memory, bounded in bytes, and all on disk.

    Safe under threads: those that want one clip at once wait for the one that decodes it; decoding happens unlocked.
    What another process, or an earlier epoch, left in `config.cache_dir` is read instead of decoded; randomly sampled
    clips are other ones every epoch and not kept there. A clip that is stored is handed out as stored, so that the
    first epoch sees the pixels that later ones see.

    Attributes:
        memory: the clips that this process keeps.
    """

    def __init__(
        self,
        config: VideoConfig,
        *,
        factor: int,
        temporal_patch: int = 2,
        side: int | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.config, self.factor, self.cache_bytes = config, factor, cache_bytes
        self.temporal_patch, self.side = temporal_patch, side
        self.memory: RecentlyUsed[tuple, Clip] = RecentlyUsed(cache_bytes, size=lambda clip: clip.frames.nbytes)
        self._counts: Counter[str] = Counter()
        loader = IsolatedLoader if config.isolate else TimedLoader
        self._load = loader(timeout_s=config.timeout_s).load_clip
        self._fetched = FetchedVideos(config.fetch_dir, max_bytes=int(config.fetch_gb * 1e9))
        self._disk = None
        if config.cache_dir is not None and config.sampling != "random":
            max_bytes = int(config.cache_gb * 1e9)
            self._disk = ClipCache(config.cache_dir, max_bytes=max_bytes, cache_format=config.cache_format)

    def clip(self, window: VideoWindow, *, seed: int = 0) -> Clip:
        """The clip of a window; see `vtg.video.clip_loading.load_clip`. A file in a store is fetched before.

        Raises:
            DecodeError: if the file cannot be fetched or read, or is not what the annotation says.
        """
        # A seed that changes nothing must not make another key.
        drawn = seed if self.config.sampling == "random" else 0
        return self.memory.get((window, drawn), lambda: self._read(window, seed=drawn))

    def take_counts(self) -> Counter[str]:
        """What happened in this process since the last call.

        Clips: `memory`, `disk` (read from the cache), `decoded`, `decoded by NAME` (another decoder stood in). With a
        cache on disk also, as `disk NAME`, what it counts itself: bytes read and written, clips evicted and not stored.
        """
        with _counting:
            taken, self._counts = self._counts, Counter()
        taken["memory"] = self.memory.take_counts()["hits"]
        if self._disk is not None:
            own = self._disk.take_counts()
            taken.update({f"disk {name}": own[name] for name in DISK_COUNTS})
        return taken + clip_loading.take_fallbacks()

    def _read(self, window: VideoWindow, *, seed: int) -> Clip:
        """From the cache on disk, else decoded, and then put there."""
        # A picture is decoded as fast as it is found in the cache.
        if self._disk is None or is_picture(window.path):
            return self._decoded(window, seed=seed)
        key = self.key(window)
        clip = self._disk.get(key)
        if clip is None:
            clip = self._decoded(window, seed=seed)
            self._disk.put(key, clip)
            # Read back: `compact` is lossy, and the first epoch is to see the pixels that later ones see.
            clip = self._disk.get(key) or clip
        else:
            self._count("disk")
        return replace(clip, path=window.path)  # one entry may serve several links to a file

    def _decoded(self, window: VideoWindow, *, seed: int) -> Clip:
        # Pictures are small, and read where they are.
        with nullcontext(window.path) if is_picture(window.path) else self._fetched.local(window.path) as local:
            try:
                clip = self._load(replace(window, path=local), self.config, seed=seed, **self._options())
            except DecodeError as error:
                # Users know the address in their rows, not the file it was fetched to.
                raise DecodeError(str(error).replace(local, window.path)) from error
        self._count("decoded")
        return clip if local == window.path else replace(clip, path=window.path)

    def _count(self, name: str) -> None:
        with _counting:
            self._counts[name] += 1

    def key(self, window: VideoWindow) -> str:
        """The name of the clip of a window: another once its file, or anything that chooses its pixels, changes.

        Raises:
            DecodeError: there is no such file.
        """
        # Settings of how a clip is got, such as time limits and folders, do not change it; its stored form does.
        means = set(VIDEO_MEANS) - {"cache_format"}
        settings = {key: value for key, value in asdict(self.config).items() if key not in means}
        if not self.config.frame_size:  # caches were filled before there was such a setting
            del settings["frame_size"]
        return clip_key(window, **settings, **self._options())

    def _options(self) -> dict[str, int]:
        """What the model asks of frames, as `load_clip` takes it."""
        more = {} if self.side is None else {"side": self.side}
        # The usual ones are not named: each word is in the key of a clip, and caches were filled without them.
        more |= {} if self.temporal_patch == 2 else {"temporal_patch": self.temporal_patch}
        return {"factor": self.factor, **more}

    def __getstate__(self) -> dict:
        """Workers start with empty memory."""
        return {"config": self.config, "cache_bytes": self.cache_bytes, **self._options()}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)
