"""What an exported folder needs to be used without vtg: `frames.py`, and a processor set to sample as training did.

`frames.py` is assembled from the source of the functions with which vtg itself samples, sizes and times frames, so that
they cannot drift apart; only `read_video` below is written for it.
"""

import inspect
from dataclasses import asdict, replace
from typing import Any

import av
import numpy as np
from transformers import GenerationConfig, ProcessorMixin
from transformers.video_utils import VideoMetadata

from vtg.config.video_settings import VIDEO_MEANS, VideoConfig
from vtg.data.encoding import (
    frame_options,
    mrope_positions,
    run_positions,
    turn_end_id,
    video_metadata,
    vision_token_ids,
)
from vtg.models.families import family_of
from vtg.models.families.family import PixelLimits
from vtg.video import frame_sampling
from vtg.video.clip_cost import fixed_size, of_one_size, target_size
from vtg.video.decoders.picture import resized
from vtg.video.frame_sampling import choose_frames, padding
from vtg.video.packet_scan import rotation_of

FRAMES_FILE = "frames.py"

# An fps above any video's: Hugging Face's video processors then take all frames, evenly thinned to `max_frames`.
EVERY_FRAME = 1000

# With `cap_pixels_per_frame` these processors give a frame at least this times `size["shortest_edge"]` pixels.
CAP_MARGIN = 1.05

HEADER = '''\
"""Reads a video as this model was trained to see it, with PyAV, torchvision and transformers alone.

Made by `python -m vtg.export` from the code that training read its videos with; README.md shows how it is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import av
import numpy as np
import torch
from av.video.frame import VideoFrame
from transformers.video_utils import VideoMetadata

ConfigError = ValueError
'''

# Stand-ins for the constants that `frames_module` writes with the values of the exported model.
VIDEO = VideoConfig()
FACTOR = 32
SIZE: tuple[int, int] | None = None
TEMPORAL_PATCH = 2


def read_video(
    path: str, *, start_s: float = 0.0, end_s: float | None = None
) -> tuple[np.ndarray, VideoMetadata, np.ndarray]:
    """The frames that the model is given of a video file, or of its part from `start_s` to `end_s`.

    Returns:
        frames (T, 3, H, W) uint8 in their final size; the metadata from which the processor takes their times; and
        these times (T,) float64, in seconds from `start_s`.
    """
    with av.open(path) as container:
        stream = container.streams.video[0]
        tick, rate = stream.time_base or 0, float(stream.average_rate or 0)
        packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
        shown = sorted({(packet.pts or 0, packet.duration or 0, packet.is_keyframe) for packet in packets})
        zero_s = float(shown[0][0] * tick)
        if container.start_time is not None and abs(container.start_time / av.time_base - zero_s) > 1e-6:
            zero_s = container.start_time / av.time_base
    pts = np.array([packet[0] for packet in shown], dtype=np.int64)
    times_s = pts * float(tick) - zero_s
    if end_s is None:
        end_s = float(times_s[-1]) + (float(shown[-1][1] * tick) or 1 / rate)
    inside = np.flatnonzero((times_s >= start_s - 1e-6) & (times_s < end_s - 1e-6))
    clip_s = np.maximum(times_s[inside] - start_s, 0.0)
    keys = np.array([packet[2] for packet in shown])[inside]
    chosen = choose_frames(clip_s, VIDEO, duration_s=end_s - start_s, is_key=keys, temporal_patch=TEMPORAL_PATCH)
    count = len(chosen) + padding(len(chosen), VIDEO, temporal_patch=TEMPORAL_PATCH)
    count = -(-count // TEMPORAL_PATCH) * TEMPORAL_PATCH
    wanted = set(pts[inside[chosen]].tolist())
    pictures: list[np.ndarray] = []
    with av.open(path) as container:
        for frame in container.decode(video=0):
            if frame.pts in wanted:
                picture = np.rot90(frame.to_ndarray(format="rgb24"), k=-rotation_of(frame) // 90)
                height, width = picture.shape[:2]
                size = SIZE or _size_of(height, width, frames=count)
                pictures.append(resized(np.ascontiguousarray(picture)[None], size)[0])
            if len(pictures) == len(wanted):
                break
    return np.stack(pictures), video_metadata(clip_s[chosen], end_s - start_s), clip_s[chosen]


def _size_of(height: int, width: int, *, frames: int) -> tuple[int, int]:
    return target_size(
        height,
        width,
        frames=frames,
        factor=FACTOR,
        min_pixels=VIDEO.min_pixels,
        max_pixels=VIDEO.max_pixels,
        total_pixels=VIDEO.total_pixels,
    )


def frames_module(video: VideoConfig, processor: ProcessorMixin) -> str:
    """The source of `frames.py` for a model that was trained on such clips."""
    options = frame_options(processor)
    size = {"factor": options["factor"], "side": options["side"]}
    fitted = of_one_size(video, **size)
    left_out = (*VIDEO_MEANS, "frame_size")  # for which SIZE stands
    trained = {key: value for key, value in asdict(fitted).items() if key not in left_out}
    fields = "".join(f"    {key}: Any = {value!r}\n" for key, value in trained.items())
    constants = [
        f'@dataclass\nclass VideoConfig:\n    """As it was trained."""\n\n{fields}',
        f"VIDEO = VideoConfig()\nFACTOR = {options['factor']}\nTEMPORAL_PATCH = {options['temporal_patch']}\n"
        f"SIZE = {fixed_size(video, **size)}\n",
    ]
    policies = "".join(f"    {name!r}: {policy.__name__},\n" for name, policy in frame_sampling.POLICIES.items())
    parts = [
        read_video,
        _size_of,
        video_metadata,
        rotation_of,
        resized,
        choose_frames,
        *frame_sampling.POLICIES.values(),
    ]
    parts += [frame_sampling.nearest, frame_sampling.even_frames, frame_sampling.fill_gaps, padding, target_size]
    # What the above call: a function that is missing here fails in the test that runs frames.py.
    parts += [frame_sampling.policy_named, frame_sampling.frame_cap, frame_sampling.whole_patches]
    if family_of(processor).needs_position_ids:
        parts += [mrope_positions, run_positions]
    sources = [*constants, *map(inspect.getsource, parts), f"POLICIES = {{\n{policies}}}\n"]
    return "\n\n".join([HEADER, *sources])


def set_processor_sampling(processor: ProcessorMixin, video: VideoConfig) -> None:
    """Sets the processor to sample and size video files as closely to training as its settings allow.

    What they cannot express: its grid runs from the first frame to the last (vtg's from 0, in steps of 1/fps);
    keyframes and random frames become evenly spaced ones; a Qwen3-VL processor enlarges small frames only until all of
    them together have `min_pixels`; a Qwen2.5-VL processor tells the model an average rate; frames of one size
    (`video.frame_size`) keep their shape, with as many pixels.
    """
    target: Any = processor.video_processor  # type: ignore[attr-defined]
    options = frame_options(processor)
    size = fixed_size(video, factor=options["factor"], side=options["side"])
    video = of_one_size(video, factor=options["factor"], side=options["side"])
    if size is not None:
        video = replace(video, min_pixels=size[0] * size[1], max_pixels=size[0] * size[1])
    by_rate = video.sampling in ("fps", "molmo2") and video.fps > 0
    target.do_sample_frames, target.do_resize, target.num_frames = True, True, None
    target.fps = video.fps if by_rate else EVERY_FRAME
    target.min_frames, target.max_frames = video.min_frames, video.max_frames
    target.cap_pixels_per_frame = True
    limits = PixelLimits(
        min_pixels=min(video.min_pixels, int(video.max_pixels / CAP_MARGIN)),
        max_pixels=video.max_pixels,
        total_pixels=video.total_pixels,
        token_pixels=options["factor"] ** 2,
        temporal_patch=options["temporal_patch"],
        max_frames=video.max_frames,
        fps=target.fps,
    )
    for name, value in family_of(processor).processor_limits(limits).items():
        setattr(target, name, value)


def set_greedy_generation(generation: GenerationConfig, processor: ProcessorMixin) -> None:
    """Sets `generate` of the saved model to what vtg does: greedy, up to the end of the turn, in text alone."""
    tokenizer: Any = processor.tokenizer  # type: ignore[attr-defined]
    generation.do_sample, generation.num_beams = False, 1
    generation.temperature = generation.top_p = generation.top_k = None
    generation.eos_token_id = turn_end_id(processor)
    generation.pad_token_id = tokenizer.pad_token_id
    # A sampled vision token would be taken for pixels that are not there.
    generation.suppress_tokens = vision_token_ids(processor)
