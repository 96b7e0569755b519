"""What vtg asks a family of models: how it is told the time, how it writes a chat, what its parts are called."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from vtg.models.families.token_cost import TokenCost

if TYPE_CHECKING:  # `--help` and checks of settings come past here, and take no time for what they do not need
    import numpy as np


@dataclass(frozen=True, slots=True)
class TimeStamps:
    """Times told as text: around the vision tokens of every temporal patch, the mean time of its frames.

    Attributes:
        before: with `{}` where the seconds stand.
        decimals: of the seconds.
    """

    before: str
    after: str
    decimals: int

    @property
    def step_s(self) -> float:
        """Seconds between two times that can be told."""
        return 10.0**-self.decimals

    def seconds_in(self, text: str) -> list[float]:
        """The times that a decoded prompt tells, in their order."""
        pattern = r"(\d+(?:\.\d+)?)".join(re.escape(part) for part in self.before.split("{}"))
        return [float(seconds) for seconds in re.findall(pattern, text)]

    def longest(self, digits: int) -> str:
        """The text around a patch whose time has so many digits before the point."""
        return self.before.format("1" * digits + "." * bool(self.decimals) + "5" * self.decimals) + self.after


@dataclass(frozen=True, slots=True)
class PixelLimits:
    """What a clip may have in training: pixels of one frame, of all of them together, and of a frame's vision token;
    frames, in all and a second.
    """

    min_pixels: int
    max_pixels: int
    total_pixels: int
    token_pixels: int
    temporal_patch: int
    max_frames: int
    fps: float


class FrameOptions(TypedDict):
    """How frames are made for a model, as `vtg.video.clip_loading.load_clip` takes it.

    Attributes:
        factor: pixels a side of one vision token.
        temporal_patch: frames that one vision token spans.
        side: pixels a side of every frame, which is a square; None where frames keep their shape.
    """

    factor: int
    temporal_patch: int
    side: int | None


def merged_patches(video_processor: Any) -> FrameOptions:
    """As the video processors of Qwen-VL cut frames."""
    factor = video_processor.patch_size * video_processor.merge_size
    return {"factor": factor, "temporal_patch": video_processor.temporal_patch_size, "side": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFamily:
    """One family; a file of this folder makes one, and `FAMILIES` names it.

    Attributes:
        name, title: in what vtg writes to files, and in texts.
        model_types: `model_type` (of config.json) of models that training, packing and shared prompts were tried with.
        processor: the class of its processor.
        stamps: None where the model is told the time by position ids alone: temporal M-RoPE ids, of a temporal patch
            the time of its first frame.
        assistant_start, turn_end: what its chat template writes around an assistant's answer.
        empty_thought: what stands between that start and the answer, in the last turn and not in those before; it
            carries no loss, as a model that answers is given it.
        vision_tokens: special tokens that stand for pixels, which a model must not write.
        token_cost: of its published models; `vtg.data.encoding.token_cost` reads what a processor says.
        tower, projector, language: module names, dotted where needed. What lies in the projector is not of the tower.
        experts, routers: module names of a mixture's, which lie in the language model; dense models have none.
        gated_tower: whether the tower's MLPs have a gate, a second matrix into their middle.
        norms_queries: whether attention norms queries and keys by head.
        processor_limits: attributes of the video processor that keep a clip within the limits when it makes the frames.
        processor_differs: how frames that the processor samples by itself differ from training's, after "because it …,
            and"; `{min_pixels}` stands for the setting.
        vllm_obstacle: why vLLM does not read the times that training does, after the title; None where it does.
        template_mark: what its chat template holds, and those of other families with this class of processor do not.
        template_options: what its chat template is told beside the messages, in training and in every answer.
        recurrent: the module of a decoder layer that reads tokens one after the other into a state, which no mask keeps
            from the next sequence; None where layers see other tokens by attention alone.
        both_ways: whether the vision tokens of a clip attend to later ones too, for which FlashAttention has no mask.
        mrope: whether a position is four numbers (text, temporal, height, width); else it is one, the token's index.
        vision_inputs: what the processor makes of a clip: pixels first; last the temporal patches, rows and columns.
        grid_merge: cells of that grid to one vision token, a side.
        pooling: which of them lists the patches of every vision token, counted over all clips of a batch.
        frame_options: of a video processor.
        ends_answer: whether the chat template writes the end of the last answer; else it is appended in training.
        stills_as_clips: whether a still picture is to the model what a clip of one temporal patch is, but for its time.
        transformers: the first version that has the model; None where all that vtg allows do.
    """

    name: str
    title: str
    model_types: tuple[str, ...]
    processor: str
    stamps: TimeStamps | None
    assistant_start: str
    turn_end: str
    vision_tokens: tuple[str, ...]
    token_cost: TokenCost
    tower: tuple[str, ...]
    projector: tuple[str, ...]
    language: tuple[str, ...]
    gated_tower: bool
    norms_queries: bool
    processor_limits: Callable[[PixelLimits], dict[str, Any]]
    processor_differs: str
    vllm_obstacle: str | None = None
    empty_thought: str = ""
    template_mark: str = ""
    template_options: Mapping[str, Any] = field(default_factory=dict)
    recurrent: str | None = None
    experts: tuple[str, ...] = ("mlp.experts",)
    routers: tuple[str, ...] = ("mlp.gate",)
    both_ways: bool = False
    mrope: bool = True
    vision_inputs: tuple[str, ...] = ("pixel_values_videos", "video_grid_thw")
    grid_merge: int = 2
    pooling: str | None = None
    frame_options: Callable[[Any], FrameOptions] = merged_patches
    ends_answer: bool = True
    stills_as_clips: bool = True
    transformers: tuple[int, int] | None = None

    @property
    def needs_position_ids(self) -> bool:
        """Whether the time is lost where transformers makes the position ids, from an average frame rate."""
        return self.stamps is None

    def resolution_s(self, ids_per_second: float) -> float:
        """How far a told time may be from the true one by rounding; `ids_per_second`: of temporal position ids."""
        return (self.stamps.step_s if self.stamps else 1 / ids_per_second) / 2

    def patch_times_s(self, frame_times_s: "np.ndarray") -> "np.ndarray":
        """(P,) the times that the model is told of temporal patches of the frames at (P, frames a patch) seconds."""
        return frame_times_s[:, 0] if self.needs_position_ids else (frame_times_s[:, 0] + frame_times_s[:, -1]) / 2

    def part_of(self, name: str) -> str:
        """`vision` (the tower), `projector` or `language`: where a parameter or module lies, by its dotted name."""
        # The projector first: in Qwen-VL it is a module of the tower.
        parts = {"projector": self.projector, "vision": self.tower, "language": self.language}
        return next(part for part, modules in parts.items() if _lies_in(name, modules))

    def mixture_part_of(self, name: str) -> str | None:
        """`experts`, `router` or None: where a parameter or module of a mixture of experts lies."""
        parts = {"experts": self.experts, "router": self.routers}
        return next((part for part, modules in parts.items() if _lies_in(name, modules)), None)


def _lies_in(name: str, modules: tuple[str, ...]) -> bool:
    return any(f".{one}." in f".{name}." for one in modules)
