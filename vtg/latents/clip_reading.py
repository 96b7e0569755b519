"""A row's video as a clip of so many frames: what encoders of fixed lengths read.

Frames are those nearest to even steps of time from the clip's start, whatever the rate of the file, and keep their true
times. A video that ends before the clip does gives the frames that it has; `Clip.pad` says how many are missing, and
reaches `Latents.observed`.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from vtg.config.clip_settings import ClipsConfig, check_clips
from vtg.config.video_settings import VideoConfig
from vtg.errors import SampleError
from vtg.video.clip import Clip, DecodeError
from vtg.video.clip_cache import clip_key
from vtg.video.clip_loading import resolve_window
from vtg.video.container import probe, read_index
from vtg.video.files import video_files
from vtg.video.files.address import is_picture
from vtg.video.files.fetched import FetchedVideos
from vtg.video.frame_index import VideoInfo
from vtg.video.isolation import IsolatedLoader
from vtg.video.provider import TimedLoader
from vtg.video.video_window import VideoWindow

# Frames come as they are stored, or in the encoder's one size: no limit of the group `video` holds.
NO_LIMIT = 2**62


class ClipReader:
    """Clips of `settings.n_frames` frames. Safe under threads; can be pickled.

    Args:
        frame_size_px: (height, width) of every frame (`Encoder.frame_size_px`); None: as it is stored.

    Raises:
        ConfigError: settings of which there is no clip.
    """

    def __init__(self, settings: ClipsConfig, *, frame_size_px: tuple[int, int] | None) -> None:
        check_clips(settings)
        self.settings, self.frame_size_px = settings, frame_size_px
        self._fetched = FetchedVideos(settings.fetch_dir, max_bytes=int(settings.fetch_gb * 1e9))
        self._load = (IsolatedLoader if settings.isolate else TimedLoader)(timeout_s=settings.timeout_s).load_clip

    def clip(self, window: VideoWindow, *, start_s: float = 0.0) -> Clip:
        """The clip that begins `start_s` after the start of a row's window.

        Raises:
            DecodeError: the file cannot be fetched or read, or is not what the row says.
            SampleError: the window ends before the clip begins, or is a still picture.
        """
        if is_picture(window.path):
            raise SampleError(f"{window.path}: a still picture has no frames after one another; take the row out")
        with self._fetched.local(window.path) as local:
            try:
                info = probe(local)
                part = self._part(info, replace(window, path=local), start_s)
                clip = self._load(part, self._video(self._rate(local)), factor=1, temporal_patch=1)
            except DecodeError as error:
                # Users know the address in their rows, not the file it was fetched to.
                raise DecodeError(str(error).replace(local, window.path)) from error
        return replace(clip, path=window.path, pad=self.settings.n_frames - len(clip.frames))

    def start_s(self, window: VideoWindow, *, seed: int = 0) -> float:
        """Where in a row's window its clip begins, by `settings.start`; 0 where the window is shorter than a clip.

        Args:
            seed: of a random start; the same gives the same.
        """
        if self.settings.start == "first":
            return 0.0
        room_s = self.length_s(window) - self.span_s(window)
        if room_s <= 0:
            return 0.0
        share = 0.5 if self.settings.start == "middle" else float(np.random.default_rng(seed).random())
        start_s = share * room_s
        if self.settings.stride is None:
            return start_s
        # On a frame: between two, the nearest to the later steps would be sometimes the one and sometimes the other.
        rate = self.settings.n_frames * self.settings.stride / self.span_s(window)
        return np.floor(start_s * rate) / rate

    def span_s(self, window: VideoWindow) -> float:
        """Seconds from a clip's first frame to where the next clip's would be."""
        if self.settings.seconds is not None:
            return self.settings.seconds
        with self._fetched.local(window.path) as local:
            return self.settings.n_frames / self._rate(local)

    def length_s(self, window: VideoWindow) -> float:
        """Seconds of a row's window: as the row says, else of the file."""
        if window.stop_s is not None:
            return window.stop_s - (window.start_s or 0.0)
        if window.duration_s is not None:
            return window.duration_s
        with self._fetched.local(window.path) as local:
            return probe(local).duration_s - (window.start_s or 0.0)

    def times_s(self, window: VideoWindow) -> np.ndarray:
        """(N,) float64: when the frames of a row's window are first shown, in seconds after its start."""
        with self._fetched.local(window.path) as local:
            first_s, last_s = resolve_window(probe(local), replace(window, path=local))
            times_s = read_index(local).times_s
        return times_s[(times_s >= first_s) & (times_s < last_s)] - first_s

    def key(self, window: VideoWindow, *, start_s: float, identity: str) -> str:
        """The name, in hex, of the latents that an encoder of that identity makes of a clip: see `clip_key`.

        Raises:
            DecodeError: there is no such file.
        """
        what = {name: getattr(self.settings, name) for name in ("n_frames", "seconds", "stride")}
        return clip_key(window, **what, clip_start_s=start_s, frame_size_px=self.frame_size_px, encoder=identity)

    def _part(self, info: VideoInfo, window: VideoWindow, start_s: float) -> VideoWindow:
        """The clip's part of the file, as far as the row's window reaches."""
        first_s, last_s = resolve_window(info, window)
        last_s = min(last_s, info.duration_s)
        begin_s = first_s + start_s
        if begin_s >= last_s:
            raise SampleError(
                f"{window.path}: a clip that begins {start_s:.10g} s after the row's start, but there are only "
                f"{last_s - first_s:.10g} s; check the row's duration"
            )
        span_s = self.settings.n_frames / self._rate(window.path)
        return VideoWindow(window.path, start_s=begin_s, end_s=min(begin_s + span_s, last_s))

    def _rate(self, path: str) -> float:
        """Frames a second of a clip of a local file."""
        if self.settings.seconds is not None:
            return self.settings.n_frames / self.settings.seconds
        assert self.settings.stride is not None
        return usual_rate(path, video_files.stamp(path)) / self.settings.stride

    def _video(self, fps: float) -> VideoConfig:
        size, count = self.frame_size_px, self.settings.n_frames
        return VideoConfig(
            fps=fps,
            max_frames=count,
            min_frames=1,
            min_pixels=1,
            max_pixels=NO_LIMIT,
            total_pixels=NO_LIMIT,
            frame_size=0 if size is None else list(size),
            decoder=self.settings.decoder,
        )

    def __getstate__(self) -> dict:
        return {"settings": self.settings, "frame_size_px": self.frame_size_px}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)


@lru_cache(maxsize=4096)
def usual_rate(path: str, stamp: tuple[int, int]) -> float:
    """Frames a second of a file by the median time between two, as long as its `stamp` is this one.

    The rate that its header states is an average, which a gap, or the length of the last frame, makes another.

    Raises:
        DecodeError: the file cannot be read, or has a single frame.
    """
    times_s = read_index(path).times_s
    if len(times_s) < 2:
        raise DecodeError(f"{path}: has a single frame and so no rate; set clips.seconds instead of clips.stride")
    return 1 / float(np.median(np.diff(times_s)))
