"""The time of every temporal patch as the model reads it from its inputs, beside the true one."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from vtg.annotations.sample import Sample
from vtg.config.video_settings import VideoConfig
from vtg.data.encoding import Features, encode, frame_options
from vtg.models.families import family_of
from vtg.tasks.all_tasks import Tasks
from vtg.tasks.span_task import SpanTask
from vtg.video.clip import Clip
from vtg.video.clip_loading import clip_index, load_clip, plan_clip

# Frame times reach the processor as whole milliseconds (frames_indices at a nominal 1000 fps).
ROUNDING_S = 0.001


@dataclass(frozen=True, eq=False)
class ClipReading:
    """One clip as a model reads it.

    Attributes:
        start_s, end_s: the clip's part of the file, which lasts `file_s` seconds.
        frame_times_s: (T,) of the sampled frames, relative to the clip.
        height, width: of its frames as the model sees them.
        tokens: of the whole conversation with its answer; `vision_tokens` of them stand for pixels.
        read_s, true_s: (P,) the time of every temporal patch as the model reads it, and as it is: the mean time of its
            frames (Qwen3-VL), the time of its one frame (Molmo2) or that of its first (Qwen2.5-VL).
        resolution_s: how far apart these may be because of rounding alone.
    """

    place: str
    path: str
    start_s: float
    end_s: float
    file_s: float
    frame_times_s: np.ndarray
    height: int
    width: int
    vision_tokens: int
    tokens: int
    read_s: np.ndarray
    true_s: np.ndarray
    resolution_s: float

    @property
    def max_error_s(self) -> float:
        """The largest difference of a read from a true time; infinite where the model reads too few or too many."""
        if self.read_s.shape != self.true_s.shape:
            return float("inf")
        return float(np.abs(self.read_s - self.true_s).max())

    @property
    def is_right(self) -> bool:
        """Whether rounding explains all differences."""
        return self.max_error_s <= self.resolution_s + ROUNDING_S

    def document(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "place": self.place,
            "path": self.path,
            "start_s": self.start_s,
            "end_s": self.end_s,
            "duration_s": self.end_s - self.start_s,
            "frames": len(self.frame_times_s),
            "frame_times_s": _rounded(self.frame_times_s),
            "height": self.height,
            "width": self.width,
            "vision_tokens": self.vision_tokens,
            "tokens": self.tokens,
            "read_s": _rounded(self.read_s),
            "true_s": _rounded(self.true_s),
            "max_error_s": self.max_error_s if np.isfinite(self.max_error_s) else None,
            "resolution_s": self.resolution_s,
        }


def read_clip(
    sample: Sample,
    path: str,
    *,
    video: VideoConfig,
    task: SpanTask,
    processor: Any,
    tokens_per_second: float,
    decodes: bool,
) -> ClipReading:
    """Encodes a sample as training does and reads the times back.

    Without `decodes` black frames of one vision token stand in for the pictures: frame times, stamps and token counts
    are the same, and only the file's index is read.

    Raises:
        ValueError: if the video cannot be read (DecodeError), or the sample cannot be encoded.
    """
    options, family = frame_options(processor), family_of(processor)
    window = sample.window(path)
    index = clip_index(window)
    plan = plan_clip(index, window, video, **options)
    if decodes:
        clip = load_clip(window, video, **options)
    else:
        # One vision token a patch is the least that encodes; the plan has the true number of tokens.
        side = options["side"] or options["factor"]
        black = np.zeros((len(plan.timestamps_s), 3, side, side), np.uint8)
        clip = Clip(black, plan.timestamps_s, plan.end_s - plan.start_s, path, plan.start_s, plan.end_s, plan.pad)
    messages = Tasks(task).conversation(sample, answers=True)
    features = encode(processor, messages, clip, tokens_per_second=tokens_per_second)
    placeholders = int(features[family.vision_inputs[-1]].prod()) // family.grid_merge**2
    return ClipReading(
        place=sample.place,
        path=path,
        start_s=plan.start_s,
        end_s=plan.end_s,
        file_s=index.info.duration_s,
        frame_times_s=plan.timestamps_s,
        height=plan.size[0],
        width=plan.size[1],
        vision_tokens=plan.tokens,
        tokens=len(features["input_ids"]) - placeholders + plan.tokens,  # text, and what the real frames take
        read_s=read_times(processor, features, tokens_per_second=tokens_per_second),
        true_s=true_times(processor, clip),
        resolution_s=family.resolution_s(tokens_per_second),
    )


def read_times(processor: Any, features: Features, *, tokens_per_second: float) -> np.ndarray:
    """(P,) seconds of every temporal patch, from nothing but what the model gets.

    From the stamps in the decoded text, else from the temporal M-RoPE ids, counted from where the video's ids start.
    """
    # Batches are padded, and padding has position ids too.
    attended = features["attention_mask"].bool()
    stamps = family_of(processor).stamps
    if stamps is not None:
        return np.array(stamps.seconds_in(processor.tokenizer.decode(features["input_ids"][attended])))
    is_video = (features["mm_token_type_ids"] > 0) & attended
    temporal, rows = features["position_ids"][1, is_video], features["position_ids"][2, is_video]
    family = family_of(processor)
    per_patch = int(features[family.vision_inputs[-1]][0, 1:].prod()) // family.grid_merge**2
    # All tokens of a patch share its temporal id. Row ids count from the video's offset: the least of them is that.
    firsts = temporal.reshape(-1, per_patch)[:, 0]
    return (firsts - rows.min()).numpy() / tokens_per_second


def true_times(processor: Any, clip: Clip) -> np.ndarray:
    """(P,) seconds: when the frames of every temporal patch are shown, as the model family counts it."""
    per_patch = frame_options(processor)["temporal_patch"]
    times_s = clip.timestamps_s
    missing = -len(times_s) % per_patch  # the last frame is repeated to fill its patch
    patches_s = np.concatenate([times_s, times_s[-1:].repeat(missing)]).reshape(-1, per_patch)
    return family_of(processor).patch_times_s(patches_s)


def _rounded(times_s: np.ndarray) -> list[float]:
    return [round(time_s, 6) for time_s in times_s.tolist()]
