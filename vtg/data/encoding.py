"""A conversation about a Clip → what a model reads. The one such function: training, rollouts, loss,
evaluation, prediction and serving all call `encode`.

What ties the tokens to time, by the model's family (`vtg.models.families`):

- text, as in Qwen3-VL: before every temporal patch stands `<1.2 seconds>`, the mean time of its two frames;
- the same before every frame, as in Molmo2: `1.5 <frame_start>`;
- M-RoPE temporal ids, as in Qwen2.5-VL, `tokens_per_second` of them a second: the time of a patch's first frame.

Both are made here from `clip.timestamps_s`, so they are right for trimmed clips and variable frame rates, and nothing
downstream samples or resizes the frames again.

A still picture is told no time (`vtg.data.still_encoding`).

Padding frames (`clip.pad`) are there in pixels and tokens, so that shapes are those of a longer clip, and nowhere else:
what is attended to, its positions and its labels are those of the clip without padding.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jinja2 import TemplateError
from transformers import ProcessorMixin
from transformers.video_utils import VideoMetadata

from vtg.data.seen_clip import TICKET, SeenClip, without_video_processing
from vtg.data.still_encoding import still_inputs
from vtg.errors import SampleError
from vtg.models.families import family_of
from vtg.models.families.family import FrameOptions
from vtg.models.families.token_cost import TokenCost
from vtg.video.clip import Clip

IGNORE_INDEX = -100
"""The label of a token that carries no loss, as in `torch.nn.functional.cross_entropy`."""

ITEM = "item"
"""A feature that batches for training have until they are made: of which of its items each label is; 0 elsewhere."""

Features = dict[str, torch.Tensor]


def vision_token_ids(processor: ProcessorMixin) -> list[int]:
    """The ids of the tokens that stand for pixels: a model must not write them."""
    tokenizer = processor.tokenizer  # type: ignore[attr-defined]
    return [tokenizer.convert_tokens_to_ids(token) for token in family_of(processor).vision_tokens]


def turn_end_id(processor: ProcessorMixin) -> int:
    """The id of the token that ends an answer."""
    return processor.tokenizer.convert_tokens_to_ids(family_of(processor).turn_end)  # type: ignore[attr-defined]


def video_end(features: Features) -> int:
    """How many tokens of a conversation there are up to and with the last one of its video."""
    return int(features["mm_token_type_ids"].nonzero()[-1, 0]) + 1


def patch_factor(processor: ProcessorMixin) -> int:
    """Pixels a side of one vision token: frame heights and widths are multiples of it (32, 28 or 42)."""
    return frame_options(processor)["factor"]


def frame_options(processor: ProcessorMixin) -> FrameOptions:
    """How frames are made for this processor's model: keywords of `load_clip`, and of what plans clips."""
    return family_of(processor).frame_options(processor.video_processor)  # type: ignore[attr-defined]


def token_cost(processor: ProcessorMixin) -> TokenCost:
    """What clips cost this processor's model in tokens."""
    return replace(family_of(processor).token_cost, **frame_options(processor))


def encode(
    processor: ProcessorMixin,
    messages: list[dict[str, Any]],
    clip: Clip,
    *,
    tokens_per_second: float = 2.0,
    max_length: int | None = None,
) -> Features:
    """One conversation as tensors without a batch dimension.

    A conversation that ends with the user's turn gets the generation prompt appended; one that ends with the
    assistant's is for training, and `labels` keep the assistant's turns (each with its end) and nothing else.

    Args:
        messages: chat messages; exactly one content part of type "video" stands for the clip.
        clip: frames (T, C, H, W) uint8, H and W multiples of `patch_factor(processor)`, or the one size of the model.
        tokens_per_second: of Qwen2.5-VL's vision config.
        max_length: the most tokens the model takes.

    Returns:
        input_ids, labels, attention_mask, mm_token_type_ids (L,) int64; position_ids (4, L) int64: text, temporal,
        height, width, or (L,) in families without M-RoPE; pixel_values_videos (patches, features) float32;
        video_grid_thw (1, 3) int64, or what else the family calls its `vision_inputs`. The mask is 0 on the tokens of
        temporal patches that hold nothing but padding frames, and 1 elsewhere. A `SeenClip` has what the tower made of
        it in place of pixels, and its TICKET.

    Raises:
        SampleError: text that holds special tokens, or on which the chat template fails; more than `max_length` tokens
            (nothing is ever truncated).
    """
    family, text = family_of(processor), checked_text(processor, messages, clip.path)
    frames, timestamps_s, is_real = clip.padded()
    options = frame_options(processor)
    # A processor of one size would resize other frames itself, without a word.
    assert options["side"] is None or frames.shape[2:] == (options["side"],) * 2, frames.shape
    seen = clip.inputs if isinstance(clip, SeenClip) else None
    # Any: its signature lists no keywords of the video processor.
    call: Any = processor if seen is None else without_video_processing(processor, seen)
    if clip.is_still:
        out = still_inputs(processor, text, torch.from_numpy(frames), path=clip.path)
    else:
        out = call(
            text=[text],
            videos=[torch.from_numpy(frames)],
            video_metadata=[video_metadata(timestamps_s, clip.duration_s)],
            return_tensors="pt",
            **frames_as_they_are(processor),
        )
    ids, kinds, grid = out["input_ids"][0], out["mm_token_type_ids"][0].long(), out[family.vision_inputs[-1]]
    per_patch = 1 if clip.is_still else options["temporal_patch"]
    real_times_s = timestamps_s[::per_patch][is_real[::per_patch]]  # a patch with a real frame begins with one
    attended = padding_mask(kinds, patches=int(grid[0, 0]), real_patches=len(real_times_s))
    positions = torch.zeros(4 if family.mrope else 1, len(ids), dtype=torch.int64)
    if family.mrope:
        positions[:, attended] = mrope_positions(
            kinds[attended],
            grid[0],
            merge_size=family.grid_merge,
            patch_times_s=torch.from_numpy(real_times_s),
            tokens_per_second=tokens_per_second if family.needs_position_ids and not clip.is_still else None,
        )
    else:
        positions[:, attended] = torch.arange(int(attended.sum()))
    features = {
        "input_ids": ids,
        "labels": answer_labels(processor, ids),
        "attention_mask": attended.long(),
        "mm_token_type_ids": kinds,
        "position_ids": positions if family.mrope else positions[0],
        **{name: out[name] for name in family.vision_inputs},
    }
    if isinstance(clip, SeenClip):
        features[TICKET] = clip.ticket
    check_length(features, clip, max_length)
    return features


def checked_text(processor: ProcessorMixin, messages: list[dict[str, Any]], path: str) -> str:
    """`conversation_text` of messages about what is at `path`. Raises SampleError as `encode` does."""
    _refuse_special_tokens(processor, messages)
    try:
        return conversation_text(processor, messages)
    except TemplateError as error:
        raise SampleError(f"{path}: the model's chat template fails on its conversation ({error})") from error


def check_length(features: Features, clip: Clip, max_length: int | None) -> None:
    """Raises SampleError for a conversation of more than `max_length` tokens."""
    ids, kinds = features["input_ids"], features["mm_token_type_ids"]
    if max_length is not None and len(ids) > max_length:
        raise SampleError(
            f"{clip.path}: {len(ids)} tokens ({int((kinds > 0).sum())} of them vision), but the limit is {max_length} "
            "(model.max_length); lower video.max_frames, video.max_pixels or video.total_pixels, or raise the limit"
        )


def conversation_text(processor: ProcessorMixin, messages: list[dict[str, Any]]) -> str:
    """The text of a conversation with `<video>` unexpanded: one that ends with the user's turn gets the generation
    prompt, one that ends with the assistant's has that prompt before the answer, and the end of the turn after it.
    """
    family, last = family_of(processor), messages[-1]
    training = last["role"] == "assistant"
    asked = messages[:-1] if training and not family.ends_answer else messages
    text = processor.apply_chat_template(
        asked, tokenize=False, add_generation_prompt=asked[-1]["role"] != "assistant", **family.template_options
    )
    if asked is messages:
        return text
    return text + "".join(part["text"] for part in last["content"]) + family.turn_end


def answer_labels(processor: ProcessorMixin, ids: torch.Tensor) -> torch.Tensor:
    """Labels (L,) of expanded token ids (L,): every assistant turn up to and with its end, else -100."""
    tokenizer, family = processor.tokenizer, family_of(processor)  # type: ignore[attr-defined]
    header, thought = (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in (family.assistant_start, family.empty_thought)
    )
    end = turn_end_id(processor)
    labels = torch.full_like(ids, IGNORE_INDEX)
    listed = ids.tolist()
    for at in (ids == header[0]).nonzero()[:, 0].tolist():
        start = at + len(header)
        if listed[at:start] == header and end in listed[start:]:
            start += len(thought) * (listed[start : start + len(thought)] == thought)
            stop = listed.index(end, start) + 1
            labels[start:stop] = ids[start:stop]
    return labels


def padding_mask(kinds: torch.Tensor, *, patches: int, real_patches: int) -> torch.Tensor:
    """Which tokens (L,) bool are attended to: all but those of the temporal patches after the first `real_patches`.

    What stands between two patches (Qwen3-VL: the end of one's vision, and the stamp and the start of the next) goes
    with the later one, so the tokens that are left are, in their order, those of the clip without padding.

    Args:
        kinds: (L,) 0 for text, more for the tokens of one video, the same number for each of its `patches`.
    """
    vision = kinds.nonzero()[:, 0]
    attended = torch.ones(len(kinds), dtype=torch.bool)
    last_real = vision[len(vision) // patches * real_patches - 1]
    attended[last_real + 1 : vision[-1] + 1] = False
    return attended


def mrope_positions(
    kinds: torch.Tensor,
    grid: torch.Tensor,
    *,
    merge_size: int,
    patch_times_s: torch.Tensor,
    tokens_per_second: float | None,
) -> torch.Tensor:
    """M-RoPE positions (4, L) of one sequence with one video: text, temporal, height and width ids.

    Equal to the model's own `get_rope_index` for a clip of constant frame rate that starts with its first frame (times
    between two ids go to the nearest here, to the lower there); right for every other clip as well (transformers knows
    only an average rate).

    Args:
        kinds: (L,) 0 for text, 2 for video tokens.
        grid: (3,) temporal patches and patch rows and columns before merging; only the last two are read.
        patch_times_s: (temporal patches,) the time of each.
        tokens_per_second: temporal ids a second (Qwen2.5-VL); None where every temporal patch stands between text
            that tells its time (Qwen3-VL), and so has temporal id zero.
    """
    _, rows, columns = (int(size) for size in grid)
    rows, columns = rows // merge_size, columns // merge_size

    def axes_of(length: int) -> tuple[torch.Tensor, int, int]:
        if tokens_per_second is None:
            return torch.zeros(length // (rows * columns)), rows, columns
        return torch.round(patch_times_s * tokens_per_second), rows, columns

    return run_positions(kinds, axes_of)


def run_positions(kinds: torch.Tensor, axes_of: Callable[[int], tuple[torch.Tensor, int, int]]) -> torch.Tensor:
    """M-RoPE positions (4, L) of text and of vision tokens in runs between it.

    Args:
        kinds: (L,) 0 for text.
        axes_of: of each run of other tokens, by its length and in their order: temporal ids (t,), rows and columns.
    """
    runs = torch.unique_consecutive(kinds, return_counts=True)
    pieces, start = [], 0
    for kind, length in zip(*(part.tolist() for part in runs), strict=True):
        if kind == 0:
            pieces.append(torch.arange(length).expand(3, -1) + start)
            start += length
            continue
        temporal, rows, columns = axes_of(length)
        axes = torch.meshgrid(temporal.long(), torch.arange(rows), torch.arange(columns), indexing="ij")
        pieces.append(torch.stack(axes).reshape(3, -1) + start)
        start += max(rows, columns)
    positions = torch.cat(pieces, dim=1)
    return torch.cat([torch.arange(len(kinds))[None], positions])


def frames_as_they_are(processor: ProcessorMixin) -> dict[str, bool]:
    """What a call of the processor is told so that it neither samples nor resizes frames again."""
    cap = {"cap_pixels_per_frame": False} if "cap_pixels_per_frame" in _known_settings(processor) else {}
    return {"do_sample_frames": False, "do_resize": False, **cap}


def video_metadata(timestamps_s: np.ndarray, duration_s: float) -> VideoMetadata:
    """What the processor, which divides indices by fps, takes the true times of any clip from: milliseconds, 1000."""
    return VideoMetadata(
        total_num_frames=max(1, round(duration_s * 1000)),
        fps=1000.0,
        frames_indices=[round(time_s * 1000) for time_s in timestamps_s.tolist()],
        duration=duration_s,
    )


def _known_settings(processor: ProcessorMixin) -> tuple[str, ...]:
    return tuple(processor.video_processor.valid_kwargs.__annotations__)  # type: ignore[attr-defined]


def _refuse_special_tokens(processor: ProcessorMixin, messages: list[dict[str, Any]]) -> None:
    special = processor.tokenizer.all_special_tokens  # type: ignore[attr-defined]
    for message in messages:
        for part in message["content"]:
            for token in special if part["type"] == "text" else ():
                if token in part["text"]:
                    raise SampleError(
                        f"the text {part['text']!r} holds the special token {token}; remove it from the row"
                    )
