"""Compares what an exported model answers to a video file with transformers alone and through vtg."""

import importlib.util
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import torch
from transformers import AutoProcessor
from transformers.video_utils import VideoMetadata

from vtg.config.video_settings import VideoConfig
from vtg.data.encoding import encode, frame_options
from vtg.data.padding import collate
from vtg.export.model_card import QUERY
from vtg.export.standalone import FRAMES_FILE
from vtg.models.checkpoint import Settings
from vtg.models.families import family_of
from vtg.models.loading import Model, tokens_per_second
from vtg.tasks.span_task import SpanTask
from vtg.video.clip_loading import load_clip
from vtg.video.video_window import VideoWindow

# Length and frames a second of the test video: enough frames for every sampling policy, made in a moment.
SECONDS, RATE = 6, 12

# Pixels a side at most: all 72 frames are in memory at once (226 MB at this size).
LARGEST_SIDE = 1024

# Of a longer answer, by a model that thinks first, only the beginning is compared.
MAX_NEW_TOKENS = 48

# Of normalised pixels: far below a grey level (about 0.008), above the rounding of another order of operations.
PIXEL_TOLERANCE = 1e-3


@dataclass(frozen=True)
class AnswerComparison:
    """Answers to one question about one file: through vtg, with frames.py, and with the processor's own sampling.

    `fault`: how the export answers otherwise than vtg; None if it does not.
    """

    vtg: str
    frames: str
    processor: str
    fault: str | None

    def document(self) -> dict[str, str]:
        """The three answers as JSON values."""
        return {"vtg": self.vtg, "frames": self.frames, "processor": self.processor}

    def __str__(self) -> str:
        return (
            f"answers to a test video: {self.vtg!r} by vtg, {self.frames!r} by transformers with {FRAMES_FILE}, "
            f"{self.processor!r} with the processor's own sampling"
        )


@torch.no_grad()
def compare_answers(model: Model, folder: Path, settings: Settings) -> AnswerComparison:
    """Asks `model`, loaded from the exported `folder`, about a video file made here.

    With frames.py tokens, pixels, positions and the answer must equal vtg's. The processor's own sampling of the file
    must give frames of vtg's size, and their number up to one temporal patch; its answer is only reported.
    """
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    with tempfile.TemporaryDirectory() as scratch:
        path = str(Path(scratch) / "video.mp4")
        _write_video(path, pixels=settings.video.max_pixels)
        # FFmpeg's scaler gives pixels a few grey levels away; padding is masked, and so changes nothing.
        read = load_clip(VideoWindow(path), replace(settings.video, resize="exact"), **frame_options(processor))
        clip = replace(read, pad=0)
        messages = SpanTask(settings.task).conversation(QUERY, duration_s=clip.duration_s)
        features = encode(processor, messages, clip, tokens_per_second=tokens_per_second(model))
        question = messages[0]["content"][1]["text"]
        exact = _with_frames_file(processor, folder, path, question, tokens_per_second(model))
        own, size = _with_own_sampling(processor, path, question, frames=len(read.frames) + read.pad)
    ours: dict[str, Any] = dict(collate([features], pad_token_id=0))
    del ours["labels"]
    if not family_of(processor).needs_position_ids:
        del ours["position_ids"]  # transformers makes the same itself, from the tokens
    grid = family_of(processor).vision_inputs[-1]
    answers = [_answer(model, processor, inputs) for inputs in (ours, exact, own)]
    fault = _frames_file_fault(ours, exact, *answers[:2]) or _processor_fault(ours, own, size, settings.video, grid)
    return AnswerComparison(*answers, fault=fault)


def _frames_file_fault(ours: dict[str, Any], exact: dict[str, Any], *answers: str) -> str | None:
    """The first input, or the answer, in which frames.py differs from vtg; None if none does."""
    for name, value in ours.items():
        other = exact[name]
        same = value.shape == other.shape and bool(((value - other).abs() <= PIXEL_TOLERANCE).all())
        if not same:
            return f"with transformers alone and {FRAMES_FILE} its {name} are not those of vtg"
    if answers[0] != answers[1]:
        return f"with transformers alone and {FRAMES_FILE} it answers {answers[1]!r}, through vtg {answers[0]!r}"
    return None


def _processor_fault(
    ours: dict[str, Any], own: dict[str, Any], size: list[int], video: VideoConfig, grid: str
) -> str | None:
    """Says if the processor's own sampling is too far from vtg's in frames or size; None if it is not."""
    (patches, *wanted), own_patches = ours[grid][0].tolist(), int(own[grid][0, 0])
    # A processor knows no keyframes, and frames that are smaller than their minimum it hardly enlarges.
    same_number = video.sampling == "keyframe" or abs(patches - own_patches) <= 1
    if same_number and (size == wanted or video.min_pixels > LARGEST_SIDE**2):
        return None
    return (
        f"its processor makes {own_patches} x {size[0]} x {size[1]} patches of a test video, vtg "
        f"{patches} x {wanted[0]} x {wanted[1]}"
    )


def _answer(model: Model, processor: Any, inputs: dict[str, Any]) -> str:
    inputs = {name: value.to(model.device) for name, value in inputs.items() if isinstance(value, torch.Tensor)}
    tokens = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS)  # type: ignore[operator]
    return processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def _with_frames_file(
    processor: Any, folder: Path, path: str, question: str, per_second: float
) -> dict[str, torch.Tensor]:
    """The inputs that the snippet of the README.md makes."""
    module = _module(folder / FRAMES_FILE)
    frames, metadata, times_s = module.read_video(path)
    inputs = _templated(
        processor, frames, question, video_metadata=[[metadata]], do_sample_frames=False, do_resize=False
    )
    if family_of(processor).needs_position_ids:
        inputs["position_ids"] = module.mrope_positions(
            inputs["mm_token_type_ids"][0],
            inputs["video_grid_thw"][0],
            merge_size=processor.video_processor.merge_size,
            patch_times_s=torch.from_numpy(times_s[:: processor.video_processor.temporal_patch_size]),
            tokens_per_second=per_second,
        )[:, None]
    return inputs


def _with_own_sampling(
    processor: Any, path: str, question: str, *, frames: int
) -> tuple[dict[str, torch.Tensor], list[int]]:
    """The inputs that the processor makes by its own sampling, and the patches (down, across) of `frames` frames."""
    # It is given all frames of the file rather than its path: reading files itself needs torchcodec.
    with av.open(path) as container:
        pictures = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    metadata = VideoMetadata(total_num_frames=len(pictures), fps=float(RATE), duration=len(pictures) / RATE)
    as_many = pictures[np.arange(frames) % len(pictures)]
    sized = processor.video_processor(videos=[as_many], do_sample_frames=False, return_tensors="pt")
    own = _templated(processor, pictures, question, video_metadata=[[metadata]])
    return own, sized[family_of(processor).vision_inputs[-1]][0, 1:].tolist()


def _templated(processor: Any, frames: np.ndarray, question: str, **keywords: Any) -> dict[str, Any]:
    content = [{"type": "video", "video": frames}, {"type": "text", "text": question}]
    return dict(
        processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs=keywords,
            **family_of(processor).template_options,
        )
    )


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("exported_frames", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


def _write_video(path: str, *, pixels: int) -> None:
    """A bright square that crosses a noisy room, in frames that are no smaller than what the model sees."""
    side = min(max(-(-int(pixels**0.5 * 1.2) // 16) * 16, 64), LARGEST_SIDE)
    rng = np.random.default_rng(0)
    room = rng.integers(0, 120, (side // 16, side // 16, 3), dtype=np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    count = SECONDS * RATE
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "18"})
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for at in range(count):
            picture = room.copy()
            left = at * (side * 3 // 4) // count
            picture[side // 3 : side * 2 // 3, left : left + side // 4] = (240, 220, 50)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
