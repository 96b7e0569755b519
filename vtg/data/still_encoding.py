"""Still pictures in place of a clip → what a model reads, under the names of a clip's.

Qwen-VL sees a picture as it does a temporal patch of a clip, but for the text that tells a time: its tower repeats the
picture to fill the patch, and looks at each patch alone. So pixels, grid and tokens are those of pictures, and named as
a video's, and whatever comes after (batches, packing, shared prompts, answers) need not know of pictures.
"""

from typing import Any

import torch

from vtg.errors import SampleError
from vtg.models.families import family_of

# What Qwen's chat templates write around either.
START, END = "<|vision_start|>", "<|vision_end|>"


def still_inputs(processor: Any, text: str, frames: torch.Tensor, *, path: str) -> dict[str, torch.Tensor]:
    """What the processor would make of a conversation about a clip, if it told no time.

    Args:
        text: a conversation with the token of a video, unexpanded.
        frames: (T, 3, H, W) uint8, H and W multiples of the patch factor.

    Returns:
        input_ids, mm_token_type_ids (1, L) int64; pixel_values_videos (patches, features); video_grid_thw (1, 3), with
        a temporal patch for each picture.

    Raises:
        SampleError: models of this family read pictures otherwise.
    """
    family = family_of(processor)
    if not family.stills_as_clips:
        raise SampleError(
            f"{path}: {family.title} reads still pictures otherwise than clips; train on it another model"
        )
    video, picture = (f"{START}{token}{END}" for token in (processor.video_token, processor.image_token))
    assert text.count(video) == 1, text
    out = processor(
        text=[text.replace(video, picture * len(frames))],
        images=list(frames),
        do_resize=False,
        return_mm_token_type_ids=True,
        return_tensors="pt",
    )
    ids, kinds = out["input_ids"], out["mm_token_type_ids"]
    pixels, grid = family.vision_inputs
    _, rows, columns = out["image_grid_thw"][0].tolist()
    return {
        "input_ids": torch.where(ids == processor.image_token_id, processor.video_token_id, ids),
        "mm_token_type_ids": torch.where(kinds > 0, 2, 0),  # of video
        pixels: out["pixel_values"],
        grid: torch.tensor([[len(frames), rows, columns]]),
    }
