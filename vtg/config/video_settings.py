"""How a clip is turned into frames."""

from dataclasses import dataclass
from typing import Any

from vtg.config.setting import setting


@dataclass
class VideoConfig:
    """How a clip is turned into frames: which moments, at which size, and by what means."""

    sampling: str = setting(
        "fps",
        "which frames are taken",
        choices={
            "fps": "fps frames a second",
            "uniform": "max_frames, evenly",
            "random": "one at random of each of max_frames equal parts",
            "keyframe": "those that decode on their own",
            "molmo2": "fps, and always the last frame",
        },
    )
    # 2 fps and at least 4 frames, as the video processors of Qwen-VL sample by default.
    fps: float = setting(2.0, "frames a second; 0: every frame of the file")
    last_frame: bool = setting(False, "the fps grid also takes the last frame")
    max_frames: int = setting(256, "of a clip; a longer one is sampled more thinly, evenly")
    min_frames: int = setting(4, "of a clip; a shorter one is sampled more densely")
    pad: bool = setting(False, "a clip with fewer than min_frames frames is filled up with masked repeats of its last")
    min_pixels: int = setting(65536, "of a frame; a smaller one is enlarged")
    max_pixels: int = setting(262144, "of a frame; a larger one is reduced")
    # A number, or a list of two: OmegaConf takes no union of both.
    frame_size: Any = setting(
        0,
        "pixels of every frame, N for N x N or [height, width], rounded to whole vision tokens; 0: it keeps its shape, "
        "within min_pixels and max_pixels",
    )
    # 12,288 vision tokens of Qwen3-VL, each of 32 x 32 pixels in two frames; 96 frames of max_pixels.
    total_pixels: int = setting(25165824, "of all frames of a clip together; Qwen3-VL has a vision token for 2048")
    resize: str = setting(
        "exact",
        "how frames are resized",
        choices={
            "exact": "torchvision's bicubic, as Hugging Face's processors resize",
            "fast": "FFmpeg's scaler while decoding",
        },
    )
    decoder: str = setting(
        "auto",
        "what decodes",
        choices=("auto", "pyav", "torchcodec", "decord", "ffmpeg"),
        on_resume="may_change",
    )
    isolate: bool = setting(
        False, "decode in a child process: a crash or a hang costs one sample, not the run", on_resume="may_change"
    )
    timeout_s: float = setting(
        300.0,
        "of one clip: one that takes longer costs its row; its decoder is ended where decoding is isolated",
        on_resume="may_change",
    )
    cache_dir: str | None = setting(None, "keep decoded and resized clips in this folder", on_resume="may_change")
    cache_gb: float = setting(
        100.0, "size limit of cache_dir; the least recently used clips go first", on_resume="may_change"
    )
    cache_format: str = setting(
        "compact",
        "how clips are kept",
        choices={"compact": "near-lossless H.264", "raw": "the very pixels, about 30 times as large"},
        on_resume="may_change",
    )
    tower_cache_dir: str | None = setting(
        None,
        "keep what a frozen vision tower makes of clips in this folder; a clip that is there is not decoded",
        on_resume="may_change",
    )
    tower_cache_gb: float = setting(
        100.0, "size limit of tower_cache_dir; what a run has used stays until it ends", on_resume="may_change"
    )
    fetch_dir: str | None = setting(
        None,
        "where videos of a store (s3://, gs://, https://) are kept once fetched; null: ~/.cache/vtg/videos",
        on_resume="may_change",
    )
    fetch_gb: float = setting(
        50.0, "size limit of fetch_dir; the least recently used videos go first", on_resume="may_change"
    )

    def fixed_size(self, factor: int) -> tuple[int, int] | None:
        """(height, width) of every frame, in multiples of `factor` pixels; None where frames keep their shape."""
        if not self.frame_size:
            return None
        height, width = self.frame_size if isinstance(self.frame_size, list) else (self.frame_size, self.frame_size)
        return tuple(max(1, round(side / factor)) * factor for side in (height, width))  # type: ignore[return-value]


# Of the machine, not of the model: a checkpoint may be used with any of these, so none is saved as what it needs.
VIDEO_MEANS = (
    *("decoder", "isolate", "timeout_s", "cache_dir", "cache_gb", "cache_format"),
    *("tower_cache_dir", "tower_cache_gb", "fetch_dir", "fetch_gb"),
)
