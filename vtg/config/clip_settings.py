"""Which frames of a video make one clip of latents."""

from dataclasses import dataclass, field, fields
from typing import Any

from vtg.config.setting import setting
from vtg.config.video_settings import VideoConfig
from vtg.errors import ConfigError


def _as_in_video(name: str) -> Any:
    """A setting of how videos are read, as the group `video` has it."""
    entry = next(entry for entry in fields(VideoConfig) if entry.name == name)
    return field(default=entry.default, metadata=entry.metadata)


@dataclass
class ClipsConfig:
    """Which frames of a row's video make a clip of latents, and by what means they are read."""

    n_frames: int = setting(16, "frames of a clip; what a video has not is padding, which losses leave out")
    seconds: float | None = setting(8.0, "a clip's frames are spread evenly over so many seconds; null: see stride")
    stride: int | None = setting(
        None, "every so many-th frame, at the file's usual rate; null: see seconds; one of both is set"
    )
    start: str = setting(
        "first",
        "where in its row's video a clip begins",
        choices={
            "first": "at the start",
            "middle": "so that its middle is the video's",
            "random": "drawn anew each epoch, so that no latents can be cached",
        },
    )
    cache_dir: str | None = setting(
        None,
        "keep latents of a frozen encoder in this folder; a clip that is there is neither decoded nor encoded",
        on_resume="may_change",
    )
    cache_gb: float = setting(
        100.0, "size limit of cache_dir; what a run has used stays until it ends", on_resume="may_change"
    )
    decoder: str = _as_in_video("decoder")
    isolate: bool = _as_in_video("isolate")
    timeout_s: float = _as_in_video("timeout_s")
    fetch_dir: str | None = _as_in_video("fetch_dir")
    fetch_gb: float = _as_in_video("fetch_gb")


def check_clips(config: ClipsConfig) -> None:
    """Raises ConfigError for a number of frames, or a length, of which there is no clip."""
    if config.n_frames < 1:
        raise ConfigError(f"clips.n_frames = {config.n_frames}: must be at least 1")
    if (config.seconds is None) == (config.stride is None):
        raise ConfigError(
            f"clips.seconds = {config.seconds}, clips.stride = {config.stride}: a clip is so many seconds long, or of "
            "every so many-th frame; set one of them, and the other to null"
        )
    for key in ("seconds", "stride"):
        value = getattr(config, key)
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(f"clips.{key} = {value}: must be more than 0")
    if config.cache_dir is not None and config.start == "random":
        raise ConfigError(
            "clips.cache_dir is set, but clips.start = 'random' draws other clips in each epoch, which no cache has; "
            "set clips.start=first or middle, or clips.cache_dir=null"
        )
